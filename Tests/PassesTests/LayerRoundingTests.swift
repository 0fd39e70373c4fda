import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport
import Testing

@Suite struct LayerRoundingTests {
  private let sample: RoundingSample

  init() throws { sample = try RoundingSample() }

  private func options(_ method: LayerRounding.Method) -> LayerRounding.Options {
    var options = LayerRounding.Options()
    options.method = method
    options.adaquant.steps = 60
    options.adaquant.batch = 32
    options.adaquant.rows = 512
    return options
  }

  private func run(
    _ options: LayerRounding.Options, bits: Int = 3, activations: Int = 0
  ) throws -> (graph: Graph, errors: [LayerRounding.LayerError]) {
    let graph = activations > 0 ? try sample.roundingActivations(activations) : sample.graph
    return try LayerRounding(options: options).run(
      on: graph, float: sample.graph, quantizers: sample.quantizers(bits), in: sample.context)
  }

  private func energy(_ left: [Double], _ right: [Double]) -> Double {
    zip(left, right).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
  }

  private func outputError(_ graph: Graph) throws -> Double {
    try ["image.embeds", "text.embeds"].reduce(0) { sum, name in
      sum + energy(try sample.values(name, of: graph), try sample.values(name, of: sample.graph))
    }
  }

  @Test func nearestCodesAreThoseOfTheQuantizer() throws {
    var plain = options(.nearest)
    plain.correctsBias = false
    let made = try run(plain, bits: 4)
    #expect(made.errors.count == 27)
    for (name, quantizer) in sample.quantizers(4) {
      let own = try #require(sample.graph.parameter(named: name))
      #expect(made.graph.parameter(named: name) == (try quantizer.quantize(own, named: name)))
    }
    #expect(made.errors.allSatisfy { $0.before == $0.after && $0.after > 0 })
  }

  @Test(arguments: LayerRounding.Method.allCases, [0, 8])
  func errorsAreNoHigherThanOfNearestCodes(
    _ method: LayerRounding.Method, _ activations: Int
  ) throws {
    let made = try run(options(method), activations: activations)
    for error in made.errors { #expect(error.after <= error.before * 1.001) }
    let (before, after) = made.errors.reduce((0.0, 0.0)) {
      ($0.0 + $1.before, $0.1 + $1.after)
    }
    if method != .nearest { #expect(after < 0.8 * before) }
    for name in sample.quantizers(3).keys {
      #expect(made.graph.parameter(named: name)?.quantization?.bitCount == 3)
    }
  }

  @Test(arguments: [LayerRounding.Method.gptq, .adaquant])
  func embeddingsSufferLess(_ method: LayerRounding.Method) throws {
    var plain = options(.nearest)
    plain.correctsBias = false
    let nearest = try outputError(try run(plain).graph)
    let made = try run(options(method))
    #expect(try outputError(made.graph) < 0.5 * nearest)
    let rounded = try outputError(try run(plain, activations: 8).graph)
    #expect(try outputError(try run(options(method), activations: 8).graph) < 0.5 * rounded)
  }

  @Test func errorsAreThoseOfTheOutputs() throws {
    // Fewer rows go by than are kept, so that the figures are of all. Of the last blocks only the rows
    // of one token would be.
    let made = try run(options(.adaquant), activations: 6)
    for layer in ["image.layers.0.attention.query", "text.layers.0.mlp.fc1"] {
      let error = try #require(made.errors.first { $0.layer == layer + ".weight" })
      let original = try sample.values(layer, of: sample.graph)
      let now = try sample.values(layer, of: made.graph)
      let expected = (energy(original, now) / energy(original, original.map { _ in 0 }))
        .squareRoot()
      #expect(abs(error.after - expected) < 1e-3 * expected)
    }
  }

  @Test func biasesMakeUpForTheMeanError() throws {
    for method in LayerRounding.Method.allCases {
      let made = try run(options(method), activations: 6)
      for (layer, width) in [("image.layers.0.mlp.fc1", 40), ("text.layers.0.attention.key", 16)] {
        let original = try sample.values(layer, of: sample.graph)
        let now = try sample.values(layer, of: made.graph)
        var means = [Double](repeating: 0, count: width)
        for index in original.indices {
          means[index % width] +=
            (original[index] - now[index]) * Double(width) / Double(original.count)
        }
        #expect(means.allSatisfy { abs($0) < 1e-5 })
      }
    }
  }

  @Test func rangesOfInputsAreLearned() throws {
    let before = try sample.roundingActivations(3)
    var learning = options(.adaquant)
    learning.adaquant.steps = 200
    learning.adaquant.rangeRate = 0.01
    let learned = try run(learning, activations: 3)
    learning.adaquant.learnsRange = false
    let fixed = try run(learning, activations: 3)
    func codes(_ graph: Graph) -> [ActivationQuantization] {
      graph.nodes.compactMap { ($0.op as? FakeQuantize)?.parameters }
    }
    #expect(codes(fixed.graph) == codes(before))
    #expect(codes(learned.graph) != codes(before))
    #expect(codes(learned.graph).allSatisfy { $0.highest == 7 && $0.zeroPoint <= 7 })
    func sum(_ errors: [LayerRounding.LayerError]) -> Double {
      errors.reduce(0) { $0 + $1.after }
    }
    #expect(sum(learned.errors) < sum(fixed.errors))
    #expect(learned.graph.nodes.map(\.name) == before.nodes.map(\.name))
  }

  @Test(arguments: LayerRounding.Method.allCases)
  func layersMayBeTakenByThemselves(_ method: LayerRounding.Method) throws {
    var parallel = options(method)
    parallel.isSequential = false
    let made = try run(parallel)
    for error in made.errors { #expect(error.after <= error.before * 1.001) }
    var sequential = options(method)
    sequential.isSequential = true
    #expect(try outputError(try run(sequential).graph) <= outputError(made.graph))
  }

  @Test(arguments: LayerRounding.Method.allCases)
  func theSameSeedGivesTheSameBits(_ method: LayerRounding.Method) throws {
    let made = try [1, 2].map { _ in try run(options(method), activations: 8) }
    for value in made[0].graph.parameterValues {
      #expect(made[0].graph.parameter(value) == made[1].graph.parameter(value))
    }
    #expect(made[0].errors == made[1].errors)
  }

  @Test func tablesAndGroupsAreRounded() throws {
    var quantizers = sample.quantizers(4, group: 8)
    quantizers["text.token_embedding"] = WeightQuantizer(bitCount: 4)
    for method in LayerRounding.Method.allCases {
      let made = try LayerRounding(options: options(method)).run(
        on: sample.graph, float: sample.graph, quantizers: quantizers, in: sample.context)
      let table = try #require(made.graph.parameter(named: "text.token_embedding"))
      #expect(table.quantization?.bitCount == 4 && made.errors.count == 27)
      let weight = try #require(made.graph.parameter(named: "image.layers.1.mlp.fc2.weight"))
      #expect(weight.quantization?.scales.shape == [24, 5])
      // The table's error reaches the first text layer, whose answer is compared with the original.
      let first = try #require(made.errors.first { $0.layer.hasPrefix("text.") })
      #expect(first.before > 0.02)
    }
  }

  @Test func wrongNamesAndMissingDataAreSaid() throws {
    let error = #expect(throws: PassError.self) {
      try LayerRounding().run(
        on: sample.graph, float: sample.graph, quantizers: ["no.weight": WeightQuantizer()],
        in: sample.context)
    }
    #expect(error?.description.contains("no.weight") == true)
    #expect(throws: PassError.self) {
      try LayerRounding().run(
        on: sample.graph, float: sample.graph, quantizers: sample.quantizers(4),
        in: PassContext())
    }
  }
}
