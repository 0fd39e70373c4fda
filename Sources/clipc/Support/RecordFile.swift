import Checkpoints
import Foundation
import GraphIR

/// Numbers of unfinished work in a file, a line each, for the same work to go on from.
///
/// The first line says what work it is; where it says something else the file is begun anew. Lines
/// are appended as they come, and a torn last line is passed over.
final class RecordFile: WorkRecords {
  private let path: String
  private let work: String
  private var known: [String: [Double]] = [:]
  private var handle: FileHandle?
  /// Whether the file holds something else than records.
  private(set) var isForeign = false
  /// How many records an earlier run left.
  private(set) var resumedCount = 0

  private struct Line: Codable {
    let key: String
    let values: [Double]
  }

  /// Opens the records of `work` at `path`; nothing is written before the first record.
  init(path: String, work: String) {
    self.path = path
    self.work = work
    guard let text = try? String(contentsOfFile: path, encoding: .utf8) else { return }
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    guard let first = lines.first else { return }
    isForeign = !first.hasPrefix("clipc ")
    guard first == work else { return }
    for line in lines.dropFirst() {
      guard let record = try? JSONDecoder().decode(Line.self, from: Data(line.utf8)) else {
        continue
      }
      known[record.key] = record.values
    }
    resumedCount = known.count
  }

  func values(for key: String) -> [Double]? { known[key] }

  func keep(_ values: [Double], for key: String) throws {
    known[key] = values
    // Such numbers have no place in JSON; they are quickly worked out again.
    guard values.allSatisfy(\.isFinite) else { return }
    let line = try JSONEncoder().encode(Line(key: key, values: values))
    do {
      try opened().write(contentsOf: line + [0x0A])
    } catch let error as CheckpointError {
      throw error
    } catch {
      throw Failure(.output, "\(path): cannot be written: \(error.localizedDescription)")
    }
  }

  /// Removes the file: the work is done.
  func finish() { try? FileManager.default.removeItem(atPath: path) }

  private func opened() throws -> FileHandle {
    if let handle { return handle }
    // Written anew as a whole, so that a line torn by the end of an earlier run does no harm.
    try FileReplacement.write(to: path) { sink in
      var text = work + "\n"
      for (key, values) in known.sorted(by: { $0.key < $1.key }) where values.allSatisfy(\.isFinite)
      {
        let line = try JSONEncoder().encode(Line(key: key, values: values))
        text += String(decoding: line, as: UTF8.self) + "\n"
      }
      try Array(text.utf8).withUnsafeBytes { try sink($0) }
    }
    guard let made = FileHandle(forUpdatingAtPath: path) else {
      throw Failure(.output, "\(path): cannot be written")
    }
    try made.seekToEnd()
    handle = made
    return made
  }
}
