import Execution
import GraphIR
import Passes
import TensorCore
import TestSupport
import Testing

@Suite struct SurgeonTests {
  private let graph: Graph
  private let context: PassContext

  init() throws {
    var extents = RandomCLIP()
    extents.imageLayers = 1
    extents.textLayers = 1
    graph = try extents.graph(seed: 71)
    let batches = (0..<6).map { Batch(inputs: extents.inputs(seed: UInt64($0), items: 20)) }
    context = PassContext(
      threadCount: 2, calibration: FixedBatches(batches: batches))
  }

  private func surgeon(damping: Double = 0.01, bias: Bool = false) -> SurgeonUnits {
    var options = SurgeonUnits.Options()
    options.problem.damping = damping
    options.problem.correctsBias = bias
    options.walk.selectsTokensEarly = false
    return SurgeonUnits(options: options)
  }

  private func group(_ kind: DependencyGroup.Kind) throws -> DependencyGroup {
    try #require(
      graph.dependencyGroups().first { $0.kind == kind && $0.name.hasPrefix("image") })
  }

  /// The inputs of `layer` on the calibration data, row by row, and its weight.
  private func sample(_ layer: String, _ graph: Graph) throws -> LayerSample {
    let node = try #require(graph.nodes.first { $0.name == layer })
    let weight = try #require(graph.parameter(node.inputs[1])).tensor
    let executor = try Executor(graph, outputs: [graph.name(of: node.inputs[0])])
    var inputs: [Float] = []
    try context.calibration?.forEachBatch { batch in
      for (_, tensor) in try executor.run(batch.inputs) {
        inputs += tensor.elements(of: Float.self)
      }
    }
    return try LayerSample(
      rows: weight.shape[0], columns: weight.shape[1], weights: weight.elements(of: Float.self),
      inputs: inputs)
  }

  /// What removing `gone` from the layer costs when each row is the best for what is left.
  private func cost(_ sample: LayerSample, without gone: [Int]) -> Double {
    let hessian = sample.hessian(damping: 0.01)
    let kept = (0..<sample.columns).filter { !gone.contains($0) }
    return (0..<sample.rows).reduce(0.0) { sum, row in
      let own = (0..<sample.columns).map { Double(sample.weights[row * sample.columns + $0]) }
      let best = bestRow(own, hessian, kept: kept)
      let step = zip(best, own).map { $0 - $1 }
      return sum
        + step.indices.reduce(0.0) { total, i in
          total + step[i] * step.indices.reduce(0.0) { $0 + hessian[i][$1] * step[$1] }
        }
    }
  }

  @Test func headsLeaveInTheOrderOfTheirOptimalCosts() throws {
    let heads = try group(.heads)
    let sample = try sample("image.layers.0.attention.output", graph)
    let units = try surgeon().importances(of: [heads], in: graph, context: context)[0]
    let parameters = Double(heads.parameterCountPerUnit(in: graph))
    var gone: [Int] = []
    var spent = 0.0
    var highest = 0.0
    while gone.count < heads.unitCount {
      let left = (0..<heads.unitCount).filter { !gone.contains($0) }
      let costs = left.map { cost(sample, without: heads.indices(of: gone + [$0])) - spent }
      let cheapest = try #require(left.indices.min { costs[$0] < costs[$1] })
      highest = max(highest, costs[cheapest])
      #expect(abs(units[left[cheapest]] * parameters - highest) < 1e-3 * highest)
      spent += costs[cheapest]
      gone.append(left[cheapest])
    }
  }

  @Test func neuronsCostWhatTheirRemovalCosts() throws {
    let neurons = try group(.neurons)
    let sample = try sample("image.layers.0.mlp.fc2", graph)
    let units = try surgeon().importances(of: [neurons], in: graph, context: context)[0]
    let inverted = inverse(sample.hessian(damping: 0.01))
    let costs = (0..<sample.columns).map { column in
      (0..<sample.rows).reduce(0.0) {
        let weight = Double(sample.weights[$1 * sample.columns + column])
        return $0 + weight * weight / inverted[column][column]
      }
    }
    let first = try #require(costs.indices.min { costs[$0] < costs[$1] })
    let cheapest = try #require(units.indices.min { units[$0] < units[$1] })
    #expect(first == cheapest)
    let parameters = Double(neurons.parameterCountPerUnit(in: graph))
    #expect(abs(units[first] * parameters - costs[first]) < 1e-3 * costs[first])
    #expect(units.allSatisfy { $0 >= units[first] })
  }

  @Test func ofTwoUnitsThatStandForEachOtherOnlyOneIsCheap() throws {
    var twins = graph
    for name in ["fc1.weight", "fc1.bias"] {
      let value = try #require(graph.value(named: "image.layers.0.mlp.\(name)"))
      let tensor = try #require(graph.parameter(value)).tensor
      let order = [0, 0] + Array(2..<40)
      try twins.setParameter(value, Parameter(tensor.selecting(order, onAxis: 0)))
    }
    let neurons = try #require(
      twins.dependencyGroups().first { $0.kind == .neurons && $0.name.hasPrefix("image") })
    let units = try surgeon(damping: 1e-6).importances(
      of: [neurons], in: twins, context: context)[0]
    let ordered = units.sorted()
    #expect(min(units[0], units[1]) == ordered[0])
    #expect(max(units[0], units[1]) > 100 * ordered[0])
  }

  @Test(arguments: [DependencyGroup.Kind.heads, .neurons])
  func compensationIsTheLeastSquaresOptimum(_ kind: DependencyGroup.Kind) throws {
    let group = try group(kind)
    let removal = UnitRemoval(group: group, units: [1])
    let changed = try surgeon().compensated(graph, removing: [removal], in: context)
    let layer = kind == .heads ? "attention.output" : "mlp.fc2"
    let sample = try sample("image.layers.0.\(layer)", graph)
    let hessian = sample.hessian(damping: 0.01)
    let found = try #require(changed.parameter(named: "image.layers.0.\(layer).weight"))
      .tensor.elements(of: Float.self)
    let gone = group.indices(of: [1])
    let kept = (0..<sample.columns).filter { !gone.contains($0) }
    for row in 0..<sample.rows {
      let range = (row * sample.columns)..<((row + 1) * sample.columns)
      let best = bestRow(sample.weights[range].map { Double($0) }, hessian, kept: kept)
      #expect(relativeDifference(Array(found[range]), best) < 1e-4)
    }
  }

  @Test func biasMakesUpForTheMean() throws {
    let neurons = try group(.neurons)
    let removal = UnitRemoval(group: neurons, units: Set(0..<40))
    let changed = try surgeon(bias: true).compensated(graph, removing: [removal], in: context)
    let sample = try sample("image.layers.0.mlp.fc2", graph)
    let before = try #require(graph.parameter(named: "image.layers.0.mlp.fc2.bias"))
      .tensor.elements(of: Float.self)
    let after = try #require(changed.parameter(named: "image.layers.0.mlp.fc2.bias"))
      .tensor.elements(of: Float.self)
    let count = sample.inputs.count / 40
    for row in 0..<sample.rows {
      var mean = 0.0
      for index in sample.inputs.indices {
        mean +=
          Double(sample.inputs[index]) * Double(sample.weights[row * 40 + index % 40])
          / Double(count)
      }
      #expect(abs(Double(after[row] - before[row]) - mean) < 1e-4)
    }
  }

  @Test func removedAndMaskedModelsAgree() throws {
    let removals = try [group(.heads), group(.neurons)].map {
      UnitRemoval(group: $0, units: Set(0..<($0.unitCount / 2)))
    }
    let changed = try surgeon(bias: true).compensated(graph, removing: removals, in: context)
    let physical = try changed.removing(removals)
    let masked = try changed.masking(removals)
    let inputs = RandomCLIP().inputs(seed: 77, items: 3)
    let one = try outputs(physical, inputs)
    #expect(largestDifference(one, try outputs(masked, inputs)) < 1e-5)
    // The units that go have no influence any more.
    #expect(largestDifference(one, try outputs(changed, inputs)) < 1e-5)
  }

  @Test func widthIsRefused() throws {
    let width = try #require(graph.dependencyGroups().first { $0.kind == .width })
    #expect(throws: PassError.self) {
      try surgeon().importances(of: [width], in: graph, context: context)
    }
  }
}
