import Foundation
import Testing

/// `prune` on the demo, as a process.
@Suite struct PruneCommandTests {
  private let model = Program.demo + "/model"
  private let test = Program.demo + "/test"

  private func arguments(_ output: String, _ more: [String]) -> [String] {
    [
      "prune", model, "-o", output, "--data", Program.demo + "/calibration",
      "--calibration-samples", "64", "--templates", Program.demo + "/templates.txt", "--threads",
      "2",
    ] + more
  }

  private func top1(_ model: String) throws -> Double {
    let figure = try Program.json(
      "eval", model, "--data", test, "--templates", Program.demo + "/templates.txt")
    return try #require(figure["top1"] as? Double)
  }

  @Test(arguments: [
    ["--method", "wanda", "--sparsity", "0.5"], ["--method", "sparsegpt", "--structure", "2:4"],
    ["--method", "net-trim", "--sparsity", "0.4"],
    ["--method", "mope", "--structure", "heads,neurons", "--sparsity", "0.3", "--rounds", "2"],
    ["--method", "mope", "--structure", "layers", "--sparsity", "0.2"],
  ])
  func everyMethodKeepsMostOfTheDemo(_ method: [String]) throws {
    let scratch = try Scratch()
    let output = scratch.path("pruned.h5")
    let answer = try Program.run(arguments(output, method + ["--json"]))
    #expect(answer.code == 0, "\(answer.errors)")
    let report = try #require(try answer.json()["report"] as? [String: Any])
    #expect(report["rows"] != nil)
    #expect(try scratch.names() == ["pruned.h5"], "no state is left of work that is done")
    let runtime = scratch.path("pruned.clipc")
    #expect(try Program.run(["export", output, "-o", runtime]).code == 0)
    let (graph, file) = (try top1(output), try top1(runtime))
    #expect(abs(graph - file) < 0.01)
    #expect(graph > 0.5, "\(method): \(graph)")
  }

  @Test func comparisonWritesTableAndPictures() throws {
    let scratch = try Scratch()
    let output = scratch.path("report.json")
    let answer = try Program.run(
      arguments(
        output,
        [
          "--compare", "random,magnitude", "--structure", "heads,neurons", "--sparsity", "0.1,0.4",
          "--validation", test, "--json",
        ]))
    #expect(answer.code == 0, "\(answer.errors)")
    let report = try answer.json()
    let written = try JSONSerialization.jsonObject(
      with: Data(contentsOf: URL(fileURLWithPath: output)))
    #expect((written as? NSDictionary) == (report as NSDictionary))
    let rows = try #require(report["rows"] as? [[String: Any]])
    #expect(
      rows.compactMap { $0["method"] as? String } == ["random", "random"] + [
        "magnitude", "magnitude",
      ])
    let sizes = rows.compactMap { $0["parameters"] as? Int }
    #expect(sizes.count == 4 && sizes[1] < sizes[0] && sizes[3] < sizes[2])
    #expect(
      try scratch.names() == [
        "report.json", "report.magnitude.svg", "report.random.svg", "report.svg",
      ])
  }

  @Test func timeTargetIsMet() throws {
    let scratch = try Scratch()
    let dense = try Program.json("bench", model, "--tower", "image", "--seconds", "0.5")
    let target = try #require(dense["median_ms"] as? Double) * 0.6
    let answer = try Program.run(
      arguments(
        scratch.path("fast.h5"),
        ["--structure", "neurons,heads", "--target-ms", "\(target)", "--tower", "image"]))
    // A machine that is busy in one of both measurements may not allow the target.
    #expect([0, 64].contains(answer.code), "\(answer.errors)")
    #expect(answer.errors.contains("multiply-accumulates take"))
  }

  @Test func towersShareWhatGoes() throws {
    let scratch = try Scratch()
    let output = scratch.path("split.h5")
    let answer = try Program.run(
      arguments(
        output, ["--structure", "neurons", "--sparsity", "0.2", "--tower-split", "auto"]))
    #expect(answer.code == 0, "\(answer.errors)")
    #expect(answer.errors.contains("quality"))
    let counts = try #require(try Program.json("inspect", output)["parameters"] as? [String: Int])
    let before = try #require(try Program.json("inspect", model)["parameters"] as? [String: Int])
    func towers(_ counts: [String: Int]) -> Double {
      Double((counts["image_tower"] ?? 0) + (counts["text_tower"] ?? 0))
    }
    #expect(abs(towers(counts) / towers(before) - 0.8) < 0.01)
  }

  @Test(arguments: [
    (64, "--sparsity is missing", [String]()), (64, "--sparsity", ["--sparsity", "1.5"]),
    (64, "only --compare", ["--sparsity", "0.1,0.2"]),
    (64, "one of", ["--sparsity", "0.1", "--target-macs", "9"]),
    (64, "at most", ["--sparsity", "0.95", "--structure", "heads"]),
    (64, "below", ["--target-parameters", "99999999", "--structure", "heads"]),
    (64, "divides", ["--structure", "2:7"]),
    (64, "divide", ["--structure", "7x3", "--sparsity", "0.5"]),
    (64, "--structure must list", ["--structure", "4:2"]),
    (64, "must be magnitude", ["--method", "mope", "--sparsity", "0.5"]),
    (65, "asks for", ["--sparsity", "0.5", "--calibration-samples", "99999"]),
  ])
  func wrongUseIsOneSentence(_ code: Int32, _ words: String, _ more: [String]) throws {
    let scratch = try Scratch()
    let answer = try Program.run(arguments(scratch.path("x.h5"), more))
    #expect(answer.code == code, "\(more): \(answer.errors)")
    #expect(answer.errors.contains(words), "\(more): \(answer.errors)")
    #expect(answer.errors.split(separator: "\n").count >= 1)
    #expect(try scratch.names().isEmpty)
  }

  /// One class tells nothing apart, and methods that measure need data.
  @Test func dataThatTellNothingAreRefused() throws {
    let scratch = try Scratch()
    let classes = try FileManager.default.contentsOfDirectory(
      atPath: Program.demo + "/calibration"
    ).sorted()
    let one = scratch.folder.appendingPathComponent("one")
    try FileManager.default.createDirectory(at: one, withIntermediateDirectories: true)
    try FileManager.default.copyItem(
      atPath: Program.demo + "/calibration/" + classes[0], toPath: one.path + "/" + classes[0])
    let base = [
      "prune", model, "-o", scratch.path("x.h5"), "--method", "mope", "--structure", "heads",
      "--sparsity", "0.1",
    ]
    let single = try Program.run(base + ["--data", one.path])
    #expect(single.code == 65 && single.errors.contains("one class"), "\(single.errors)")
    let none = try Program.run(base)
    #expect(none.code == 64 && none.errors.contains("--data"), "\(none.errors)")
    #expect(try scratch.names() == ["one"])
  }
}
