import Foundation
import Testing

/// Sparse training of the demo model, as a process.
@Suite struct SparseDistillTests {
  let teacher = Program.demo + "/model"

  func arguments(_ output: String, steps: Int = 8, _ more: [String]) -> [String] {
    [
      "distill", "--teacher", teacher, "--student", teacher, "-o", output,
      "--data", Program.demo + "/calibration", "--templates", Program.demo + "/templates.txt",
      "--batch", "16", "--steps", "\(steps)", "--threads", "2",
    ] + more
  }

  @Test(arguments: [
    ["--prune", "weights", "--sparsity", "0.8"],
    ["--prune", "weights", "--sparsity", "0.8", "--prune-schedule", "autosparse"],
    ["--prune", "2:4", "--prune-schedule", "flow-linear"],
  ])
  func studentHoldsMasksAndTheLogTheWayThere(_ options: [String]) throws {
    let scratch = try Scratch()
    let output = scratch.path("student.h5")
    let answer = try Program.run(arguments(output, options + ["--json"]))
    #expect(answer.code == 0, "\(answer.errors)")
    let sparsity = try #require(try answer.json()["sparsity"] as? Double)
    #expect(abs(sparsity - (options.contains("2:4") ? 0.5 : 0.8)) < 1e-3)
    let log = try String(contentsOfFile: scratch.path("student.log.jsonl"), encoding: .utf8)
    let shown = try log.split(separator: "\n").map { line -> Double in
      let object = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
      return try #require(object?["sparsity"] as? Double)
    }
    #expect(shown.count == 8)
    #expect(abs((shown.last ?? 0) - sparsity) < 1e-9)
    let steps = try #require(
      try Program.json("inspect", output)["provenance"] as? [[String: Any]])
    let provenance = try #require(steps.last?["options"] as? [String: String])
    #expect(provenance["prune"] == options[1])
  }

  @Test(arguments: ["gradual", "autosparse"])
  func killedRunGoesOnToTheSameBytes(_ schedule: String) throws {
    let scratch = try Scratch()
    let options = ["--prune", "weights", "--sparsity", "0.6", "--prune-schedule", schedule]
    let (whole, broken) = (scratch.path("whole.h5"), scratch.path("broken.h5"))
    #expect(try Program.run(arguments(whole, steps: 14, options)).code == 0)
    let saving = options + ["--save-every", "0"]
    let process = try Program.start(arguments(broken, steps: 14, saving))
    let state = scratch.path("broken.state")
    while process.isRunning, !FileManager.default.fileExists(atPath: state) { usleep(2000) }
    usleep(150_000)
    kill(process.processIdentifier, SIGKILL)
    process.waitUntilExit()
    #expect(!FileManager.default.fileExists(atPath: broken))
    let answer = try Program.run(arguments(broken, steps: 14, saving + ["--resume"]))
    #expect(answer.code == 0, "\(answer.errors)")
    #expect(!answer.errors.contains("anew"))
    #expect(
      try Data(contentsOf: URL(fileURLWithPath: whole))
        == Data(contentsOf: URL(fileURLWithPath: broken)))
  }

  @Test(arguments: [
    (["--prune", "weights"], "needs --sparsity"),
    (["--sparsity", "0.5"], "go with --prune"),
    (["--prune", "heads", "--sparsity", "0.5"], "weights or N:M"),
    (["--prune", "weights", "--sparsity", "1.5"], "sparsity must be above 0 and below 1"),
    (["--prune", "2:7"], "divides the input axis of"),
    (["--prune", "2:4", "--sparsity", "0.7"], "0.5, as 2:4 says"),
    (["--prune", "2:4", "--prune-schedule", "autosparse"], "weights"),
    (["--prune", "weights", "--sparsity", "0.5", "--prune-every", "0"], "prune-every"),
  ])
  func refusalsSayWhat(_ options: [String], _ words: String) throws {
    let scratch = try Scratch()
    let answer = try Program.run(arguments(scratch.path("student.h5"), options))
    #expect(answer.code != 0)
    #expect(answer.errors.contains(words), "\(answer.errors)")
    #expect(answer.errors.split(separator: "\n").count == 1)
    #expect(try scratch.names().isEmpty)
  }

  @Test func automaticInheritanceIsRefused() throws {
    let scratch = try Scratch()
    let answer = try Program.run([
      "distill", "--teacher", teacher, "--inherit", "automatic", "--keep", "0.5", "-o",
      scratch.path("student.h5"), "--data", Program.demo + "/calibration", "--prune", "2:4",
    ])
    #expect(answer.code == 64)
    #expect(answer.errors.contains("--prune goes with --student"))
  }
}
