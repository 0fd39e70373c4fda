import Execution
import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport
import Testing

@Suite struct MergeExpertsTests {
  private let extents = RandomCLIP()

  init() throws { try Matrix.open() }

  private func sparse(experts: Int = 4, topK: Int = 2, noise: Double = 0) throws -> Graph {
    var options = Upcycle.Options()
    options.experts = experts
    options.topK = topK
    options.noise = noise
    options.routerDeviation = 1
    return try Upcycle(options: options).run(on: try extents.graph(seed: 1), in: PassContext())
  }

  private func merged(
    _ graph: Graph, _ experts: Int, _ method: MergeExperts.Method = .merge
  ) throws -> (graph: Graph, rows: [MergeExperts.Row]) {
    var options = MergeExperts.Options()
    options.experts = experts
    options.method = method
    let batches = (0..<3).map { Batch(inputs: extents.inputs(seed: UInt64($0), items: 6)) }
    var rows: [MergeExperts.Row] = []
    let context = PassContext(
      calibration: FixedBatches(batches: batches),
      report: { event in
        if case .result(let report as MergeExperts.Report) = event { rows = report.rows }
      })
    let result = try MergeExperts(options: options).run(on: graph, in: context)
    try result.verify()
    return (result, rows)
  }

  private func difference(_ a: Graph, _ b: Graph) throws -> Float {
    let inputs = extents.inputs(seed: 40, items: 3)
    return zip(try outputs(a, inputs), try outputs(b, inputs)).reduce(0) {
      max($0, abs($1.0 - $1.1))
    }
  }

  /// Copies under one weight each are the dense model, however many of them are left.
  @Test(arguments: MergeExperts.Method.allCases)
  func copiesMergeWithoutLoss(_ method: MergeExperts.Method) throws {
    let graph = try sparse()
    let (small, rows) = try merged(graph, 2, method)
    #expect(small.expertLayers.allSatisfy { $0.expertCount == 2 })
    #expect(rows.count == 2 && rows.allSatisfy { $0.groups.count == 2 })
    #expect(try difference(graph, small) < 1e-5)
    #expect(small.parameter(named: "image.layers.1.mlp.experts.1.fc1.weight") != nil)
    #expect(small.parameter(named: "image.layers.1.mlp.experts.2.fc1.weight") == nil)
  }

  /// Two pairs of experts, in each of which one is the other with its neurons in another order.
  @Test func permutedTwinsFindEachOther() throws {
    var graph = try sparse(topK: 1, noise: 0.8)
    for layer in graph.expertLayers {
      for (to, from) in [(2, 0), (3, 1)] {
        let count = layer.name.hasPrefix("image") ? 40 : 32
        var random = SplitMix64(seed: 3)
        let order = Array(0..<count).shuffled(using: &random)
        for (target, value) in zip(
          layer.parameters(ofExpert: to), layer.parameters(ofExpert: from))
        {
          let name = graph.name(of: value)
          let tensor = try #require(graph.parameter(value)?.tensor)
          let axis = name.hasSuffix("fc2.weight") ? 1 : name.contains("fc1") ? 0 : nil
          try graph.setParameter(
            target, Parameter(axis.map { tensor.selecting(order, onAxis: $0) } ?? tensor))
        }
      }
      // Twins also share what the router says, so that nothing is lost.
      let router = try #require(graph.value(named: "\(layer.name).router.weight"))
      let rows = try #require(graph.parameter(router)?.tensor)
      try graph.setParameter(router, Parameter(rows.selecting([0, 1, 0, 1], onAxis: 0)))
    }
    let (small, rows) = try merged(graph, 2)
    #expect(rows.allSatisfy { $0.groups == [[0, 2], [1, 3]] }, "\(rows)")
    #expect(try difference(graph, small) < 1e-5)
  }

  @Test func theLeastUsedGo() throws {
    let graph = try sparse(experts: 5, topK: 1, noise: 0.3)
    let (small, rows) = try merged(graph, 3, .prune)
    for (row, layer) in zip(rows, small.expertLayers) {
      let kept = row.groups.map { $0[0] }
      let gone = (0..<5).filter { !kept.contains($0) }
      #expect(abs(row.use.reduce(0, +) - 1) < 1e-9)
      #expect(kept.allSatisfy { k in gone.allSatisfy { row.use[k] >= row.use[$0] } })
      let own = layer.parameters(ofExpert: 1).compactMap { small.parameter($0)?.tensor }
      let old = try #require(graph.expertLayers.first { $0.name == row.layer })
      #expect(own == old.parameters(ofExpert: kept[1]).compactMap { graph.parameter($0)?.tensor })
    }
  }

  @Test func badChoicesAreRefused() throws {
    let graph = try sparse()
    for count in [0, 1, 5] {
      #expect(throws: PassError.self) { try merged(graph, count) }
    }
    #expect(throws: PassError.self) { try merged(try extents.graph(seed: 1), 2) }
    #expect(throws: PassError.self) { try MergeExperts().run(on: graph, in: PassContext()) }
  }
}
