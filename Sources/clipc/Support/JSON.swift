import Foundation

/// A JSON value whose members keep their order.
indirect enum JSON {
  case object([(String, JSON)])
  case array([JSON])
  case text(String)
  case integer(Int)
  case number(Double)
  case flag(Bool)
  case null
  /// Text that is JSON already.
  case encoded(String)

  /// The value on one line.
  var text: String {
    switch self {
    case .object(let members):
      "{" + members.map { "\(Self.quoted($0.0)): \($0.1.text)" }.joined(separator: ", ") + "}"
    case .array(let elements): "[" + elements.map(\.text).joined(separator: ", ") + "]"
    case .text(let text): Self.quoted(text)
    case .integer(let value): String(value)
    case .number(let value): value.isFinite ? String(value) : "null"
    case .flag(let value): value ? "true" : "false"
    case .null: "null"
    case .encoded(let text): text
    }
  }

  private static func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\t": result += "\\t"
      case "\r": result += "\\r"
      case _ where scalar.value < 0x20 || scalar.value == 0x7F:
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }

  /// `value` with the names of its members in snake case and sorted.
  ///
  /// - Throws: what its encoding does, such as for a number that is not finite.
  static func encoding(_ value: some Encodable) throws -> JSON {
    let encoder = JSONEncoder()
    encoder.keyEncodingStrategy = .convertToSnakeCase
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return .encoded(String(decoding: try encoder.encode(value), as: UTF8.self))
  }

  /// `value` rounded to `digits` decimals.
  static func rounded(_ value: Double, _ digits: Int) -> JSON {
    var scale = 1.0
    for _ in 0..<digits { scale *= 10 }
    return .number((value * scale).rounded() / scale)
  }
}
