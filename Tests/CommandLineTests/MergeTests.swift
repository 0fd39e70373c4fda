import Foundation
import Testing

/// `merge` on the demo, as a process.
@Suite struct MergeTests {
  private let model = Program.demo + "/model"
  private let test = Program.demo + "/test"
  private let templates = ["--templates", Program.demo + "/templates.txt"]

  private func merge(_ models: [String], _ output: String, _ more: [String]) throws
    -> Program.Answer
  {
    try Program.run(["merge"] + models + ["-o", output, "--threads", "2"] + more)
  }

  /// Every method gives of two copies the model, as its embeddings show.
  @Test(arguments: [
    [], ["--method", "weights", "--weights", "1,3"], ["--method", "weight-matching"],
    ["--method", "greedy", "--data", Program.demo + "/test"],
    [
      "--method", "pleas", "--budget", "1.5", "--data", Program.demo + "/calibration",
      "--calibration-samples", "32",
    ],
  ])
  func copiesGiveTheModel(_ options: [String]) throws {
    let scratch = try Scratch()
    let output = scratch.path("merged.h5")
    let answer = try merge([model, model], output, options + templates + ["--json"])
    #expect(answer.code == 0, "\(answer.errors)")
    let report = try #require(try answer.json()["report"] as? [String: Any])
    #expect((report["models"] as? [Any])?.count == 2)
    let agreement = try Program.run(
      ["eval", output, "--data", test, "--task", "agreement", "--reference", model, "--json"]
        + templates
    ).json()
    #expect(try #require(agreement["image_cosine_min"] as? Double) > 0.99999)
    #expect(try #require(agreement["text_cosine_mean"] as? Double) > 0.99999)
    let provenance = try Program.json("inspect", output)["provenance"] as? [[String: Any]]
    #expect(provenance?.last?["pass"] as? String == "merge")
    _ = try Program.json("export", output, "-o", scratch.path("merged.clipc"))
  }

  @Test func validationMeasuresAll() throws {
    let scratch = try Scratch()
    let small = scratch.path("small.h5")
    _ = try Program.json(
      "prune", model, "-o", small, "--structure", "weights", "--sparsity", "0.3")
    let answer = try merge(
      [small, small], scratch.path("m.h5"), ["--validation", test, "--json"] + templates)
    let report = try #require(try answer.json()["report"] as? [String: Any])
    let models = try #require(report["models"] as? [[String: Any]])
    let merged = try #require(report["accuracy"] as? Double)
    #expect(models.allSatisfy { $0["accuracy"] as? Double == merged } && merged > 0.9)
    // Without the same mask there is no mean.
    let other = try merge([model, small], scratch.path("n.h5"), [])
    #expect(other.code == 65 && other.errors.contains("mask"), "\(other.errors)")
  }

  @Test func architecturesThatDiffer() throws {
    let scratch = try Scratch()
    let (small, codes) = (scratch.path("small.h5"), scratch.path("codes.h5"))
    _ = try Program.json(
      "prune", model, "-o", small, "--structure", "neurons", "--sparsity", "0.2")
    let answer = try merge([model, small], scratch.path("m.h5"), [])
    #expect(answer.code == 65 && answer.errors.contains(".weight"), "\(answer.errors)")
    #expect(answer.errors.contains("small.h5") && answer.errors.contains("found f32["))
    _ = try Program.json("quantize", model, "-o", codes)
    let quantized = try merge([codes, codes], scratch.path("m.h5"), [])
    #expect(quantized.code == 65 && quantized.errors.contains("integer codes"))
    #expect(try scratch.names() == ["codes.h5", "small.h5"])
  }

  @Test(arguments: [
    (1, [], Int32(64), "two models"), (2, ["--method", "greedy"], 64, "--data"),
    (2, ["--method", "pleas"], 64, "--data"), (2, ["--method", "weights"], 64, "--weights"),
    (2, ["--weights", "1,2,3"], 64, "each of the 2"), (2, ["--weights", "1,x"], 64, "1,x"),
    (2, ["--weights", "0,0"], 64, "zero"), (2, ["--method", "mean"], 64, "mean"),
    (2, ["--budget", "1.5"], 64, "pleas"), (2, ["--data", "none"], 64, "--data"),
    (2, ["--method", "greedy", "--data", "none"], 66, "none"),
    (2, ["--method", "pleas", "--budget", "3", "--data", Program.demo + "/test"], 64, "budget"),
    (3, ["--method", "pleas", "--data", Program.demo + "/test"], 64, "two models"),
  ])
  func refusals(_ count: Int, _ options: [String], _ code: Int32, _ mention: String) throws {
    let scratch = try Scratch()
    let answer = try merge(
      [String](repeating: model, count: count), scratch.path("m.h5"), options)
    #expect(answer.code == code && answer.errors.contains(mention), "\(answer.errors)")
    #expect(answer.errors.split(separator: "\n").count == 1)
    #expect(try scratch.names() == [])
  }
}
