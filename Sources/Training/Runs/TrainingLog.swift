import Foundation
import Glibc

/// Why a training log cannot be written or read.
package enum TrainingLogError: Error, Hashable, CustomStringConvertible {
  /// The system refused `action`.
  case file(path: String, action: String, reason: String)
  /// Line `line`, counted from 1, is none that a ``TrainingLog`` wrote.
  case foreignLine(path: String, line: Int)

  package var description: String {
    switch self {
    case .file(let path, let action, let reason): "cannot \(action) \(path): \(reason)"
    case .foreignLine(let path, let line): "line \(line) of \(path) is no line of a training log"
    }
  }
}

/// A value in a line of a ``TrainingLog``.
package enum LogValue: Hashable, Sendable {
  case integer(Int)
  /// A number; one that is not finite is written as `null`.
  case number(Double)
  case text(String)
  case flag(Bool)

  /// The value in JSON.
  var json: String {
    switch self {
    case .integer(let value): String(value)
    case .number(let value): value.isFinite ? value.description : "null"
    case .text(let value): quoted(value)
    case .flag(let value): value ? "true" : "false"
    }
  }
}

/// A file of JSON objects, one a line, each beginning with the step that it belongs to.
///
/// Every line is handed to the system at once, so that an interrupted run loses at most the line it
/// was writing. A run that resumes cuts off the steps that it is going to repeat.
package final class TrainingLog {
  /// The file.
  package let path: String
  private let file: OpenFile
  private var lastStep = 0

  /// Opens or creates the log at `path` for a run whose next step is `step`.
  ///
  /// Lines of that step and later ones are removed, as is a last line that was not finished.
  /// - Throws: What the system refused, or a line that is not a log's: the file then stays as it is.
  package init(path: String, resumingAt step: Int = 0) throws(TrainingLogError) {
    self.path = path
    file = try OpenFile(path, O_RDWR | O_CREAT | O_APPEND)
    var end = 0
    var isKept = true
    for (index, line) in completeLines(try file.bytes()).enumerated() {
      guard let found = stepOfLine(line) else {
        throw .foreignLine(path: path, line: index + 1)
      }
      isKept = isKept && found < step
      if isKept { (lastStep, end) = (found, line.endIndex + 1) }
    }
    try file.shorten(to: end)
  }

  /// Writes a line of `step` with `fields` in their order.
  ///
  /// - Precondition: steps do not go back, and the fields' names differ from each other and from
  ///   `step`.
  package func append(
    step: Int, _ fields: [(name: String, value: LogValue)]
  ) throws(TrainingLogError) {
    precondition(step >= lastStep, "step \(step) after step \(lastStep)")
    precondition(Set(fields.map(\.name) + ["step"]).count == fields.count + 1, "a name twice")
    lastStep = step
    var line = "{\"step\":\(step)"
    for (name, value) in fields { line += ",\(quoted(name)):\(value.json)" }
    line += "}\n"
    try file.append(line)
  }

  /// The names in the last line of the log at `path`, numbers in them ascending; none where it is
  /// empty.
  package static func names(in path: String) throws(TrainingLogError) -> [String] {
    let file = try OpenFile(path, O_RDONLY)
    let lines = completeLines(try file.bytes())
    guard let last = lines.last else { return [] }
    guard stepOfLine(last) != nil,
      let object = try? JSONSerialization.jsonObject(with: Data(last)) as? [String: Any]
    else { throw .foreignLine(path: path, line: lines.count) }
    return object.keys.sorted { $0.compare($1, options: .numeric) == .orderedAscending }
  }

  /// The numbers called `name` in the log at `path` and their steps, in order.
  ///
  /// Lines without that name, with `null`, or not finished are left out.
  package static func points(
    of name: String, in path: String
  ) throws(TrainingLogError) -> [CurvePoint] {
    let file = try OpenFile(path, O_RDONLY)
    var points: [CurvePoint] = []
    for (index, line) in completeLines(try file.bytes()).enumerated() {
      guard let step = stepOfLine(line),
        let object = try? JSONSerialization.jsonObject(with: Data(line)) as? [String: Any]
      else { throw .foreignLine(path: path, line: index + 1) }
      if let number = object[name] as? NSNumber {
        points.append(CurvePoint(step: step, value: number.doubleValue))
      }
    }
    return points
  }
}

/// The lines that end, without their ends.
private func completeLines(_ bytes: [UInt8]) -> ArraySlice<ArraySlice<UInt8>> {
  bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).dropLast()
}

/// The step that a line begins with; nil if it is not a line of a log.
private func stepOfLine(_ line: ArraySlice<UInt8>) -> Int? {
  let start = Array("{\"step\":".utf8)
  guard line.starts(with: start), line.last == UInt8(ascii: "}") else { return nil }
  let rest = line.dropFirst(start.count)
  let digits = rest.prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
  guard let next = rest.dropFirst(digits.count).first,
    next == UInt8(ascii: ",") || next == UInt8(ascii: "}")
  else { return nil }
  return Int(String(decoding: digits, as: UTF8.self))
}

/// A file that is open as long as the object lives.
private final class OpenFile {
  private let path: String
  private let descriptor: Int32

  init(_ path: String, _ flags: Int32) throws(TrainingLogError) {
    self.path = path
    descriptor = open(path, flags | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw Self.failure("open", path) }
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  func bytes() throws(TrainingLogError) -> [UInt8] {
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = buffer.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { throw Self.failure("read", path) }
      if count == 0 { return bytes }
      bytes += buffer[..<count]
    }
  }

  func shorten(to count: Int) throws(TrainingLogError) {
    guard ftruncate(descriptor, off_t(count)) == 0 else { throw Self.failure("shorten", path) }
  }

  func append(_ text: String) throws(TrainingLogError) {
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { throw Self.failure("write", path) }
      rest = rest.dropFirst(count)
    }
  }

  private static func failure(_ action: String, _ path: String) -> TrainingLogError {
    .file(path: path, action: action, reason: String(cString: strerror(errno)))
  }
}

/// `text` as a string of JSON.
private func quoted(_ text: String) -> String {
  var result = "\""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "\"": result += "\\\""
    case "\\": result += "\\\\"
    case "\n": result += "\\n"
    case "\t": result += "\\t"
    case _ where scalar.value < 0x20:
      let digits = String(scalar.value, radix: 16)
      result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
    default: result.unicodeScalars.append(scalar)
    }
  }
  return result + "\""
}
