import GraphIR
import Passes
import TensorCore
import TestSupport
import Testing

/// Soups, and what cannot be merged.
@Suite struct MergingTests {
  private let extents = RandomCLIP()

  private func check(_ graphs: [Graph], allowsMasks: Bool = false) throws(PassError) {
    try Merging.check(
      graphs.enumerated().map { MergeIngredient(name: "model \($0)", graph: $1) },
      allowsMasks: allowsMasks)
  }

  @Test(arguments: 2...5)
  func copiesGiveTheModel(_ count: Int) throws {
    let graph = try extents.graph(seed: 1)
    let weights = (1...count).map { Double($0) * 0.7 }
    for weights in [nil, weights] {
      let soup = try Merging.average([Graph](repeating: graph, count: count), weights: weights)
      for value in graph.parameterValues {
        #expect(soup.parameter(value) == graph.parameter(value))
      }
    }
  }

  @Test func meansAreThoseOfFloat64() throws {
    let graphs = try (1...3).map { try extents.graph(seed: $0) }
    let weights = [0.5, 3, 1.25]
    let soup = try Merging.average(graphs, weights: weights)
    var worst = 0.0
    for value in graphs[0].parameterValues {
      let parts = graphs.map { $0.parameter(value)?.tensor.elements(of: Float.self) ?? [] }
      let found = try #require(soup.parameter(value)?.tensor.elements(of: Float.self))
      for index in found.indices {
        let expected =
          zip(parts, weights).reduce(0.0) { $0 + Double($1.0[index]) * $1.1 } / 4.75
        worst = max(worst, abs(Double(found[index]) - expected) / max(1, abs(expected)))
      }
    }
    #expect(worst <= 1e-7)
    #expect(soup.parameter(named: "logit_scale") != nil)
    #expect(
      try Merging.average(graphs, weights: [0, 2, 0]).largestParameterDifference(to: graphs[1])
        < 1e-6)
  }

  @Test(arguments: [[1.0, 1], [1, 1, -1], [0, 0, 0], [.infinity, 1, 1], [.nan, 1, 1]])
  func weightsThatAreNoWeights(_ weights: [Double]) throws {
    let graphs = try (1...3).map { try extents.graph(seed: $0) }
    #expect(throws: PassError.self) { try Merging.average(graphs, weights: weights) }
  }

  @Test func differencesAreNamed() throws {
    let graph = try extents.graph(seed: 1)
    func message(_ other: Graph, allowsMasks: Bool = false) -> String {
      do throws(PassError) {
        try check([graph, other], allowsMasks: allowsMasks)
        return ""
      } catch {
        return error.description
      }
    }
    #expect(message(try extents.graph(seed: 2)) == "")
    var wider = extents
    wider.imageNeurons += 8
    let width = message(try wider.graph(seed: 1))
    #expect(width.contains("image.layers.0.mlp.fc1.weight") && width.contains("model 1"))
    #expect(width.contains("[40, 24]") && width.contains("[48, 24]"))
    var deeper = extents
    deeper.textLayers += 1
    #expect(message(try deeper.graph(seed: 1)).contains("text.layers.2"))
    var other = extents
    other.usesQuickGELU = false
    #expect(message(try other.graph(seed: 1)).contains("image.layers.0.mlp.activation"))
    let broken = try graph.changingElements { name, elements in
      if name == "text.token_embedding" { elements[3] = .nan }
    }
    #expect(message(broken).contains("text.token_embedding"))
    #expect(throws: PassError.self) { try check([graph]) }
    var masked = graph
    let weight = try #require(graph.value(named: "image.layers.0.mlp.fc1.weight"))
    var parameter = try #require(graph.parameter(weight))
    parameter.mask = Tensor(
      shape: parameter.tensor.shape, (0..<parameter.tensor.count).map { UInt8($0 % 2) })
    try masked.setParameter(weight, parameter)
    #expect(message(masked, allowsMasks: true).contains("the same mask"))
    #expect(throws: PassError.self) { try check([masked, masked]) }
    try check([masked, masked], allowsMasks: true)
    let codes = try PassPipeline([Quantize(options: .init())]).run(
      on: graph, inputSHA256: "", in: PassContext())
    #expect(message(codes).contains("integer codes"))
  }

  /// Accuracy is any function of the weights: here, how near one weight is to a number.
  @Test func greedySoupsAreNeverWorseThanTheBest() throws {
    for seed in UInt64(0)..<8 {
      let graph = try extents.graph(seed: seed)
      let graphs = try (0..<5).map { try graph.disturbed(seed: seed * 10 + $0, scale: 0.3) }
      func accuracy(_ graph: Graph) -> Double {
        let scale = graph.parameter(named: "logit_scale")?.tensor.elements(of: Float.self)[0] ?? 0
        return -abs(Double(scale) - 2.6)
      }
      let soup = try GreedySoup(graphs, accuracy: accuracy)
      let best = graphs.map(accuracy).max() ?? 0
      #expect(soup.accuracy >= best)
      #expect(abs(accuracy(soup.graph) - soup.accuracy) < 1e-12)
      #expect(soup.steps.map(\.alone) == soup.steps.map(\.alone).sorted(by: >))
      #expect(soup.steps.first?.isTaken == true)
      let taken = soup.steps.filter(\.isTaken).map { graphs[$0.model] }
      #expect(try Merging.average(taken).largestParameterDifference(to: soup.graph) == 0)
    }
  }

  @Test func greedySoupsTakeWhatDoesNoHarmAndLeaveTheRest() throws {
    let graphs = try (1...3).map { try extents.graph(seed: $0) }
    #expect(try GreedySoup(graphs) { _ in 0.5 }.steps.map(\.isTaken) == [true, true, true])
    var asked = 0
    let falling = try GreedySoup(graphs) { _ in
      asked += 1
      return asked <= 3 ? [0.7, 0.9, .nan][asked - 1] : 0.8
    }
    #expect(falling.steps.map(\.model) == [1, 0, 2])
    #expect(falling.steps.map(\.isTaken) == [true, false, false])
    #expect(falling.graph.largestParameterDifference(to: graphs[1]) == 0)
  }
}
