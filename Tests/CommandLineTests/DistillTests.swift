import Foundation
import Testing

/// Distillation of the demo model, as a process.
@Suite struct DistillTests {
  let teacher = Program.demo + "/model"

  /// The arguments of a short run.
  ///
  /// A later option counts instead of an earlier one of the same name.
  func arguments(_ output: String, steps: Int = 6, _ more: [String] = []) -> [String] {
    [
      "distill", "--teacher", teacher, "--inherit", "manual", "--keep", "0.5", "-o", output,
      "--data", Program.demo + "/calibration", "--templates", Program.demo + "/templates.txt",
      "--batch", "16", "--steps", "\(steps)", "--threads", "2",
    ] + more
  }

  func bytes(_ path: String) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: path)) }

  @Test func studentHasHalfTheParametersAndTellsItsWay() throws {
    let scratch = try Scratch()
    let output = scratch.path("student.h5")
    let answer = try Program.run(arguments(output, ["--json"]))
    #expect(answer.code == 0, "\(answer.errors)")
    let figures = try answer.json()
    let before = try #require(figures["parameters_before"] as? Int)
    let after = try #require(figures["parameters_after"] as? Int)
    #expect(abs(Double(after) / Double(before) - 0.5) <= 0.02)
    let steps = try #require(
      try Program.json("inspect", output)["provenance"] as? [[String: Any]])
    #expect(steps.compactMap { $0["pass"] as? String }.suffix(2) == ["inherit-manual", "distill"])
    #expect(
      try scratch.names() == ["student.h5", "student.log.jsonl", "student.svg"],
      "no state is left of a run that is complete")
    let log = String(decoding: try bytes(scratch.path("student.log.jsonl")), as: UTF8.self)
    #expect(log.split(separator: "\n").count == 6)
  }

  @Test func trainingImprovesTheStudent() throws {
    let scratch = try Scratch()
    let output = scratch.path("student.h5")
    let answer = try Program.run(
      arguments(output, steps: 120, ["--json", "--validation", Program.demo + "/test"])
        + ["--validate-every", "1000"])
    #expect(answer.code == 0, "\(answer.errors)")
    let trained = try #require(try answer.json()["validation_top1"] as? Double)
    let short = try Program.run(
      arguments(scratch.path("short.h5"), steps: 1, ["--lr", "1e-9", "--json"])
        + ["--validation", Program.demo + "/test"])
    let untrained = try #require(try short.json()["validation_top1"] as? Double)
    #expect(trained > untrained + 0.05, "\(untrained) became \(trained)")
  }

  @Test(arguments: [["manual"], ["automatic"]])
  func killedRunGoesOnToTheSameBytes(_ inherit: [String]) throws {
    let scratch = try Scratch()
    let more =
      inherit + ["--average", "0.9", "--clip", "stable-spam", "--augment", "pad=2,flip=0.5"]
    func run(_ output: String, _ extra: [String]) -> [String] {
      var all = arguments(output, steps: 12, Array(more.dropFirst()) + extra)
      all[4] = more[0]
      return all
    }
    let whole = scratch.path("whole.h5")
    #expect(try Program.run(run(whole, [])).code == 0)
    let broken = scratch.path("broken.h5")
    let saving = ["--save-every", "0"]
    let process = try Program.start(run(broken, saving))
    let state = scratch.path("broken.state")
    while process.isRunning, !FileManager.default.fileExists(atPath: state) { usleep(2000) }
    usleep(200_000)
    kill(process.processIdentifier, SIGKILL)
    process.waitUntilExit()
    #expect(FileManager.default.fileExists(atPath: state))
    #expect(!FileManager.default.fileExists(atPath: broken))
    let answer = try Program.run(run(broken, saving + ["--resume"]))
    #expect(answer.code == 0, "\(answer.errors)")
    #expect(!answer.errors.contains("anew"))
    #expect(try bytes(whole) == bytes(broken))
  }

  @Test func interruptedRunSaysHowToGoOn() throws {
    let scratch = try Scratch()
    let output = scratch.path("student.h5")
    let process = try Program.start(arguments(output, steps: 4000))
    let log = scratch.path("student.log.jsonl")
    while process.isRunning, ((try? bytes(log))?.isEmpty ?? true) { usleep(2000) }
    // Not Ctrl-C's signal, which whoever runs the tests in the background has ignored.
    process.terminate()
    process.waitUntilExit()
    #expect(process.terminationStatus == 130)
    #expect(try scratch.names() == ["student.log.jsonl", "student.state"])
    let changed = try Program.run(arguments(output, steps: 4000, ["--resume", "--lr", "0.01"]))
    #expect(changed.code == 64)
    #expect(changed.errors.contains("lr was 0.001 and is 0.01"))
    #expect(try scratch.names() == ["student.log.jsonl", "student.state"])
  }

  @Test func resumingNothingStartsAnewAndSaysSo() throws {
    let scratch = try Scratch()
    let answer = try Program.run(arguments(scratch.path("s.h5"), steps: 1, ["--resume"]))
    #expect(answer.code == 0)
    #expect(answer.errors.contains("starts anew"))
  }

  @Test func storedEmbeddingsTrainLikeTheTeacher() throws {
    let scratch = try Scratch()
    let stored = scratch.path("stored.h5")
    let data = ["--data", Program.demo + "/calibration"]
    let templates = ["--templates", Program.demo + "/templates.txt"]
    let made = try Program.run(
      ["reinforce", teacher, "-o", stored, "--views", "3", "--augment", "flip=0.5"] + data
        + templates)
    #expect(made.code == 0, "\(made.errors)")
    let replayed = try Program.run(
      arguments(scratch.path("r.h5"), ["--reinforced", stored, "--json"]))
    #expect(replayed.code == 0, "\(replayed.errors)")
    // Without variation every view is the image itself: the same run with and without the teacher.
    let plain = scratch.path("plain.h5")
    #expect(
      try Program.run(
        ["reinforce", teacher, "-o", plain, "--views", "1", "--augment", "none"] + data
          + templates
      ).code == 0)
    let replay = try Program.run(
      arguments(scratch.path("a.h5"), ["--reinforced", plain, "--json"])
    ).json()
    let taught = try Program.run(
      arguments(scratch.path("b.h5"), ["--augment", "none", "--json"])
    ).json()
    let losses = try [replay, taught].map { try #require($0["loss"] as? Double) }
    #expect(abs(losses[0] - losses[1]) < 2e-3 * abs(losses[1]), "\(losses)")
    let other = try Program.run(
      arguments(scratch.path("c.h5"), ["--reinforced", plain]).map {
        $0 == Program.demo + "/calibration" ? Program.demo + "/test" : $0
      })
    #expect(other.code == 65)
  }

  @Test func prunedAndQuantizedStudentsKeepTheirForm() throws {
    let scratch = try Scratch()
    let (pruned, quantized) = (scratch.path("p.h5"), scratch.path("q.h5"))
    _ = try Program.json("prune", teacher, "-o", pruned, "--structure", "2:4")
    _ = try Program.json("quantize", pruned, "-o", quantized)
    for student in [pruned, quantized] {
      let output = scratch.path("repaired.h5")
      let answer = try Program.run([
        "distill", "--teacher", teacher, "--student", student, "-o", output, "--data",
        Program.demo + "/calibration", "--batch", "16", "--steps", "3",
      ])
      #expect(answer.code == 0, "\(answer.errors)")
      let before = try Program.json("inspect", student)
      let after = try Program.json("inspect", output)
      let counts = try [before, after].map {
        try #require($0["parameters"] as? [String: Int])
      }
      #expect(counts[0]["total"] == counts[1]["total"])
      #expect(try #require(counts[1]["nonzero"]) <= (try #require(counts[0]["total"])) * 3 / 4)
      #expect(try bytes(student) != bytes(output))
    }
  }

  @Test func wrongRunsAreRefused() throws {
    let scratch = try Scratch()
    let output = scratch.path("s.h5")
    let oneClass = scratch.folder.appendingPathComponent("one")
    let source = Program.demo + "/calibration"
    let name = try #require(try FileManager.default.contentsOfDirectory(atPath: source).first)
    try FileManager.default.createDirectory(at: oneClass, withIntermediateDirectories: true)
    try FileManager.default.copyItem(
      atPath: source + "/" + name, toPath: oneClass.appendingPathComponent(name).path)
    let cases: [(Int32, String, [String])] = [
      (65, "samples of a batch", ["--batch", "100000"]),
      (65, "one class", ["--data", oneClass.path]),
      (64, "--stages", ["--stages", "0.4,0.6"]),
      (64, "a loss is", ["--loss", "affinity=0"]),
      (64, "--keep", ["--keep", "1.5"]),
      (66, "", ["--reinforced", scratch.path("absent.h5")]),
      (65, "", ["--augment", "crop=7"]),
      (64, "", ["--steps", "0"]),
      (64, "", ["--epochs", "1"]),
    ]
    for (code, words, more) in cases {
      let answer = try Program.run(arguments(output, more))
      #expect(answer.code == code, "\(more): \(answer.errors)")
      #expect(words.isEmpty || answer.errors.contains(words), "\(more): \(answer.errors)")
      #expect(answer.errors.split(separator: "\n").count == 1, "\(answer.errors)")
    }
    let both = try Program.run(arguments(output, ["--student", teacher]))
    #expect(both.code == 64)
  }
}
