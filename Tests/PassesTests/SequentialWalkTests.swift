import Execution
import GraphIR
import Passes
import TensorCore
import TestSupport
import Testing

@Suite struct SequentialWalkTests {
  private let graph: Graph
  private let weights: [Value]
  private let source: CountingBatches

  /// Batches that count how often they are asked for.
  final class CountingBatches: BatchSource {
    let batches: [Batch]
    private(set) var passCount = 0

    init(_ batches: [Batch]) { self.batches = batches }

    func forEachBatch(_ body: (Batch) throws -> Void) throws {
      passCount += 1
      for batch in batches { try body(batch) }
    }
  }

  init() throws {
    graph = try RandomCLIP().graph(seed: 81)
    weights = graph.prunableWeights(of: [.image, .text])
    let images = (0..<2).map { seed in
      Batch(
        inputs: RandomCLIP().inputs(seed: UInt64(seed), items: 3).filter {
          $0.key == "pixel_values"
        })
    }
    let texts = [4, 9].map { tokens in
      Batch(
        inputs: RandomCLIP().inputs(seed: 5, items: 4, tokens: tokens).filter {
          $0.key == "input_ids"
        })
    }
    source = CountingBatches(images + texts)
  }

  private var context: PassContext { PassContext(threadCount: 2, calibration: source) }

  private func walk(_ change: (inout SequentialWalk.Options) -> Void) -> SequentialWalk {
    var options = SequentialWalk.Options()
    options.selectsTokensEarly = false
    change(&options)
    return SequentialWalk(pass: "test", options: options)
  }

  /// `XᵀX` of what `layer` of `graph` reads, in float64 from the definitions, and the rows.
  private func moments(_ layer: String, _ graph: Graph) throws -> (products: [Double], rows: Int) {
    let node = try #require(graph.nodes.first { $0.name == layer })
    let name = graph.name(of: node.inputs[0])
    let input = layer.hasPrefix("image") ? "pixel_values" : "input_ids"
    let executor = try Executor(graph, outputs: [name], arithmetic: .float64)
    var products: [Double] = []
    var rows = 0
    for batch in source.batches where batch.inputs[input] != nil {
      let tensor = try #require(try executor.run(batch.inputs)[name])
      let width = tensor.shape.last ?? 1
      let elements = tensor.elements(of: Double.self)
      if products.isEmpty { products = [Double](repeating: 0, count: width * width) }
      for start in stride(from: 0, to: elements.count, by: width) {
        rows += 1
        for i in 0..<width {
          for j in 0..<width {
            products[i * width + j] += elements[start + i] * elements[start + j]
          }
        }
      }
    }
    return (products, rows)
  }

  private func halved(_ layer: CalibratedLayer) -> LayerChange {
    let half = layer.weight.tensor.elements(of: Float.self).map { $0 / 2 }
    return LayerChange(weight: Parameter(Tensor(shape: layer.weight.tensor.shape, half)))
  }

  private func expectMoments(of layer: CalibratedLayer, in graph: Graph) throws {
    let (products, rows) = try moments(layer.name, graph)
    #expect(layer.statistics.rowCount == rows)
    let moments = layer.statistics.moments(centred: false).map { Float($0 * Double(rows)) }
    #expect(relativeDifference(moments, products) < 1e-5)
  }

  @Test func momentsAreThoseOfTheInputs() throws {
    var visited: [CalibratedLayer] = []
    let same = try walk { _ in }.run(on: graph, weights: weights, in: context) {
      layer throws(PassError) in
      visited.append(layer)
      return nil
    }
    #expect(visited.map(\.weightName) == weights.map { graph.name(of: $0) })
    for layer in visited { try expectMoments(of: layer, in: graph) }
    for weight in weights { #expect(same.parameter(weight) == graph.parameter(weight)) }
    // Query, key and value read the same, so they share the moments.
    #expect(visited[0].statistics === visited[1].statistics)
    #expect(visited[0].statistics === visited[2].statistics)
    #expect(source.passCount == 1)
  }

  @Test func laterLayersSeeWhatEarlierOnesMakeNow() throws {
    var visited: [CalibratedLayer] = []
    var seen: [Graph] = []
    var changing = graph
    let result = try walk { _ in }.run(on: graph, weights: weights, in: context) {
      layer throws(PassError) in
      visited.append(layer)
      seen.append(changing)
      let change = halved(layer)
      if let value = changing.value(named: layer.weightName) {
        do throws(GraphError) { try changing.setParameter(value, change.weight) } catch {
          throw .graph(pass: "test", error)
        }
      }
      return change
    }
    for (layer, before) in zip(visited, seen) { try expectMoments(of: layer, in: before) }
    for weight in weights { #expect(result.parameter(weight) == changing.parameter(weight)) }
  }

  @Test func originalInputsAreSeenOnRequest() throws {
    var visited: [CalibratedLayer] = []
    _ = try walk { $0.isSequential = false }.run(on: graph, weights: weights, in: context) {
      layer throws(PassError) in
      visited.append(layer)
      return halved(layer)
    }
    for layer in visited { try expectMoments(of: layer, in: graph) }
  }

  @Test func driftIsTheWayBackToTheOriginalInputs() throws {
    var visited: [CalibratedLayer] = []
    let result = try walk { $0.followsOriginal = true }.run(
      on: graph, weights: weights, in: context
    ) { layer throws(PassError) in
      visited.append(layer)
      return halved(layer)
    }
    let last = try #require(visited.last { $0.name.hasPrefix("image") })
    let node = try #require(graph.nodes.first { $0.name == last.name })
    let name = graph.name(of: node.inputs[0])
    // The layer itself was not changed yet when it was visited; its input does not depend on it.
    let executors = try [graph, result].map { try Executor($0, outputs: [name]) }
    var drift = [Double](repeating: 0, count: last.statistics.width)
    for batch in source.batches where batch.inputs["pixel_values"] != nil {
      let tensors = try executors.map {
        try $0.run(batch.inputs)[name]?.elements(of: Float.self) ?? []
      }
      for (index, (old, new)) in zip(tensors[0], tensors[1]).enumerated() {
        drift[index % drift.count] += Double(old) - Double(new)
      }
    }
    #expect(
      relativeDifference(
        last.statistics.driftMeans.map { Float($0 * Double(last.statistics.rowCount)) }, drift)
        < 1e-4)
    #expect(drift.contains { abs($0) > 0.1 })
  }

  @Test func rowsThatNothingReadsAreLeftOut() throws {
    var rows: [String: Int] = [:]
    _ = try walk { $0.selectsTokensEarly = true }.run(on: graph, weights: weights, in: context) {
      layer throws(PassError) in
      rows[layer.weightName] = layer.statistics.rowCount
      return nil
    }
    #expect(rows["image.layers.0.mlp.fc1.weight"] == 6 * 5)
    #expect(rows["image.layers.1.attention.key.weight"] == 6 * 5)
    #expect(rows["image.layers.1.mlp.fc2.weight"] == 6)
    #expect(rows["text.layers.1.mlp.fc2.weight"] == 8)
    #expect(rows.count == weights.count)
  }

  @Test func missingDataAreNamed() throws {
    let none = #expect(throws: PassError.self) {
      try walk { _ in }.run(on: graph, weights: weights, in: PassContext()) {
        _ throws(PassError) in nil
      }
    }
    #expect(none?.description.contains("--data") == true)
    let images = FixedBatches(batches: source.batches.filter { $0.inputs["pixel_values"] != nil })
    let half = #expect(throws: PassError.self) {
      try walk { _ in }.run(
        on: graph, weights: weights, in: PassContext(calibration: images)
      ) { _ throws(PassError) in nil }
    }
    #expect(half?.description.contains("input_ids") == true)
  }

  @Test func infiniteInputsAreRefused() throws {
    let bad = Batch(inputs: [
      "pixel_values": Tensor(shape: [1, 3, 8, 8], [Float](repeating: .infinity, count: 192))
    ])
    let image = graph.prunableWeights(of: [.image])
    #expect(throws: PassError.self) {
      try walk { _ in }.run(
        on: graph, weights: image, in: PassContext(calibration: FixedBatches(batches: [bad]))
      ) { _ throws(PassError) in nil }
    }
  }
}
