import Execution
import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport
import Testing

/// The law of learned masks: what is left computes what the masked model computes.
@Suite struct AutomaticCompactionTests {
  /// What a set of masks closes.
  struct Case: CustomTestStringConvertible, Sendable {
    let testDescription: String
    let isClosed: @Sendable (MaskPlan.Mask, Int, Double) -> Bool
  }

  static let cases = [
    Case(testDescription: "nothing") { _, _, _ in false },
    Case(testDescription: "a third of heads, neurons and channels") { mask, _, chance in
      mask.kind != .layers && chance < 0.33
    },
    Case(testDescription: "all heads of the first layers, and channels") { mask, _, chance in
      mask.name.contains("layers.0.attention.heads") || (mask.kind == .width && chance < 0.3)
    },
    Case(testDescription: "all heads of the second layers") { mask, _, _ in
      mask.name.contains("layers.1.attention.heads")
    },
    Case(testDescription: "all neurons of the first layers") { mask, _, _ in
      mask.name.contains("layers.0.mlp.neurons")
    },
    Case(testDescription: "all neurons of the second layers, and channels") { mask, _, chance in
      mask.name.contains("layers.1.mlp.neurons") || (mask.kind == .width && chance < 0.3)
    },
    Case(testDescription: "the attention of the first layers") { mask, _, _ in
      mask.name.contains("layers.0.attention.output.branch")
    },
    Case(testDescription: "the first layers whole, and channels") { mask, _, chance in
      mask.kind == .layers && mask.name.contains("layers.0")
        || mask.kind == .width && chance < 0.5
    },
    Case(testDescription: "the second layers whole") { mask, _, _ in
      mask.kind == .layers && mask.name.contains("layers.1")
    },
    Case(testDescription: "every layer without units") { mask, _, _ in
      mask.kind == .heads || mask.kind == .neurons
    },
    Case(testDescription: "all but one channel") { mask, element, _ in
      mask.kind == .width && element != 3
    },
  ]

  @Test(arguments: cases)
  func compactEqualsMasked(_ example: Case) throws {
    for seed in UInt64(0)..<2 {
      let fixture = try MaskedFixture(seed: 20 + seed)
      let masks = fixture.masks(seed: seed, example.isClosed)
      let masked = try fixture.plan.masking(fixture.graph, masks: masks)
      let compact = try fixture.plan.compacting(fixture.graph, masks: masks)
      try compact.verify()
      #expect(!compact.nodes.contains { $0.op is ScaleAxis || $0.op is MaskedLayerNorm })
      for value in compact.values {
        #expect(!compact.tensorType(of: value).extents.contains(.fixed(0)))
      }
      let expected = fixture.parameterCount { name in
        Double(fixture.elements(name, of: masks).count { $0 > 0 })
      }
      #expect(Double(compact.parameterCount(of: Tower.allCases)) == expected)
      for tokens in [1, 4, fixture.extents.context] {
        let inputs = fixture.extents.inputs(seed: seed, items: 2, tokens: tokens)
        let definition = try Self.activations(masked: fixture, masks)
        let wide = try wideOutputs(masked, inputs)
        #expect(largestGap(wide, try wideOutputs(compact, inputs)) <= 1e-10)
        #expect(largestGap(wide, try wideOutputs(definition, inputs)) <= 1e-10)
        let fast = try Executor(compact).run(inputs)
        let narrow = ["image_embeds", "text_embeds"].flatMap {
          fast[$0]?.elements(of: Float.self).map { Double($0) } ?? []
        }
        #expect(largestGap(wide, narrow) <= 1e-4)
      }
    }
  }

  /// The masked model as the paper defines it: masks multiply activations.
  private static func activations(masked fixture: MaskedFixture, _ masks: [[Float]]) throws -> Graph
  {
    try fixture.graph.rewritten { node, rewriter throws(GraphError) in
      func mask(_ name: String, binary: Bool = false) throws(GraphError) -> Value {
        let elements = fixture.elements(name, of: masks).map { binary ? ($0 > 0 ? 1 : 0) : $0 }
        let unique = "m.\(rewriter.result.values.count)"
        return try rewriter.result.addParameter(
          unique, Parameter(Tensor(shape: [elements.count], elements)))
      }
      let name = node.name
      let tower = name.hasPrefix("image") ? "image" : "text"
      if let norm = node.op as? LayerNorm {
        var inputs: [Value] = []
        for input in node.inputs { inputs.append(try rewriter.image(of: input)) }
        inputs.append(try mask("\(tower).width", binary: true))
        let made = try rewriter.result.addNode(
          name, MaskedLayerNorm(epsilon: norm.epsilon), inputs)
        rewriter.setImage(of: node.outputs[0], to: made[0])
        return
      }
      try rewriter.copy(node)
      var value = try rewriter.image(of: node.outputs[0])
      func scale(_ mask: Value, unit: Int) throws(GraphError) {
        value = try rewriter.result.add(
          "m.\(rewriter.result.values.count)", ScaleAxis(axis: 2, unit: unit), value, mask)
      }
      if let attention = node.op as? Attention {
        try scale(try mask("\(name).heads"), unit: attention.headWidth)
      } else if name.hasSuffix("mlp.activation") {
        try scale(try mask(name.replacing("activation", with: "neurons")), unit: 1)
      } else if name.hasSuffix("attention.output") || name.hasSuffix("mlp.fc2") {
        let width = try mask("\(tower).width")
        let branch = try mask("\(name).branch")
        try scale(width, unit: 1)
        try scale(
          branch, unit: rewriter.result.tensorType(of: width).extents[0].fixedCount ?? 0)
      } else if name.hasSuffix("placed") {
        try scale(try mask("\(tower).width"), unit: 1)
      }
      rewriter.setImage(of: node.outputs[0], to: value)
    }
  }

  @Test func projectionIsNotScaled() throws {
    let fixture = try MaskedFixture(seed: 4)
    let masks = fixture.masks(seed: 8) { _, _, _ in false }
    let compact = try fixture.plan.compacting(fixture.graph, masks: masks)
    for name in ["image.projection.weight", "text.projection.weight", "image.pre_norm.weight"] {
      let before = try #require(fixture.graph.parameter(named: name))
      #expect(compact.parameter(named: name) == before)
    }
    let width = fixture.elements("text.width", of: masks)
    let before = try #require(fixture.graph.parameter(named: "text.token_embedding"))
    let after = try #require(compact.parameter(named: "text.token_embedding"))
    let scaled = before.tensor.elements(of: Float.self).enumerated().map {
      $0.element * width[$0.offset % width.count]
    }
    #expect(after.tensor.elements(of: Float.self) == scaled)
  }

  @Test func noTowerLosesAllChannels() throws {
    let fixture = try MaskedFixture(seed: 4)
    let masks = fixture.masks(seed: 8) { mask, _, _ in mask.name == "text.width" }
    #expect(throws: GraphError.self) { try fixture.plan.compacting(fixture.graph, masks: masks) }
  }

  @Test func masksThatAreNotLearnedChangeNothing() throws {
    let fixture = try MaskedFixture(seed: 6, kinds: [.neurons])
    let masks = fixture.masks(seed: 8) { mask, _, _ in mask.kind != .neurons }
    let compact = try fixture.plan.compacting(fixture.graph, masks: masks)
    #expect(
      compact.parameterCount(of: Tower.allCases)
        == fixture.graph.parameterCount(of: Tower.allCases))
    let inputs = fixture.extents.inputs(seed: 3)
    let masked = try fixture.plan.masking(fixture.graph, masks: masks)
    #expect(
      largestGap(try wideOutputs(masked, inputs), try wideOutputs(compact, inputs)) <= 1e-10)
    #expect(
      largestGap(try wideOutputs(fixture.graph, inputs), try wideOutputs(compact, inputs)) > 1e-3)
  }

  @Test func smallerModelsAreMaskedAgain() throws {
    let fixture = try MaskedFixture(seed: 5)
    let first = fixture.masks(seed: 1) { mask, _, chance in
      mask.name.contains("layers.1.attention.heads") || (mask.kind != .layers && chance < 0.2)
    }
    let compact = try fixture.plan.compacting(fixture.graph, masks: first)
    let plan = try MaskPlan(compact, learning: Set(MaskKind.allCases))
    #expect(!plan.masks.contains { $0.name.contains("layers.1.attention") })
    let second = plan.masks.map { mask in (0..<mask.count).map { Float($0 % 3) / 2 } }
      .enumerated().map { plan.masks[$0.offset].kind == .layers ? [Float(0.5)] : $0.element }
    let inputs = fixture.extents.inputs(seed: 3)
    let masked = try wideOutputs(try plan.masking(compact, masks: second), inputs)
    let again = try plan.compacting(compact, masks: second)
    #expect(
      again.parameterCount(of: Tower.allCases) < compact.parameterCount(of: Tower.allCases))
    // The second folding rounds in float32.
    #expect(largestGap(masked, try wideOutputs(again, inputs)) <= 1e-5)
  }
}
