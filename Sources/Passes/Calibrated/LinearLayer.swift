import GraphIR
import Operators
import TensorCore

/// A linear layer of a graph, `y = x Wᵀ + b`, or one expert of a layer of many.
package struct LinearLayer: Hashable, Sendable {
  /// The rows that an expert reads.
  package struct Expert: Hashable, Sendable {
    /// The experts of each token, int32 `[..., slots]`.
    package let assignment: Value
    /// Which expert it is.
    package let index: Int
  }

  /// The name of the node.
  package let name: String
  /// The weight, `[out, in]`.
  package let weight: Value
  /// The bias, `[out]`, where the layer has one.
  package let bias: Value?
  /// What the layer reads, `[..., in]`; what all experts of a layer do, `[..., in]` or
  /// `[..., slots, in]`.
  package let input: Value
  /// Which of the rows are read; nil for all.
  package let expert: Expert?
  /// The place of the node in the graph.
  package let node: Int
}

extension Graph {
  /// The linear layers that multiply with one of `weights`, in the order of the graph.
  ///
  /// A bias that something else reads too does not count as the layer's own.
  ///
  /// - Throws: ``PassError`` when one of `weights` is not the weight of exactly one linear layer.
  package func linearLayers(
    of weights: [Value], pass: String
  ) throws(PassError) -> [LinearLayer] {
    let consumers = consumers()
    var layers: [LinearLayer] = []
    for weight in weights {
      let readers = consumers[Int(weight.index)]
      guard readers.count == 1, let place = weightPlace(weight, in: nodes[readers[0]]) else {
        throw .unsuitable(
          pass: pass, "weight \(name(of: weight)) does not belong to exactly one linear layer")
      }
      let node = nodes[readers[0]]
      var expert: LinearLayer.Expert?
      var biasPlace = 2
      if let op = node.op as? GroupedLinear {
        let index = place - op.weightRange.lowerBound
        expert = LinearLayer.Expert(assignment: node.inputs[1], index: op.first + index)
        biasPlace = op.biasRange.lowerBound + index
      }
      let bias = node.inputs.dropFirst(biasPlace).first.flatMap { bias in
        parameter(bias) != nil && consumers[Int(bias.index)].count == 1 ? bias : nil
      }
      layers.append(
        LinearLayer(
          name: node.name, weight: weight, bias: bias, input: node.inputs[0], expert: expert,
          node: readers[0]))
    }
    return layers.sorted { ($0.node, $0.weight.index) < ($1.node, $1.weight.index) }
  }

  /// Which input of `node` it multiplies with is `weight`; nil where it does so with none or several.
  private func weightPlace(_ weight: Value, in node: Node) -> Int? {
    let places = node.inputs.indices.filter { node.inputs[$0] == weight }
    guard places.count == 1 else { return nil }
    switch node.op {
    case is Linear: return places[0] == 1 ? 1 : nil
    case let op as GroupedLinear: return op.weightRange.contains(places[0]) ? places[0] : nil
    default: return nil
    }
  }
}
