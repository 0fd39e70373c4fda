import Foundation
import Testing

/// `quantize` on the demo, as a process.
@Suite struct QuantizeCommandTests {
  private let model = Program.demo + "/model"
  private let test = Program.demo + "/test"

  private func arguments(_ output: String, _ more: [String]) -> [String] {
    [
      "quantize", model, "-o", output, "--data", Program.demo + "/calibration",
      "--calibration-samples", "48", "--templates", Program.demo + "/templates.txt", "--threads",
      "2",
    ] + more
  }

  private func evaluate(_ model: String, _ more: [String] = []) throws -> [String: Any] {
    let answer = try Program.run(
      ["eval", model, "--data", test, "--templates", Program.demo + "/templates.txt", "--json"]
        + more)
    #expect(answer.code == 0, "\(answer.errors)")
    return try answer.json()
  }

  /// Each way of quantizing, and the top-1 that the demo keeps at least.
  @Test(arguments: [
    (["--weights", "int4", "--group-size", "16", "--activations", "int8"], 0.97),
    (["--weights", "int4", "--rounding", "gptq"], 0.97),
    (["--weights", "int3", "--token-embedding", "int8", "--rounding", "gptq"], 0.95),
    (["--weights", "int2", "--rounding", "gptq", "--outer-weights", "int4"], 0.8),
    (["--activations", "int4"], 0.7),
    (["--activations", "int8", "--activation-scales", "token"], 0.98),
    (["--activations", "int8", "--attention", "int8"], 0.97),
    (["--activations", "int8", "--select", "clusters", "--smooth", "0.5"], 0.98),
    (["--weights", "float16"], 0.99),
    (["--weights", "bfloat16", "--activations", "bfloat16"], 0.99),
    (
      [
        "--weights", "int4", "--activations", "int8", "--activation-scales", "token", "--rounding",
        "gptq",
      ], 0.97
    ),
    (["--weights", "int6", "--rounding", "adaquant", "--calibration-samples", "4"], 0.9),
    (["--exclude", "image.*", "--excluded-as", "bfloat16"], 0.98),
  ])
  func everyFormatRunsAsItIsSimulated(_ options: [String], _ least: Double) throws {
    let scratch = try Scratch()
    let (output, runtime) = (scratch.path("q.h5"), scratch.path("q.clipc"))
    let answer = try Program.run(arguments(output, options + ["--json"]))
    #expect(answer.code == 0, "\(answer.errors)")
    #expect(try answer.json()["report"] is [String: Any])
    _ = try Program.json("export", output, "-o", runtime)
    let simulated = try #require(try evaluate(output)["top1"] as? Double)
    let found = try #require(try evaluate(runtime)["top1"] as? Double)
    #expect(simulated > least, "\(options): \(simulated)")
    #expect(abs(found - simulated) <= 0.005)
    let agreement = try evaluate(runtime, ["--task", "agreement", "--reference", output])
    #expect(try #require(agreement["image_cosine_mean"] as? Double) > 0.9995)
    #expect(try #require(agreement["text_cosine_mean"] as? Double) > 0.9995)
  }

  @Test func bytesAreKept() throws {
    let scratch = try Scratch()
    let kept = scratch.path("loss.state")
    var sizes: [Int] = []
    for target in [300_000, 400_000] {
      let (output, runtime) = (scratch.path("q.h5"), scratch.path("q.clipc"))
      let answer = try Program.run(
        arguments(output, ["--target-bytes", "\(target)", "--sensitivities", kept]))
      #expect(answer.code == 0, "\(answer.errors)")
      _ = try Program.json("export", output, "-o", runtime)
      let size = try #require(
        try FileManager.default.attributesOfItem(atPath: runtime)[.size] as? Int)
      #expect(size <= target && size > target * 9 / 10, "\(size) of \(target)")
      sizes.append(size)
    }
    #expect(sizes[0] < sizes[1])
    let impossible = try Program.run(
      arguments(scratch.path("none.h5"), ["--target-bytes", "1000", "--sensitivities", kept]))
    #expect(impossible.code != 0)
    #expect(impossible.errors.contains("target-bytes"))
    #expect(!FileManager.default.fileExists(atPath: scratch.path("none.h5")))
  }

  /// The file's bytes are met by a search over those of the weights, which may end at different ones
  /// for the two; but nothing as small as what the program chose loses less.
  @Test func theProgramIsNotBeatenByTheGreedyChoice() throws {
    let scratch = try Scratch()
    let kept = scratch.path("loss.state")
    let found = try ["program", "greedy"].map { method in
      let answer = try Program.run(
        arguments(
          scratch.path(method + ".h5"),
          [
            "--target-bytes", "330000", "--allocation", method, "--sensitivities", kept, "--json",
          ]))
      #expect(answer.code == 0, "\(answer.errors)")
      let report = try answer.json()["report"] as? [String: Any]
      let allocation = try #require(report?["allocation"] as? [String: Any])
      #expect(allocation["method"] as? String == method)
      return (
        loss: try #require(allocation["loss"] as? Double),
        bytes: try #require(allocation["byte_count"] as? Int)
      )
    }
    #expect(found[0].loss > 0)
    #expect(found[0].bytes < found[1].bytes || found[0].loss <= found[1].loss)
  }

  @Test func comparisonWritesTableAndPicture() throws {
    let scratch = try Scratch()
    let output = scratch.path("report.json")
    let answer = try Program.run(
      arguments(
        output,
        [
          "--compare", "octav,max,gptq", "--weights", "int8,int2", "--validation", test, "--json",
        ]))
    #expect(answer.code == 0, "\(answer.errors)")
    let rows = try #require(try answer.json()["rows"] as? [[String: Any]])
    #expect(
      rows.compactMap { $0["method"] as? String } == [
        "octav", "max", "gptq", "octav", "max", "gptq",
      ])
    let accuracies = rows.compactMap { $0["accuracy"] as? Double }
    // With two bits it matters how.
    #expect(accuracies[3] > accuracies[4] && accuracies[5] > accuracies[4])
    let sizes = rows.compactMap { $0["file_bytes"] as? Int }
    #expect(sizes[3] < sizes[0])
    let layers = rows.compactMap { $0["layers"] as? [String: Double] }
    #expect(layers.count == 6 && layers.allSatisfy { !$0.isEmpty })
    // Each has the errors of its own codes.
    #expect(layers[3] != layers[4] && layers[3] != layers[5])
    let errors = rows.compactMap { $0["output_errors"] as? [String: Double] }
    #expect(errors.map(\.isEmpty) == [true, true, false, true, true, false])
    #expect(errors[2].keys.allSatisfy { layers[2][$0] != nil })
    #expect(try scratch.names() == ["report.json", "report.svg"])
  }

  @Test func statisticsAreReadAgain() throws {
    let scratch = try Scratch()
    let file = scratch.path("statistics.h5")
    let (first, second) = (scratch.path("a.h5"), scratch.path("b.h5"))
    let options = ["--activations", "int8", "--statistics", file]
    #expect(try Program.run(arguments(first, options)).code == 0)
    let again = try Program.run(arguments(second, options))
    #expect(again.code == 0 && !again.errors.contains("gathered anew"), "\(again.errors)")
    #expect(
      try Data(contentsOf: URL(fileURLWithPath: first))
        == Data(contentsOf: URL(fileURLWithPath: second)))
    let other = try Program.run(arguments(second, options + ["--seed", "7"]))
    #expect(other.code == 0 && other.errors.contains("gathered anew"), "\(other.errors)")
    try Data("no statistics".utf8).write(to: URL(fileURLWithPath: file))
    #expect(try Program.run(arguments(second, options)).code == 65)
  }

  @Test func recipesAreOptions() throws {
    let scratch = try Scratch()
    let recipe = scratch.path("recipe.yaml")
    func write(_ text: String) throws {
      try Data(text.utf8).write(to: URL(fileURLWithPath: recipe))
    }
    try write("weights: int4\ngroup-size: 16\n")
    let output = scratch.path("q.h5")
    #expect(try Program.run(arguments(output, ["--recipe", recipe])).code == 0)
    let numbers = try Program.json("inspect", output)["quantization"] as? [String: Any]
    #expect(numbers?["weights"] as? String == "int4 in groups of 16")
    try write("weights: bfloat16\nactivations: bfloat16\n")
    #expect(try Program.run(arguments(output, ["--recipe", recipe])).code == 0)
    let short = try Program.json("inspect", output)["quantization"] as? [String: Any]
    #expect(short?["weights"] as? String == "bfloat16")
    #expect(short?["activations"] as? String == "bfloat16")
    try write("weights: int4\nexclude: [image.*, text.projection*]\n")
    #expect(try Program.run(arguments(output, ["--recipe", recipe])).code == 0)
    let left = try Program.run(["inspect", output, "--layers"])
    #expect(
      left.output.split(separator: "\n").allSatisfy {
        !$0.hasPrefix("image.") || !$0.contains("int4")
      })
    try write("weights: int4\ngroup-size: 16\n")
    // The command line goes before the recipe.
    #expect(
      try Program.run(arguments(output, ["--recipe=\(recipe)", "--group-size", "32"])).code == 0)
    let others = try Program.json("inspect", output)["quantization"] as? [String: Any]
    #expect(others?["weights"] as? String == "int4 in groups of 32")
    for (text, code) in [("- weights\n", 65), ("weights: [a: b]\n", 65), ("weights: {\n", 65)] {
      try write(text)
      let answer = try Program.run(arguments(output, ["--recipe", recipe]))
      #expect(answer.code == Int32(code) && answer.errors.contains("recipe.yaml"))
    }
    #expect(
      try Program.run(arguments(output, ["--recipe", scratch.path("none.yaml")])).code == 66)
  }

  @Test(arguments: [
    (["--weights", "int9"], Int32(64), "int9"), (["--group-size", "6"], 64, "multiple of 4"),
    (["--grid", "full"], 64, "grid"),
    (["--target-bytes", "5", "--max-drop", "1"], 64, "at a time"),
    (["--allocation", "greedy"], 64, "--target-bytes"),
    (["--weights", "int4,int8"], 64, "--compare"), (["--smooth", "2"], 64, "smooth"),
    (["--activations", "float16"], 64, "activations"),
    (["--activations", "bfloat16"], 64, "needs --weights bfloat16"),
    (["--calibration-samples", "100000"], 65, "100000"),
    (["--exclude", "*"], 65, "no weight is left"),
  ])
  func refusals(_ options: [String], _ code: Int32, _ mention: String) throws {
    let scratch = try Scratch()
    let answer = try Program.run(arguments(scratch.path("q.h5"), options))
    #expect(answer.errors.contains(mention), "\(answer.errors)")
    #expect(answer.code == code, "\(answer.errors)")
    #expect(answer.errors.split(separator: "\n").count == 1)
    #expect(try scratch.names() == [])
  }

  @Test func whatOneRunLeftAnotherQuantizes() throws {
    let scratch = try Scratch()
    let (first, second) = (scratch.path("a.h5"), scratch.path("b.h5"))
    let activations = ["--activations", "int8", "--data", Program.demo + "/calibration"]
    #expect(
      try Program.run(
        arguments(first, ["--activations", "int8", "--exclude", "*attention.value*"])
      ).code == 0)
    let again = try Program.run(["quantize", first, "-o", second] + activations)
    #expect(again.code == 0, "\(again.errors)")
    _ = try Program.json("export", second, "-o", scratch.path("b.clipc"))
    #expect(try #require(try evaluate(scratch.path("b.clipc"))["top1"] as? Double) > 0.97)
  }
}
