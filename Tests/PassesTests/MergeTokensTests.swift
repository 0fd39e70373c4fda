import Execution
import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport
import Testing

@Suite struct MergeTokensTests {
  private var extents: RandomCLIP {
    var extents = RandomCLIP()
    extents.imageSize = 20
    extents.imageLayers = 5
    return extents
  }

  private func options(
    _ count: Int, _ schedule: Passes.MergeTokens.Schedule = .constant
  ) -> Passes.MergeTokens {
    var options = Passes.MergeTokens.Options()
    options.tokensPerLayer = count
    options.schedule = schedule
    return Passes.MergeTokens(options: options)
  }

  private func tokens(_ graph: Graph) -> [Int] {
    graph.nodes.filter { $0.name.hasPrefix("image") && $0.name.hasSuffix(".attention") }.map {
      graph.tensorType(of: $0.inputs[0]).extents[1].fixedCount ?? 0
    }
  }

  @Test func mergingNothingIsTheIdentity() throws {
    let graph = try extents.graph(seed: 1)
    let merged = try options(0).run(on: graph, in: PassContext())
    try merged.verify()
    #expect(merged.text() == graph.text())
    let inputs = extents.inputs(seed: 2)
    #expect(try outputs(merged, inputs) == outputs(graph, inputs))
  }

  @Test func tokensGoByTheSchedule() throws {
    let graph = try extents.graph(seed: 1)
    let constant = try options(4).run(on: graph, in: PassContext())
    try constant.verify()
    #expect(tokens(constant) == [26, 22, 18, 14, 10])
    // 8, 6, 4, 2, 0: what the last block would lose counts, though nothing reads it.
    let linear = try options(4, .linear).run(on: graph, in: PassContext())
    #expect(tokens(linear) == [26, 18, 12, 8, 6])
    let most = try options(12).run(on: graph, in: PassContext())
    #expect(tokens(most) == [26, 14, 8, 5, 3])
    #expect(
      !constant.nodes.contains { $0.name.hasPrefix("text") && $0.op is ProportionalAttention })
  }

  /// A float64 tower written down without any operator of this package.
  @Test func embeddingsAreThoseOfThePlainTower() throws {
    let graph = try extents.graph(seed: 3)
    let merged = try options(4).run(on: graph, in: PassContext())
    let inputs = extents.inputs(seed: 4, items: 2)
    let found = try #require(
      try Executor(merged, outputs: ["image_embeds"], arithmetic: .float64).run(inputs)[
        "image_embeds"])
    let pixels = try #require(inputs["pixel_values"]).elements(of: Float.self).map { Double($0) }
    let reference = PlainTower(graph, extents, tokensPerLayer: 4)
    let size = pixels.count / 2
    let wanted = (0..<2).flatMap {
      reference.embedding(Array(pixels[($0 * size)..<(($0 + 1) * size)]))
    }
    let values = found.elements(of: Double.self)
    #expect(zip(values, wanted).allSatisfy { abs($0 - $1) < 1e-9 })
    let whole = try #require(
      try Executor(graph, outputs: ["image_embeds"], arithmetic: .float64).run(inputs)[
        "image_embeds"])
    #expect(zip(values, whole.elements(of: Double.self)).contains { abs($0 - $1) > 1e-4 })
  }

  /// Two patches that are equal everywhere merge, count twice, and nothing changes.
  @Test func equalTokensMergeWithoutLoss() throws {
    let small = RandomCLIP()
    var graph = try small.graph(seed: 5)
    let table = try #require(graph.value(named: "image.position_embedding"))
    try graph.setParameter(
      table, Parameter(Tensor(shape: [5, 24], [Float](repeating: 0, count: 120))))
    var random = SplitMix64(seed: 6)
    var pixels = random.normals(3 * 64)
    for place in 0..<(3 * 8 * 4) {
      // The second patch of four is the first.
      let row = place / 4 * 8
      if place / 4 % 8 < 4 { pixels[row + 4 + place % 4] = pixels[row + place % 4] }
    }
    let inputs = ["pixel_values": Tensor(shape: [1, 3, 8, 8], pixels)]
    func embedding(_ graph: Graph) throws -> [Double] {
      try #require(
        try Executor(graph, outputs: ["image_embeds"], arithmetic: .float64).run(inputs)[
          "image_embeds"]
      ).elements(of: Double.self)
    }
    let merged = try options(1).run(on: graph, in: PassContext())
    #expect(tokens(merged) == [5, 4])
    let whole = try embedding(graph)
    #expect(zip(try embedding(merged), whole).allSatisfy { abs($0 - $1) < 1e-14 })
    let more = try options(2).run(on: graph, in: PassContext())
    #expect(zip(try embedding(more), whole).contains { abs($0 - $1) > 1e-4 })
  }

  @Test func headsAndNeuronsCanStillGo() throws {
    let merged = try options(4).run(on: try extents.graph(seed: 7), in: PassContext())
    let before = try extents.graph(seed: 7).dependencyGroups()
    let after = merged.dependencyGroups()
    func names(_ groups: [DependencyGroup]) -> [String] {
      groups.map { "\($0.kind) \($0.name) \($0.unit) \($0.unitCount)" }
    }
    #expect(names(after) == names(before))
  }

  @Test func weightsCanStillBecomeCodes() throws {
    let merged = try options(4).run(on: try extents.graph(seed: 8), in: PassContext())
    var choice = Quantize.Options()
    choice.activations = .int8
    let batches = FixedBatches(batches: [Batch(inputs: extents.inputs(seed: 9, items: 4))])
    let quantized = try Quantize(options: choice).run(
      on: merged, in: PassContext(calibration: batches))
    try quantized.verify()
    // And the other way round.
    let first = try Quantize(options: choice).run(
      on: try extents.graph(seed: 8), in: PassContext(calibration: batches))
    let second = try options(4).run(on: first, in: PassContext())
    try second.verify()
    #expect(tokens(second) == tokens(merged))
  }

  @Test func readsBackFromText() throws {
    let merged = try options(4).run(on: try extents.graph(seed: 7), in: PassContext())
    let text = merged.text()
    #expect(text.contains("merge_tokens") && text.contains("proportional_attention"))
    let read = try Graph(parsing: text, registry: .standard) {
      name, type throws(GraphError) in
      guard let parameter = merged.parameter(named: name) else { throw .unknownName(name) }
      return parameter
    }
    #expect(read.text() == text)
  }

  @Test func whatCannotBeMergedIsRefused() throws {
    let graph = try extents.graph(seed: 1)
    func message(_ pass: Passes.MergeTokens, _ graph: Graph) -> String? {
      do throws(PassError) {
        _ = try pass.run(on: graph, in: PassContext())
        return nil
      } catch { return error.description }
    }
    let merged = try options(4).run(on: graph, in: PassContext())
    #expect(
      message(options(4), merged)
        == "merge-tokens: node image.layers.0.attended.merged shortens the image tower's sequence "
        + "already")
    #expect(
      message(options(13), graph)
        == "tokens per layer must be 0 to 12, half of the image's 26 tokens, found 13")
    #expect(message(options(-1), graph) != nil)
    let text = try graph.extracting(outputs: ["text_embeds"])
    #expect(message(options(4), text) == "merge-tokens: the model has no image tower")
  }

  @Test func theReportTellsWhatItPromises() throws {
    final class Box { var reports: [TokenReductionReport] = [] }
    let box = Box()
    let context = PassContext(report: { event in
      if case .result(let result as TokenReductionReport) = event { box.reports.append(result) }
    })
    _ = try options(4).run(on: try extents.graph(seed: 1), in: context)
    let report = try #require(box.reports.first)
    #expect(report.tokens == [26, 22, 18, 14, 10] && report.promisedSpeedup > 1.2)
  }
}
