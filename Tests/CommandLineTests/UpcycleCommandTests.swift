import Foundation
import Testing

/// `upcycle` on the demo, as a process, and what follows it.
@Suite struct UpcycleCommandTests {
  private let model = Program.demo + "/model"
  private let test = Program.demo + "/test"
  private let templates = Program.demo + "/templates.txt"

  private func arguments(_ output: String, _ more: [String]) -> [String] {
    ["upcycle", model, "-o", output, "--experts", "3", "--top-k", "2", "--threads", "2"] + more
  }

  private func training(_ steps: Int) -> [String] {
    [
      "--data", Program.demo + "/calibration", "--templates", templates, "--batch", "16",
      "--steps", "\(steps)",
    ]
  }

  private func lineCount(_ log: String) throws -> Int {
    guard FileManager.default.fileExists(atPath: log) else { return 0 }
    return try String(contentsOfFile: log, encoding: .utf8).split(separator: "\n").count
  }

  private func agreement(_ model: String, _ reference: String) throws -> Double {
    let answer = try Program.run([
      "eval", model, "--data", test, "--templates", templates, "--task", "agreement",
      "--reference", reference, "--json",
    ])
    #expect(answer.code == 0, "\(answer.errors)")
    return try #require(try answer.json()["image_cosine_mean"] as? Double)
  }

  @Test(arguments: ["clip-up", "clip-moe"])
  func untrainedModelsAreTheDenseOne(_ method: String) throws {
    let scratch = try Scratch()
    let output = scratch.path("experts.h5")
    let answer = try Program.run(arguments(output, ["--method", method, "--json"]))
    #expect(answer.code == 0, "\(answer.errors)")
    let rows = try #require(
      (try answer.json()["report"] as? [String: Any])?["rows"] as? [[String: Any]])
    let row = try #require(rows.first)
    let before = try #require(row["parameters_before"] as? Int)
    let active = try #require(row["active_parameters"] as? Int)
    let after = try #require(row["parameters_after"] as? Int)
    #expect(before < active && active < after)
    #expect(try agreement(output, model) > 0.99999)
    let facts = try Program.json("inspect", output)
    let parameters = try #require(facts["parameters"] as? [String: Any])
    let total = try #require(parameters["total"] as? Int)
    let met = try #require(parameters["active"] as? Int)
    #expect(met < total)
    #expect((facts["experts"] as? [[String: Any]])?.first?["experts"] as? Int == 3)
  }

  @Test(arguments: ["clip-up", "clip-moe"])
  func killedRunGoesOnToTheSameBytes(_ method: String) throws {
    let scratch = try Scratch()
    let more = ["--method", method, "--continue-share", method == "clip-moe" ? "0.25" : "0"]
    let whole = scratch.path("whole.h5")
    let answer = try Program.run(arguments(whole, more + training(12) + ["--json"]))
    #expect(answer.code == 0, "\(answer.errors)")
    #expect(
      try scratch.names() == [
        "whole.experts.svg", "whole.h5", "whole.log.jsonl", "whole.svg",
      ])
    let part = scratch.path("part.h5")
    let run = arguments(part, more + training(12) + ["--save-every", "0", "--resume"])
    let process = try Program.start(run)
    let log = scratch.path("part.log.jsonl")
    // Behind the first phase, where there are several.
    while process.isRunning, try lineCount(log) < 6 { usleep(2000) }
    kill(process.processIdentifier, SIGKILL)
    process.waitUntilExit()
    #expect(!FileManager.default.fileExists(atPath: part))
    let rest = try Program.run(run)
    #expect(rest.code == 0, "\(rest.errors)")
    #expect(
      try Data(contentsOf: URL(fileURLWithPath: whole))
        == Data(contentsOf: URL(fileURLWithPath: part)))
    #expect(try lineCount(log) == 12)
    let lines = try String(contentsOfFile: log, encoding: .utf8).split(separator: "\n")
    #expect(lines.last?.contains("\"imbalance\":") == true)
  }

  @Test func expertsGoThroughEverything() throws {
    let scratch = try Scratch()
    let experts = scratch.path("experts.h5")
    let data = ["--data", Program.demo + "/calibration", "--templates", templates]
    let made = try Program.run(
      arguments(experts, ["--method", "clip-up", "--noise", "0.02", "--router-deviation", "0.5"]))
    #expect(made.code == 0, "\(made.errors)")
    let use = try Program.json(
      "inspect", experts, "--data", test, "--routing", scratch.path("routing.svg"))
    let layer = try #require((use["experts"] as? [[String: Any]])?.first)
    let load = try #require(layer["load"] as? [Double])
    #expect(load.count == 3 && abs(load.reduce(0, +) - 1) < 1e-9)
    #expect(FileManager.default.fileExists(atPath: scratch.path("routing.svg")))
    let commands: [[String]] = [
      ["prune", experts, "-o", "OUT", "--structure", "heads,neurons", "--sparsity", "0.2"],
      [
        "prune", experts, "-o", "OUT", "--method", "sparsegpt", "--structure", "2:4", "--sparsity",
        "0.5",
      ] + data,
      ["merge", experts, "-o", "OUT", "--experts", "2"] + data,
      ["quantize", experts, "-o", "OUT", "--activations", "int8"] + data,
      [
        "quantize", experts, "-o", "OUT", "--weights", "int4", "--group-size", "16", "--rounding",
        "gptq",
      ] + data,
    ]
    for (index, command) in commands.enumerated() {
      let output = scratch.path("\(index).h5")
      let answer = try Program.run(command.map { $0 == "OUT" ? output : $0 })
      #expect(answer.code == 0, "\(command): \(answer.errors)")
      let least = [0.5, 0.5, 0.95, 0.99, 0.95][index]
      #expect(try agreement(output, experts) > least, "\(command)")
    }
  }

  @Test(arguments: [
    (["--method", "clip-up", "--top-k", "4"], 64, "top-k"),
    (["--method", "clip-up", "--layers", "99"], 64, "layers"),
    (["--method", "clip-up", "--capacity", "0"], 64, "capacity"),
    (["--method", "clip-up", "--expert-dropout", "1"], 64, "expert-dropout"),
    (["--method", "clip-up", "--steps", "5"], 64, "--data"),
    (["--method", "clip-moe", "--experts", "1", "--top-k", "1", "--steps", "5"], 64, "--data"),
    (["--method", "other"], 64, "method"),
  ])
  func badChoicesAreOneSentence(_ more: [String], _ code: Int32, _ word: String) throws {
    let scratch = try Scratch()
    let output = scratch.path("none.h5")
    let answer = try Program.run(arguments(output, more))
    #expect(answer.code == code)
    #expect(answer.errors.contains(word), "\(answer.errors)")
    #expect(!FileManager.default.fileExists(atPath: output))
  }
}
