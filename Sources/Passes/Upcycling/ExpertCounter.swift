import Execution
import GraphIR
import Operators
import TensorCore

/// Counts how often each expert of a model is taken.
///
/// Tokens behind the end of a text do not count, nor do those that the embedding does not depend on.
package final class ExpertCounter {
  /// A layer and what its experts took.
  package struct Layer: Sendable {
    /// What the layer's values are named after.
    package let name: String
    /// The tower that it stands in.
    package let tower: Tower
    /// Tokens that each expert took.
    package var counts: [Double]

    /// The share of each expert; not numbers where no token came.
    package var shares: [Double] {
      let total = counts.reduce(0, +)
      return counts.map { $0 / total }
    }

    /// The largest share over the mean.
    package var imbalance: Double { (shares.max() ?? .nan) * Double(counts.count) }
  }

  /// The layers, in order of the graph.
  package private(set) var layers: [Layer] = []
  private let graph: Graph
  private let threadCount: Int
  private var assignments: [Value] = []
  private var executors: [Tower: Executor] = [:]

  /// Counts nothing yet of `graph`.
  ///
  /// - Throws: ``GraphError`` where the graph is broken.
  package init(_ graph: Graph, threadCount: Int) throws(GraphError) {
    self.graph = try graph.selectingEarly()
    self.threadCount = threadCount
    for tower in Tower.allCases {
      let own = self.graph.values(of: tower)
      for layer in self.graph.expertLayers where own.contains(layer.mixture) {
        assignments.append(layer.assignment)
        layers.append(
          Layer(
            name: layer.name, tower: tower,
            counts: [Double](repeating: 0, count: layer.expertCount)))
      }
    }
  }

  /// Forgets what was counted.
  package func clear() {
    for index in layers.indices { layers[index].counts = layers[index].counts.map { _ in 0 } }
  }

  /// Counts what the towers for which `inputs` has something do with it.
  package func add(_ inputs: [String: Tensor]) throws(ExecutionError) {
    for (tower, input) in [(Tower.image, "pixel_values"), (.text, "input_ids")] {
      let own = layers.indices.filter { layers[$0].tower == tower }
      guard let tensor = inputs[input], !own.isEmpty else { continue }
      let executor = try executor(tower, own)
      let made = try executor.run([input: tensor])
      for index in own {
        guard let slots = made[graph.name(of: assignments[index])] else { continue }
        count(slots, in: index, ids: tower == .text ? tensor : nil)
      }
    }
  }

  private func executor(_ tower: Tower, _ own: [Int]) throws(ExecutionError) -> Executor {
    if let known = executors[tower] { return known }
    let made = try Executor(
      graph, outputs: own.map { graph.name(of: assignments[$0]) }, threadCount: threadCount)
    executors[tower] = made
    return made
  }

  private func count(_ slots: Tensor, in layer: Int, ids: Tensor?) {
    let perToken = slots.shape.last ?? 1
    let experts = slots.elements(of: Int32.self)
    var tokens = 1
    var ends: [Int] = []
    if let ids, let rule = graph.endTokenRule, slots.shape.count == 3 {
      tokens = ids.shape[1]
      let words = ids.elements(of: Int32.self)
      ends = (0..<ids.shape[0]).map {
        rule.position(in: words.span, from: $0 * tokens, count: tokens)
      }
    }
    for (place, expert) in experts.enumerated() where expert >= 0 {
      let token = place / perToken
      if !ends.isEmpty, token % tokens > ends[token / tokens] { continue }
      layers[layer].counts[Int(expert)] += 1
    }
  }
}
