import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport
import Testing

@Suite struct QuantizeTests {
  private let extents = RandomCLIP()
  private let graph: Graph

  init() throws { graph = try extents.graph(seed: 40) }

  private func context(
    _ seeds: [UInt64] = [1, 2, 3], _ report: @escaping (PassEvent) -> Void = { _ in }
  ) -> PassContext {
    let batches = seeds.map { Batch(inputs: extents.inputs(seed: $0, items: 4)) }
    return PassContext(
      threadCount: 2, calibration: FixedBatches(batches: batches), report: report)
  }

  private func integers(_ rule: ClippingRule = .octav) -> Quantize.Options {
    var options = Quantize.Options()
    options.activations = .int8
    options.clipping = rule
    return options
  }

  @Test func weightsAndTablesGetCodes() throws {
    let quantized = try Quantize().run(on: graph, in: PassContext())
    try quantized.verify()
    for value in quantized.parameterValues {
      let name = quantized.name(of: value)
      let isWeight =
        name.hasSuffix(".weight") && !name.contains("norm") || name == "text.token_embedding"
      #expect((quantized.parameter(value)?.quantization != nil) == isWeight, "\(name)")
      if !isWeight { #expect(quantized.parameter(value) == graph.parameter(named: name)) }
    }
    #expect(!quantized.nodes.contains { $0.op is FakeQuantize })
    let inputs = extents.inputs(seed: 7)
    #expect(largestDifference(try outputs(graph, inputs), try outputs(quantized, inputs)) < 0.05)
  }

  @Test func everyIntegerLinearReadsOneRoundedValue() throws {
    let quantized = try Quantize(options: integers()).run(on: graph, in: context())
    try quantized.verify()
    var sources: [Value: Int] = [:]
    for node in quantized.nodes {
      if node.op is FakeQuantize { sources[node.inputs[0], default: 0] += 1 }
      guard node.op is Linear else { continue }
      guard case .node(let index) = quantized.origin(of: node.inputs[0]) else {
        Issue.record("\(node.name) reads no node")
        continue
      }
      #expect(quantized.nodes[index].op is FakeQuantize, "\(node.name)")
    }
    #expect(sources.values.allSatisfy { $0 == 1 })
    // Patches, four a layer (queries, keys and values share one), pooled.
    let layers = extents.imageLayers + extents.textLayers
    #expect(sources.count == 2 + 1 + 4 * layers)
  }

  @Test(arguments: ClippingRule.allCases)
  func staysCloseToFloat(_ rule: ClippingRule) throws {
    let quantized = try Quantize(options: integers(rule)).run(on: graph, in: context())
    let inputs = extents.inputs(seed: 2, items: 4)
    #expect(largestDifference(try outputs(graph, inputs), try outputs(quantized, inputs)) < 0.06)
  }

  @Test func oneTowerAndExclusions() throws {
    var options = integers()
    options.tower = .image
    options.exclude = ["image.patch*", "*.mlp.fc2.weight", "image.projection.weight"]
    let quantized = try Quantize(options: options).run(on: graph, in: context())
    for value in quantized.parameterValues {
      let name = quantized.name(of: value)
      let isCode = quantized.parameter(value)?.quantization != nil
      if name.hasPrefix("text.") || name.hasSuffix("fc2.weight") || name.contains("patch") {
        #expect(!isCode, "\(name)")
      } else if name.hasSuffix("fc1.weight") {
        #expect(isCode, "\(name)")
      }
    }
    let rounded = quantized.nodes.filter { $0.op is FakeQuantize }.map(\.name)
    #expect(rounded.allSatisfy { $0.hasPrefix("image.layers") })
    #expect(!rounded.contains { $0.contains("mlp") })
  }

  @Test func theSameAgainAndInAnyDivision() throws {
    let text = try Quantize(options: integers()).run(on: graph, in: context([1, 2, 3])).text()
    let again = try Quantize(options: integers()).run(on: graph, in: context([3, 1, 2])).text()
    #expect(text == again)
    let other = try Quantize(options: integers()).run(on: graph, in: context([4])).text()
    #expect(text != other)
  }

  @Test func quantizingTwiceChangesNothing() throws {
    let once = try Quantize(options: integers()).run(on: graph, in: context())
    let twice = try Quantize(options: integers()).run(on: once, in: context())
    #expect(once.text() == twice.text())
    for value in once.parameterValues {
      #expect(once.parameter(value) == twice.parameter(named: once.name(of: value)))
    }
  }

  @Test func activationsCanFollowWeights() throws {
    let weights = try Quantize().run(on: graph, in: PassContext())
    let both = try Quantize(options: integers()).run(on: weights, in: context())
    #expect(both.nodes.contains { $0.op is FakeQuantize })
    var floats = integers()
    floats.weights = .float32
    #expect(throws: PassError.self) {
      try Quantize(options: floats).run(on: graph, in: context())
    }
  }

  @Test func masksSurvive() throws {
    var prune = Prune.Options()
    prune.sparsity = 0.5
    let masked = try Prune(options: prune).run(on: graph, in: PassContext())
    let quantized = try Quantize().run(on: masked, in: PassContext())
    for value in masked.prunableWeights(of: [.image, .text]) {
      let name = masked.name(of: value)
      let parameter = try #require(quantized.parameter(named: name))
      #expect(parameter.mask == masked.parameter(value)?.mask)
      let mask = try #require(parameter.mask).elements(of: UInt8.self)
      let codes = parameter.tensor.elements(of: Int8.self)
      #expect(zip(mask, codes).allSatisfy { $0 == 1 || $1 == 0 })
    }
  }

  @Test func aTowerWithoutDataStaysFloat() throws {
    var warnings: [String] = []
    let images = Batch(
      inputs: extents.inputs(seed: 1).filter { $0.key == "pixel_values" })
    let context = PassContext(
      calibration: FixedBatches(batches: [images]),
      report: { event in if case .warning(let text) = event { warnings.append(text) } })
    let quantized = try Quantize(options: integers()).run(on: graph, in: context)
    try quantized.verify()
    let rounded = quantized.nodes.filter { $0.op is FakeQuantize }.map(\.name)
    #expect(!rounded.isEmpty && rounded.allSatisfy { $0.hasPrefix("image.") })
    #expect(warnings.contains { $0.contains("text.") })
  }

  @Test func refusals() throws {
    #expect(throws: PassError.self) {
      try Quantize(options: integers()).run(on: graph, in: PassContext())
    }
    #expect(throws: PassError.self) {
      try Quantize(options: integers()).run(on: graph, in: context([]))
    }
    var options = integers(.percentile)
    options.percentile = 0
    #expect(throws: PassError.self) {
      try Quantize(options: options).run(on: graph, in: context())
    }
    options = Quantize.Options()
    options.exclude = ["*"]
    #expect(throws: PassError.self) {
      try Quantize(options: options).run(on: graph, in: PassContext())
    }
    var broken = graph
    let value = try #require(broken.value(named: "image.layers.0.mlp.fc1.weight"))
    let shape = broken.tensorType(of: value).shape(binding: [:]) ?? []
    try broken.setParameter(
      value, Parameter(Tensor(shape: shape, of: Float.self) { $0[5] = .nan }))
    let error = #expect(throws: PassError.self) {
      try Quantize().run(on: broken, in: PassContext())
    }
    #expect(error?.description.contains("image.layers.0.mlp.fc1.weight") == true)
    var batch = extents.inputs(seed: 1)
    batch["pixel_values"] = Tensor(
      shape: [1, 3, extents.imageSize, extents.imageSize], of: Float.self
    ) { $0[3] = .infinity }
    let infinite = PassContext(calibration: FixedBatches(batches: [Batch(inputs: batch)]))
    #expect(throws: PassError.self) {
      try Quantize(options: integers()).run(on: graph, in: infinite)
    }
    var narrow = extents.inputs(seed: 1)
    narrow["pixel_values"] = Tensor(shape: [1, 3, 2, 2], of: Float.self) { _ in }
    let wrong = PassContext(calibration: FixedBatches(batches: [Batch(inputs: narrow)]))
    #expect(throws: PassError.self) {
      try Quantize(options: integers()).run(on: graph, in: wrong)
    }
  }

  /// What the codes of `quantized` make of the weight `name`.
  private func meanSquaredError(of name: String, in quantized: Graph) throws -> Double {
    let before = try #require(graph.parameter(named: name)).tensor
    let after = try #require(quantized.parameter(named: name)).materialized
    let squares = zip(before.elements(of: Float.self), after.elements(of: Float.self))
      .reduce(0.0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }
    return squares / Double(before.count)
  }

  @Test(arguments: [LayerRounding.Method.gptq, .adaquant])
  func reportsTheCodesThatWereChosen(_ method: LayerRounding.Method) throws {
    var options = integers()
    options.weights = .int4
    options.activations = .int4
    options.migration = nil
    let nearest = try Quantize(options: options).measured(on: graph, in: context()).report
    var rounding = LayerRounding.Options()
    rounding.method = method
    rounding.adaquant.steps = 40
    rounding.adaquant.rangeRate = 0.01
    options.rounding = rounding
    let (quantized, report) = try Quantize(options: options).measured(on: graph, in: context())
    #expect(report.rows.map(\.name) == nearest.rows.map(\.name))
    var others = 0
    for (row, plain) in zip(report.rows, nearest.rows) where row.kind == "weight" {
      let expected = try meanSquaredError(of: row.name, in: quantized)
      #expect(abs(row.meanSquaredError / expected - 1) < 1e-3, "\(row.name)")
      if abs(row.meanSquaredError / plain.meanSquaredError - 1) > 0.01 { others += 1 }
    }
    // All layers but the ends of the towers, which have 8 bits, and the table, which has no layer.
    #expect(others >= 6 * (extents.imageLayers + extents.textLayers))
    let codes = quantized.nodes.compactMap { node in
      (node.op as? FakeQuantize).map { (quantized.name(of: node.inputs[0]), $0.parameters) }
    }
    let ranges = report.rows.filter { $0.kind == "activation" }
    #expect(ranges.map(\.name) == codes.map(\.0))
    #expect(ranges.map(\.smallestScale) == codes.map(\.1.scale))
    #expect(ranges.map(\.bitCount) == ranges.map { _ in 4 })
  }

  @Test func reportsErrorsAndBytes() throws {
    var options = integers()
    // The report is of the weights as they are rounded.
    options.migration = nil
    let (quantized, report) = try Quantize(options: options).measured(on: graph, in: context())
    #expect(report.bytesBefore == graph.storedByteCount)
    #expect(report.bytesAfter == quantized.storedByteCount)
    #expect(report.bytesAfter < report.bytesBefore / 2)
    let codes = quantized.parameterValues.filter {
      quantized.parameter($0)?.quantization != nil
    }
    let weights = report.rows.filter { $0.kind == "weight" }
    #expect(Set(weights.map(\.name)) == Set(codes.map { quantized.name(of: $0) }))
    for row in weights {
      let expected = try meanSquaredError(of: row.name, in: quantized)
      #expect(abs(row.meanSquaredError / expected - 1) < 1e-3)
      #expect((row.signalToNoise ?? 0) > 35)
    }
    #expect(report.rows.contains { $0.kind == "activation" && $0.name == "image.pooled" } == false)
    #expect(report.rows.count { $0.kind == "activation" } == 19)
  }
}
