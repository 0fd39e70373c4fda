import Execution
import GraphIR
import Passes
import TensorCore
import TestSupport
import Testing

/// PLeaS: what is alike is averaged, the rest stands side by side, layers are solved for both.
@Suite struct PartialMergeTests {
  private let extents = RandomCLIP()

  private func data(_ count: Int = 6, items: Int = 24) -> FixedBatches {
    FixedBatches(
      batches: (0..<count).map {
        Batch(inputs: extents.inputs(seed: UInt64($0) + 500, items: items))
      })
  }

  private func merge(
    _ first: Graph, _ second: Graph, budget: Double, ridge: Double = 1e-4
  ) throws -> PartialMerge {
    var options = PartialMerge.Options()
    options.budget = budget
    options.ridge = ridge
    return try PartialMerge(
      first, second, options: options, in: PassContext(calibration: data()))
  }

  /// At every budget a model merged with itself, or with a permuted copy, computes what it computed.
  @Test(arguments: [1, 1.25, 1.5, 2], [false, true])
  func copiesGiveTheModel(_ budget: Double, _ isShuffled: Bool) throws {
    let graph = try extents.graph(seed: 4)
    let copy = isShuffled ? try graph.shuffled(seed: 8) : graph
    let merged = try merge(graph, copy, budget: budget)
    try merged.graph.verify()
    if budget == 1 { #expect(merged.graph.largestParameterDifference(to: graph) == 0) }
    #expect(merged.rows.allSatisfy { $0.correlation > 0.999 })
    let inputs = extents.inputs(seed: 2)
    #expect(try difference(of: graph, to: merged.graph, inputs) <= 1e-5)
  }

  @Test(arguments: [1, 1.2, 1.5, 2])
  func layersGrowByTheBudget(_ budget: Double) throws {
    let first = try extents.graph(seed: 1)
    let merged = try merge(first, try extents.graph(seed: 2), budget: budget)
    try merged.graph.verify()
    #expect(merged.rows.count == 8)
    for row in merged.rows {
      let separate = Int(((budget - 1) * Double(row.units)).rounded())
      #expect(row.merged == row.units + separate && row.shared == row.units - separate)
    }
    let row = try #require(merged.rows.first { $0.group == "image.layers.0.mlp" })
    let weight = try #require(merged.graph.parameter(named: "image.layers.0.mlp.fc1.weight"))
    #expect(weight.tensor.shape == [row.merged, extents.imageWidth])
    #expect(merged.layers.allSatisfy { $0.errorAfter <= $0.errorBefore })
    #expect(merged.layers.contains { $0.errorAfter < 0.9 * $0.errorBefore })
  }

  /// With everything side by side a branch is the mean of both models' branches: where these read
  /// the same there is nothing to solve.
  @Test func theWidestMergeIsTheMeanOfBothBranches() throws {
    let first = try extents.graph(seed: 1)
    var noise = SplitMix64(seed: 7)
    let second = try first.changingElements { name, elements in
      guard name.hasPrefix("image.layers.0.mlp") else { return }
      for index in elements.indices { elements[index] += Float(noise.nextNormal() * 0.1) }
    }
    let merged = try merge(first, second, budget: 2).graph
    var random = SplitMix64(seed: 3)
    let rows = random.normalTensor([5, extents.imageWidth])
    func branch(_ graph: Graph) throws -> [Double] {
      func tensor(_ name: String) throws -> [Double] {
        try #require(graph.parameter(named: "image.layers.0.mlp." + name)?.tensor)
          .elements(of: Float.self).map { Double($0) }
      }
      let (up, upBias) = (try tensor("fc1.weight"), try tensor("fc1.bias"))
      let (down, downBias) = (try tensor("fc2.weight"), try tensor("fc2.bias"))
      let x = rows.elements(of: Float.self).map { Double($0) }
      let (width, neurons) = (extents.imageWidth, upBias.count)
      return (0..<5).flatMap { row in
        let hidden = (0..<neurons).map { n in
          let z = (0..<width).reduce(upBias[n]) { $0 + up[n * width + $1] * x[row * width + $1] }
          return z / (1 + Double.exp(-1.702 * z))
        }
        return (0..<width).map { c in
          (0..<neurons).reduce(downBias[c]) { $0 + down[c * neurons + $1] * hidden[$1] }
        }
      }
    }
    let expected = zip(try branch(first), try branch(second)).map { Float(($0 + $1) / 2) }
    let found = try branch(merged).map { Float($0) }
    #expect(largestDifference(found, expected) <= 1e-5)
  }

  /// A layer of the merged model is the ridge regression of the mean of both outputs on the mean of
  /// both inputs, here by elimination in float64.
  @Test func layersAreRidgeRegressions() throws {
    let first = try extents.graph(seed: 1)
    let second = try first.disturbed(seed: 7, scale: 0.1)
    let (ridge, layer) = (1e-2, "text.layers.0.mlp.fc1")
    let merged = try merge(first, second, budget: 1, ridge: ridge).graph
    let (width, out) = (extents.textWidth, extents.textNeurons)
    var (z, target): ([[Double]], [[Double]]) = ([], [])
    for batch in data().batches {
      let found = try [first, second].map { graph in
        try Executor(graph, outputs: ["text.layers.0.norm2", layer]).run(batch.inputs)
      }
      func mean(_ name: String, _ width: Int) -> [[Double]] {
        let sides = found.map { $0[name]?.elements(of: Float.self) ?? [] }
        let all = zip(sides[0], sides[1]).map { (Double($0) + Double($1)) / 2 }
        return stride(from: 0, to: all.count, by: width).map { Array(all[$0..<($0 + width)]) }
      }
      z += mean("text.layers.0.norm2", width)
      target += mean(layer, out)
    }
    let start = try Merging.average([first, second])
    func elements(_ graph: Graph, _ name: String) throws -> [Double] {
      try #require(graph.parameter(named: layer + name)?.tensor).elements(of: Float.self)
        .map { Double($0) }
    }
    let (weight, bias) = (try elements(start, ".weight"), try elements(start, ".bias"))
    let count = Double(z.count)
    let means = (0..<width).map { c in z.reduce(0) { $0 + $1[c] } / count }
    var gram = [[Double]](repeating: [Double](repeating: 0, count: width), count: width)
    for row in z {
      for i in 0..<width {
        for j in 0..<width { gram[i][j] += (row[i] - means[i]) * (row[j] - means[j]) / count }
      }
    }
    let damping = ridge * (0..<width).reduce(0) { $0 + gram[$1][$1] } / Double(width)
    for i in 0..<width { gram[i][i] += damping }
    let foundWeight = try elements(merged, ".weight")
    let foundBias = try elements(merged, ".bias")
    var worst = 0.0
    for channel in 0..<out {
      let errors = zip(z, target).map { row, wanted in
        (0..<width).reduce(wanted[channel] - bias[channel]) {
          $0 - weight[channel * width + $1] * row[$1]
        }
      }
      let offset = errors.reduce(0, +) / count
      let right = (0..<width).map { c in
        zip(z, errors).reduce(0) { $0 + ($1.0[c] - means[c]) * ($1.1 - offset) } / count
      }
      let change = solve(gram, right)
      for c in 0..<width {
        let expected = weight[channel * width + c] + change[c]
        worst = max(worst, abs(foundWeight[channel * width + c] - expected))
      }
      let expected = bias[channel] + offset - zip(change, means).reduce(0) { $0 + $1.0 * $1.1 }
      worst = max(worst, abs(foundBias[channel] - expected))
    }
    #expect(worst <= 1e-4)
    #expect(zip(foundWeight, weight).contains { abs($0 - $1) > 1e-3 })
  }

  private func solve(_ matrix: [[Double]], _ right: [Double]) -> [Double] {
    var rows = zip(matrix, right).map { $0 + [$1] }
    for i in rows.indices {
      for j in rows.indices where j != i {
        let factor = rows[j][i] / rows[i][i]
        for k in i...rows.count { rows[j][k] -= factor * rows[i][k] }
      }
    }
    return rows.indices.map { rows[$0][rows.count] / rows[$0][$0] }
  }

  @Test func refusals() throws {
    let graph = try extents.graph(seed: 1)
    for (budget, ridge) in [(0.9, 1.0), (2.1, 1), (.nan, 1), (1.5, 0), (1.5, .infinity)] {
      #expect(throws: PassError.self) { try merge(graph, graph, budget: budget, ridge: ridge) }
    }
    #expect(throws: PassError.self) {
      try PartialMerge(graph, graph, options: .init(), in: PassContext())
    }
    #expect(throws: PassError.self) {
      try PartialMerge(
        graph, graph, options: .init(), in: PassContext(calibration: FixedBatches(batches: [])))
    }
  }
}
