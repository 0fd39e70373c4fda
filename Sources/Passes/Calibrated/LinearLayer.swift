import GraphIR
import Operators
import TensorCore

/// A linear layer of a graph: `y = x Wᵀ + b`.
package struct LinearLayer: Hashable, Sendable {
  /// The name of the node.
  package let name: String
  /// The weight, `[out, in]`.
  package let weight: Value
  /// The bias, `[out]`, where the layer has one.
  package let bias: Value?
  /// What the layer reads, `[..., in]`.
  package let input: Value
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
      guard readers.count == 1, nodes[readers[0]].op is Linear,
        nodes[readers[0]].inputs[1] == weight, nodes[readers[0]].inputs[0] != weight
      else {
        throw .unsuitable(
          pass: pass, "weight \(name(of: weight)) does not belong to exactly one linear layer")
      }
      let node = nodes[readers[0]]
      let bias = node.inputs.dropFirst(2).first { bias in
        parameter(bias) != nil && consumers[Int(bias.index)].count == 1
      }
      layers.append(
        LinearLayer(
          name: node.name, weight: weight, bias: bias, input: node.inputs[0], node: readers[0]))
    }
    return layers.sorted { $0.node < $1.node }
  }
}
