import Execution
import GraphIR
import Passes
import TensorCore
import TestSupport
import Testing
import Training

/// Which units stay when masks are no longer drawn.
@Suite struct AutomaticMaskChoiceTests {
  private static func block(
    _ form: MaskedForm, _ names: [String], _ fill: (String, Int) -> Float?
  ) throws -> ParameterBlock {
    let tensors = try names.map { try #require(form.graph.parameter(named: $0)).tensor }
    let block = ParameterBlock(zip(names, tensors).map { (name: $0, shape: $1.shape) })
    for (entry, tensor) in zip(block.entries, tensors) {
      block.set(entry, tensor)
      for element in 0..<entry.range.count {
        if let value = fill(entry.name, element) { block.slice(entry)[element] = value }
      }
    }
    return block
  }

  private static func result(_ form: MaskedForm, _ loga: (String, Int) -> Float?) throws -> Graph {
    try form.result(
      weights: block(form, form.weights) { _, _ in nil },
      controls: block(form, form.controls.map(\.name), loga))
  }

  @Test(arguments: [0.9, 0.75, 0.5, 0.25], 0..<4)
  func sizeIsMet(_ keep: Double, _ seed: UInt64) throws {
    let graph = try MaskedFixture(seed: seed).graph
    let form = try MaskedForm(graph, options: .init(keep: keep, kinds: MaskKind.allCases))
    var random = SplitMix64(seed: seed)
    let small = try Self.result(form) { name, _ in
      name.contains("lambda") ? nil : Float(random.nextNormal() * 2 + 0.5)
    }
    try small.verify()
    let share =
      Double(small.parameterCount(of: Tower.allCases))
      / Double(graph.parameterCount(of: Tower.allCases))
    #expect(abs(share - keep) <= 0.005)
    #expect(!small.parameterValues.contains { small.name(of: $0).hasPrefix("mask.") })
    #expect(small.inputs.count == graph.inputs.count)
  }

  /// However closed the masks are, both towers keep a branch, and the size is met.
  @Test(arguments: [Float(-4.6), 4.6])
  func extremeMasks(_ loga: Float) throws {
    let graph = try MaskedFixture(seed: 9).graph
    for keep in [0.12, 0.5] {
      let form = try MaskedForm(graph, options: .init(keep: keep, kinds: MaskKind.allCases))
      let small = try Self.result(form) { name, _ in name.contains("lambda") ? nil : loga }
      let share =
        Double(small.parameterCount(of: Tower.allCases))
        / Double(graph.parameterCount(of: Tower.allCases))
      #expect(abs(share - keep) <= 0.01, "\(share)")
      for tower in ["image", "text"] {
        #expect(small.parameterValues.contains { small.name(of: $0).hasPrefix("\(tower).layers") })
      }
    }
  }

  @Test func softValuesStayWithTheHighest() throws {
    let fixture = try MaskedFixture(seed: 2, kinds: [.neurons])
    // P(open) of 1 and -4 is 0.931 and 0.083: a layer of n with half of each expects 0.507 n.
    let loga = fixture.plan.masks.map { mask in
      (0..<mask.count).map { element -> Float in element % 2 == 0 ? 1 : -4 }
    }
    let units = fixture.plan.masks.first { $0.name == "image.layers.0.mlp.neurons" }?.count ?? 0
    let closed = (Double(units) * (1 - (0.930_857 + 0.083_064) / 2)).rounded()
    let open = Double(units) - closed
    let target = fixture.parameterCount { name in
      if name.hasSuffix("neurons") {
        let count = Double(fixture.plan.masks.first { $0.name == name }?.count ?? 0)
        return count - (count * (1 - (0.930_857 + 0.083_064) / 2)).rounded()
      }
      return Double(fixture.plan.masks.first { $0.name == name }?.count ?? 0)
    }
    let masks = fixture.plan.finalMasks(of: loga, keeping: Int(target))
    let found = fixture.elements("image.layers.0.mlp.neurons", of: masks)
    #expect(Double(found.count { $0 > 0 }) == open)
    // sigmoid(0.8 * 1 * 1.5) = 0.768525
    for element in stride(from: 0, to: units, by: 2) {
      #expect(abs(found[element] - 0.768_525) < 1e-5)
    }
  }

  @Test func quantizedStudentsAreRefused() throws {
    var graph = try MaskedFixture(seed: 2).graph
    let value = try #require(graph.value(named: "text.layers.0.mlp.fc1.weight"))
    let tensor = try #require(graph.parameter(value)).tensor
    let scales = Tensor(shape: [tensor.shape[0]], [Float](repeating: 1, count: tensor.shape[0]))
    let codes = Tensor(shape: tensor.shape, [Int8](repeating: 1, count: tensor.count))
    let quantization = WeightQuantization(bitCount: 8, scales: scales)
    try graph.setParameter(value, Parameter(codes, quantization: quantization))
    #expect {
      try MaskedForm(graph, options: .init(keep: 0.5))
    } throws: { "\($0)".contains("quantize then") }
  }

  @Test func optionsOutOfReachAreRefused() throws {
    let graph = try MaskedFixture(seed: 2).graph
    for options in [
      MaskedForm.Options(keep: 0), .init(keep: 1.1), .init(keep: 0.5, rampSteps: 0),
      .init(keep: 0.5, startSparsity: 1), .init(keep: 0.5, kinds: []),
      .init(keep: 0.3, kinds: [.heads]),
    ] {
      #expect(throws: PassError.self) { try MaskedForm(graph, options: options) }
    }
  }
}
