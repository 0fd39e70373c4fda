import Foundation
import Yams

/// Options of a command in a file: a YAML mapping from the names of options to their values.
///
/// A list gives its elements with commas between, `true` a flag, `false` nothing. What the command
/// line says beside the recipe goes before what the recipe says.
enum Recipe {
  /// `arguments`, the name of the command first, with the options of the file that `--recipe` names
  /// in place of it.
  ///
  /// - Throws: ``Failure`` when the file is missing or no such mapping.
  static func expanding(_ arguments: [String]) throws -> [String] {
    var rest = arguments
    let ahead = rest.prefix { $0 != "--" }
    guard let place = ahead.firstIndex(where: { $0 == "--recipe" || $0.hasPrefix("--recipe=") })
    else { return arguments }
    var path = String(rest[place].dropFirst("--recipe=".count))
    if rest[place] == "--recipe" {
      guard place + 1 < rest.count else {
        throw Failure(.usage, "--recipe needs the name of a file")
      }
      path = rest.remove(at: place + 1)
    }
    rest.remove(at: place)
    guard let command = rest.first else { throw Failure(.usage, "--recipe needs a command") }
    // A later value of an option replaces an earlier one.
    return [command] + (try options(path)) + rest.dropFirst()
  }

  private static func options(_ path: String) throws -> [String] {
    let bytes = try InputFile.read(path, limit: 1 << 20)
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw Failure(.malformedInput, "\(path): expected YAML in UTF-8, found other bytes")
    }
    let loaded: Any?
    do { loaded = try Yams.load(yaml: text) } catch {
      let reason = "\(error)".split(separator: "\n").first ?? "no YAML"
      throw Failure(.malformedInput, "\(path): expected YAML, found \(reason)")
    }
    guard let mapping = loaded as? [String: Any] else {
      throw Failure(.malformedInput, "\(path): expected a mapping from options to values")
    }
    return try mapping.sorted { $0.key < $1.key }.flatMap { name, value -> [String] in
      guard name != "recipe", !name.isEmpty,
        name.allSatisfy({ $0.isLowercase || $0.isNumber || $0 == "-" })
      else { throw Failure(.malformedInput, "\(path): \(name) is no name of an option") }
      switch value {
      case let flag as Bool: return flag ? ["--\(name)"] : []
      case let list as [Any] where name == "exclude":
        // Each is an option of its own.
        return try list.flatMap { ["--\(name)", try word($0, name, path)] }
      case let list as [Any]:
        return ["--\(name)", try list.map { try word($0, name, path) }.joined(separator: ",")]
      default: return ["--\(name)", try word(value, name, path)]
      }
    }
  }

  private static func word(_ value: Any, _ name: String, _ path: String) throws -> String {
    switch value {
    case let text as String: return text
    case let number as Int: return String(number)
    case let number as Double: return String(number)
    default:
      throw Failure(
        .malformedInput, "\(path): \(name) must be a word, a number, a truth value or a list")
    }
  }
}
