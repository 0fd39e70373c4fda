import Foundation
import TestSupport
import Testing

/// The built program, run as a process of its own.
struct Program {
  /// How a run ended and what it said.
  struct Answer {
    let code: Int32
    let output: String
    let errors: String

    /// The one JSON object on standard output.
    func json() throws -> [String: Any] {
      let value = try JSONSerialization.jsonObject(with: Data(output.utf8))
      return try #require(value as? [String: Any])
    }
  }

  /// The demo's folder.
  static let demo = Shared.packageRoot.appendingPathComponent("calibration/demo").path

  /// The program beside the test runner.
  private static let path = Bundle.main.bundleURL.appendingPathComponent("clipc").path

  /// Runs `clipc` with `arguments`; `limit` bounds the bytes of any file that it writes.
  static func run(_ arguments: [String], fileLimit limit: Int? = nil) throws -> Answer {
    let process = Process()
    if let limit {
      process.executableURL = URL(fileURLWithPath: "/bin/sh")
      let script = "ulimit -f \(limit / 512); exec \"$0\" \"$@\""
      process.arguments = ["-c", script, path] + arguments
    } else {
      process.executableURL = URL(fileURLWithPath: path)
      process.arguments = arguments
    }
    let (output, errors) = (Pipe(), Pipe())
    process.standardOutput = output
    process.standardError = errors
    process.standardInput = FileHandle.nullDevice
    try process.run()
    // Standard error is short and fits its pipe; standard output is read to its end first.
    let said = output.fileHandleForReading.readDataToEndOfFile()
    let complained = errors.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return Answer(
      code: process.terminationReason == .exit ? process.terminationStatus : -1,
      output: String(decoding: said, as: UTF8.self),
      errors: String(decoding: complained, as: UTF8.self))
  }

  /// Starts `clipc` with `arguments` and goes on; what it says is dropped.
  static func start(_ arguments: [String]) throws -> Process {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: path)
    process.arguments = arguments
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    process.standardInput = FileHandle.nullDevice
    try process.run()
    return process
  }

  /// Runs `clipc` with `arguments` and `--json`, which must succeed.
  static func json(_ arguments: String...) throws -> [String: Any] {
    let answer = try run(arguments + ["--json"])
    #expect(answer.code == 0, "\(arguments): \(answer.errors)")
    return try answer.json()
  }
}

/// A folder that goes away with the test.
final class Scratch {
  let folder: URL

  init() throws {
    folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("clipc-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(at: folder) }

  /// The path of `name` in the folder.
  func path(_ name: String) -> String { folder.appendingPathComponent(name).path }

  /// The names of what is in the folder.
  func names() throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
  }

  /// Writes `text` to a file called `name` and returns its path.
  func file(_ name: String, _ text: String) throws -> String {
    try Data(text.utf8).write(to: folder.appendingPathComponent(name))
    return path(name)
  }
}
