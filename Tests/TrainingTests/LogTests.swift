import Foundation
import Testing
import Training

@Suite("Training logs") struct LogTests {
  /// Runs `body` with the path of a file that does not exist, in a folder of its own.
  private func withPath(_ body: (String) throws -> Void) throws {
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("training-log-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try body(folder.appendingPathComponent("log.jsonl").path)
  }

  private func text(_ path: String) throws -> String {
    try String(contentsOfFile: path, encoding: .utf8)
  }

  /// Writes the lines of `steps`, with an evaluation after every third one.
  private func write(_ steps: Range<Int>, _ path: String) throws {
    let log = try TrainingLog(path: path, resumingAt: steps.lowerBound)
    for step in steps {
      try log.append(step: step, [("loss", .number(1 / Double(step + 1)))])
      if step % 3 == 2 { try log.append(step: step, [("accuracy", .number(0.5))]) }
    }
  }

  @Test("A line is an object that a JSON parser reads back")
  func line() throws {
    try withPath { path in
      let words = "a \"quote\", a \\, a tab\t, a line\n, a bell\u{7}, an \u{e9}"
      try TrainingLog(path: path).append(
        step: 12,
        [
          ("loss", .number(0.1)), ("rate", .number(1e-5)), ("items", .integer(-3)),
          ("note", .text(words)), ("skipped", .flag(true)), ("norm", .number(.nan)),
        ])
      let line = try text(path)
      #expect(line.hasPrefix("{\"step\":12,\"loss\":0.1,\"rate\":1e-05,\"items\":-3,"))
      #expect(line.hasSuffix("}\n") && line.filter { $0 == "\n" }.count == 1)
      let parsed = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
      let object = try #require(parsed)
      #expect(object.count == 7)
      #expect(object["step"] as? Int == 12 && object["items"] as? Int == -3)
      #expect(object["loss"] as? Double == 0.1 && object["rate"] as? Double == 1e-5)
      #expect(object["note"] as? String == words && object["skipped"] as? Bool == true)
      #expect(object["norm"] is NSNull)
    }
  }

  @Test("An interrupted and resumed log has each step once", arguments: [0, 1, 4, 9, 10])
  func resuming(_ step: Int) throws {
    try withPath { path in
      try withPath { whole in
        try write(0..<20, whole)
        try write(0..<10, path)
        try write(step..<20, path)
        #expect(try text(path) == text(whole))
      }
    }
  }

  @Test("A line that was not finished is dropped, the ones before it stay")
  func tornLine() throws {
    try withPath { path in
      try write(0..<5, path)
      let whole = try text(path)
      for cut in 1..<20 {
        try String(whole.dropLast(cut)).write(toFile: path, atomically: false, encoding: .utf8)
        _ = try TrainingLog(path: path, resumingAt: 9)
        let kept = try text(path)
        #expect(kept == "" || kept.hasSuffix("}\n"))
        #expect(whole.hasPrefix(kept) && kept.utf8.count < whole.utf8.count)
        #expect(whole.utf8.count - kept.utf8.count < cut + 40)
      }
    }
  }

  @Test("A file that is no log is refused and stays", arguments: 0..<6)
  func foreignFile(_ index: Int) throws {
    let lines = ["hello", "", "{\"loss\":1}", "{\"step\":x}", "{\"step\":1", "{\"step\":-1}"]
    let foreign = lines[index]
    try withPath { path in
      try write(0..<2, path)
      let contents = try text(path) + foreign + "\n"
      try contents.write(toFile: path, atomically: false, encoding: .utf8)
      for step in [0, 1, 7] {
        #expect(throws: TrainingLogError.foreignLine(path: path, line: 3)) {
          try TrainingLog(path: path, resumingAt: step)
        }
      }
      #expect(try text(path) == contents)
    }
  }

  @Test("A path that cannot be opened says so")
  func badPath() {
    #expect(throws: TrainingLogError.self) { try TrainingLog(path: "/nonexistent/folder/log") }
    #expect(throws: TrainingLogError.self) {
      try TrainingLog.points(of: "loss", in: "/nonexistent/folder/log")
    }
  }

  @Test("Numbers come back with their steps")
  func points() throws {
    try withPath { path in
      try write(0..<8, path)
      let log = try TrainingLog(path: path, resumingAt: 8)
      try log.append(step: 8, [("loss", .number(.infinity))])
      try log.append(step: 9, [("loss", .integer(2))])
      let losses = try TrainingLog.points(of: "loss", in: path)
      #expect(losses.map(\.step) == [0, 1, 2, 3, 4, 5, 6, 7, 9])
      let expected: [Double] = (0..<8).map { 1 / Double($0 + 1) }
      #expect(losses.map(\.value) == expected + [2])
      let accuracies = try TrainingLog.points(of: "accuracy", in: path)
      #expect(accuracies == [2, 5].map { CurvePoint(step: $0, value: 0.5) })
    }
  }
}
