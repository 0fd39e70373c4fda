import Foundation
import Testing

/// The way from the demo checkpoint to a file that classifies.
@Suite struct WholeLineTests {
  let model = Program.demo + "/model"

  /// The demo's test images and names.
  var evaluation: [String] {
    [
      "--data", Program.demo + "/test", "--classes", Program.demo + "/classes.txt",
      "--templates", Program.demo + "/templates.txt",
    ]
  }

  /// Zero-shot top-1 of `model` on the demo.
  func top1(_ model: String) throws -> Double {
    let answer = try Program.run(["eval", model, "--json"] + evaluation)
    #expect(answer.code == 0, "\(answer.errors)")
    return try #require(try answer.json()["top1"] as? Double)
  }

  @Test func demoModelIsAccurate() throws {
    #expect(try top1(model) >= 0.9)
  }

  @Test func quantizedRuntimeFileKeepsTheAccuracy() throws {
    let scratch = try Scratch()
    let (quantized, packed) = (scratch.path("q.h5"), scratch.path("m.clipc"))
    _ = try Program.json(
      "quantize", model, "-o", quantized, "--activations", "int8", "--data",
      Program.demo + "/shards-{0000..0001}.tar", "--calibration-samples", "64")
    let export = try Program.json("export", quantized, "-o", packed)
    #expect(try Program.run(["verify", packed]).code == 0)
    let (float, simulated, runtime) = (try top1(model), try top1(quantized), try top1(packed))
    #expect(abs(simulated - float) <= 0.02)
    #expect(abs(runtime - simulated) <= 0.005)
    let bytes = try #require(export["file_bytes"] as? Int)
    let original = try #require(try Program.json("inspect", model)["file_bytes"] as? Int)
    #expect(bytes * 3 < original)
    let agreement = try Program.run(
      ["eval", packed, "--task", "agreement", "--reference", quantized, "--json"] + evaluation)
    #expect(try #require(try agreement.json()["image_cosine_mean"] as? Double) > 0.9995)
  }

  @Test func provenanceTellsTheWholeWay() throws {
    let scratch = try Scratch()
    let (pruned, quantized) = (scratch.path("p.h5"), scratch.path("q.h5"))
    _ = try Program.json(
      "prune", model, "-o", pruned, "--structure", "heads,neurons", "--sparsity", "0.3")
    _ = try Program.json("quantize", pruned, "-o", quantized)
    _ = try Program.json("export", quantized, "-o", scratch.path("m.clipc"))
    for path in [quantized, scratch.path("m.clipc")] {
      let steps = try #require(
        try Program.json("inspect", path)["provenance"] as? [[String: Any]])
      let passes = steps.compactMap { $0["pass"] as? String }
      #expect(Array(passes.suffix(2)) == ["prune", "quantize"])
      #expect(steps.allSatisfy { ($0["input_sha256"] as? String)?.count == 64 })
    }
  }

  @Test func structuredSparsityIsOfTheTowersParameters() throws {
    let scratch = try Scratch()
    let pruned = scratch.path("p.h5")
    _ = try Program.json(
      "prune", model, "-o", pruned, "--structure", "heads,neurons", "--sparsity", "0.4")
    func towers(_ path: String) throws -> Int {
      let counts = try #require(
        try Program.json("inspect", path)["parameters"] as? [String: Int])
      return (counts["image_tower"] ?? 0) + (counts["text_tower"] ?? 0)
    }
    let removed = 1 - Double(try towers(pruned)) / Double(try towers(model))
    #expect(abs(removed - 0.4) < 0.02, "\(removed)")
  }

  @Test func sameInputsGiveTheSameBytes() throws {
    let scratch = try Scratch()
    for name in ["a", "b"] {
      _ = try Program.json(
        "prune", model, "-o", scratch.path("\(name).h5"), "--sparsity", "0.5")
      _ = try Program.json("export", scratch.path("\(name).h5"), "-o", scratch.path(name))
    }
    let (first, second) = (scratch.folder.appending(path: "a"), scratch.folder.appending(path: "b"))
    #expect(try Data(contentsOf: first) == Data(contentsOf: second))
    let (a, b) = (first.appendingPathExtension("h5"), second.appendingPathExtension("h5"))
    #expect(try Data(contentsOf: a) == Data(contentsOf: b))
    #expect(try scratch.names() == ["a", "a.h5", "b", "b.h5"], "no temporary file is left")
  }

  @Test func shippingContainerIsUnpackedByEveryCommand() throws {
    let scratch = try Scratch()
    let (packed, plain) = (scratch.path("z.clipc"), scratch.path("p.clipc"))
    _ = try Program.json("export", model, "-o", packed, "--compress", "zstd")
    _ = try Program.json("export", model, "-o", plain)
    #expect(try Program.run(["verify", packed]).code == 0)
    let image = Program.demo + "/pictures"
    let names = try FileManager.default.contentsOfDirectory(atPath: image).sorted()
    let pictures = names.map { "\(image)/\($0)" }
    func answers(_ model: String) throws -> String {
      try Program.run(["classify", model, "--labels", "red circle,blue star"] + pictures).output
    }
    #expect(try answers(packed) == answers(plain))
  }

  @Test func encodeWritesNormalizedRowsForNumpy() throws {
    let scratch = try Scratch()
    let output = scratch.path("t.npy")
    _ = try Program.json("encode", model, "--texts", "a red circle", "a blue star", "-o", output)
    let bytes = try [UInt8](Data(contentsOf: URL(fileURLWithPath: output)))
    #expect(bytes.starts(with: [0x93] + Array("NUMPY".utf8)))
    let start = 10 + Int(bytes[8]) + Int(bytes[9]) << 8
    #expect(start % 64 == 0)
    let values = bytes[start...].withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
    let width = values.count / 2
    let length = values[..<width].reduce(0) { $0 + $1 * $1 }
    #expect(abs(length - 1) < 1e-5)
  }

  @Test func benchTellsWhatTheContractNames() throws {
    let answer = try Program.json("bench", model, "--seconds", "0.05", "--profile")
    let names = [
      "tower", "batch", "tokens", "threads", "median_ms", "min_ms", "p90_ms", "items_per_second",
      "load_ms", "first_ms", "peak_rss_bytes", "arena_bytes", "file_bytes", "kernel_set", "nodes",
    ]
    #expect(Set(answer.keys) == Set(names))
    let nodes = try #require(answer["nodes"] as? [[String: Any]])
    let shares = nodes.compactMap { $0["share"] as? Double }
    #expect(abs(shares.reduce(0, +) - 1) < 0.01)
    let roofline = try Program.json("bench", model, "--seconds", "0.05", "--roofline")
    let peak = try #require(roofline["peak"] as? [String: Double])
    #expect(peak.values.allSatisfy { $0 > 0 })
    let products = try #require(roofline["nodes"] as? [[String: Any]])
      .filter { $0["kind"] as? String == "linear" }
    #expect(products.contains { $0["macs"] as? Double == Double(36 * 192 * 96) })
    #expect(products.allSatisfy { $0["peak_share"] is Double && $0["read_share"] is Double })
  }

  @Test func retrievalAndAgreementTellWhatTheContractNames() throws {
    let pairs = try Program.json(
      "eval", model, "--data", Program.demo + "/retrieval.csv", "--task", "retrieval")
    for direction in ["image_to_text", "text_to_image"] {
      let recall = try #require(pairs[direction] as? [String: Double])
      #expect(Set(recall.keys) == ["recall@1", "recall@5", "recall@10"])
    }
    let same = try Program.run(
      ["eval", model, "--task", "agreement", "--reference", model, "--json"] + evaluation)
    let figures = try same.json()
    #expect(try #require(figures["image_cosine_min"] as? Double) > 0.999999)
    #expect(figures["top1_agreement"] as? Double == 1)
  }
}
