import Execution
import GraphIR
import Passes
import TensorCore
import TestSupport
import Testing

@Suite struct LayerwisePruningTests {
  private let graph: Graph
  private let weights: [Value]
  private let context: PassContext

  init() throws {
    graph = try RandomCLIP().graph(seed: 91)
    weights = graph.prunableWeights(of: [.image, .text])
    let batches = (0..<4).map { Batch(inputs: RandomCLIP().inputs(seed: UInt64($0), items: 12)) }
    context = PassContext(
      threadCount: 2, calibration: FixedBatches(batches: batches))
  }

  private func pruned(
    _ method: LayerwisePruning.Method, _ structure: PruningStructure, _ sparsity: Double = 0,
    scope: PruningScope = .layer, of start: Graph? = nil
  ) throws -> Graph {
    try LayerwisePruning(method: method).apply(
      to: start ?? graph, structure: structure, sparsity: sparsity, scope: scope, tower: .both,
      in: context)
  }

  private func zeros(_ graph: Graph, _ weight: Value) -> [Int] {
    let mask = graph.parameter(weight)?.mask?.elements(of: UInt8.self) ?? []
    return mask.indices.filter { mask[$0] == 0 }
  }

  @Test(arguments: LayerwisePruning.Method.allCases)
  func countsAreExactAndMasksHideZeros(_ method: LayerwisePruning.Method) throws {
    let half = try pruned(method, .weights, 0.53)
    let pattern = try pruned(method, .pattern(kept: 2, block: 4))
    for weight in weights {
      let count = graph.parameter(weight)?.tensor.count ?? 0
      #expect(zeros(half, weight).count == Int(0.53 * Double(count) + 1e-6))
      #expect(zeros(pattern, weight).count == count / 2)
    }
    // A physical model, zeros instead of masks, computes the same.
    let inputs = RandomCLIP().inputs(seed: 7, items: 3)
    for masked in [half, pattern] {
      var physical = masked
      for weight in weights {
        let elements = try #require(masked.parameter(weight)).materialized
        try physical.setParameter(weight, Parameter(elements))
      }
      let difference = largestDifference(try outputs(masked, inputs), try outputs(physical, inputs))
      #expect(difference <= 1e-5)
    }
  }

  @Test func wandaLeavesWhatStaysAsItIs() throws {
    let half = try pruned(.wanda, .weights, 0.5)
    for weight in weights {
      #expect(half.parameter(weight)?.tensor == graph.parameter(weight)?.tensor)
    }
    for value in graph.parameterValues where !weights.contains(value) {
      #expect(half.parameter(value) == graph.parameter(value))
    }
  }

  @Test func globalScopeIsExactOverAllLayers() throws {
    let model = try pruned(.sparsegpt, .weights, 0.6, scope: .global)
    let total = weights.reduce(0) { $0 + (graph.parameter($1)?.tensor.count ?? 0) }
    let gone = weights.map { zeros(model, $0).count }
    #expect(gone.reduce(0, +) == Int(0.6 * Double(total) + 1e-6))
    let shares = zip(gone, weights).map {
      Double($0) / Double(graph.parameter($1)?.tensor.count ?? 1)
    }
    #expect((shares.max() ?? 0) - (shares.min() ?? 0) > 0.02)
    #expect((shares.max() ?? 1) <= 0.96)
  }

  @Test(arguments: LayerwisePruning.Method.allCases)
  func whatIsMaskedStaysMasked(_ method: LayerwisePruning.Method) throws {
    let once = try pruned(method, .weights, 0.3)
    let twice = try pruned(method, .weights, 0.6, of: once)
    for weight in weights {
      #expect(Set(zeros(once, weight)).isSubset(of: zeros(twice, weight)))
      let count = graph.parameter(weight)?.tensor.count ?? 0
      #expect(zeros(twice, weight).count == Int(0.6 * Double(count) + 1e-6))
    }
  }

  @Test func embeddingsSufferLessThanFromMagnitude() throws {
    let inputs = RandomCLIP().inputs(seed: 3, items: 12)
    let before = try outputs(graph, inputs)
    func error(_ graph: Graph) throws -> Float {
      zip(try outputs(graph, inputs), before).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
    }
    var magnitude = graph
    let masks = try WeightMasks(MagnitudeImportance()).perLayer(
      weights, in: graph, sparsity: 0.5)
    for (weight, mask) in masks {
      var parameter = try #require(graph.parameter(weight))
      parameter.mask = mask
      try magnitude.setParameter(weight, parameter)
    }
    let plain = try error(magnitude)
    #expect(try error(try pruned(.sparsegpt, .weights, 0.5)) < 0.7 * plain)
    #expect(try error(try pruned(.netTrim, .weights, 0.5)) < 0.7 * plain)
  }

  @Test func sameInputsGiveTheSameBits() throws {
    let first = try pruned(.sparsegpt, .weights, 0.5)
    let second = try pruned(.sparsegpt, .weights, 0.5)
    for value in graph.parameterValues {
      #expect(first.parameter(value) == second.parameter(value))
    }
  }

  @Test func whatCannotBeIsRefused() throws {
    let odd = #expect(throws: PassError.self) {
      try pruned(.sparsegpt, .pattern(kept: 3, block: 7))
    }
    #expect(odd?.description.contains("image.layers.0.attention.query.weight") == true)
    #expect(throws: PassError.self) { try pruned(.wanda, .heads, 0.5) }
    #expect(throws: PassError.self) { try pruned(.wanda, .weights, 1) }
    let codes = try Quantize().run(on: graph, in: PassContext())
    #expect(throws: PassError.self) { try pruned(.sparsegpt, .weights, 0.5, of: codes) }
    let masked = try pruned(.wanda, .weights, 0.5, of: codes)
    for weight in weights {
      #expect(masked.parameter(weight)?.quantization != nil)
      #expect(zeros(masked, weight).count == (graph.parameter(weight)?.tensor.count ?? 0) / 2)
    }
  }
}
