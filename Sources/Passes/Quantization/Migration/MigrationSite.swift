import GraphIR
import Operators
import TensorCore

/// A place where the channels of an activation can be divided by factors that what makes it and
/// what reads it take up, so that the model computes what it did.
package struct MigrationSite {
  /// The activation.
  package let activation: Value
  /// The weights that read it, `[out, in]`, whose columns are multiplied.
  package let readers: [Value]
  /// The parameters whose elements, or rows, are divided: gain and shift of a normalization, or
  /// weight and bias of the values of an attention.
  package let makers: [Value]

  /// The sites of `graph` among the activations that feed `wanted`, in order of the graph.
  ///
  /// - Source: Xiao et al., "SmoothQuant", ICML 2023, arXiv:2211.10438, between normalization and
  ///   linear; Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
  ///   Correction", ICCV 2019, arXiv:1906.04721, between two linears: here the values of an
  ///   attention, of which each channel is mixed over tokens only, and the layer behind it.
  package static func sites(in graph: Graph, _ wanted: Set<Value>) -> [MigrationSite] {
    let consumers = graph.consumers()
    func readers(of value: Value) -> [Node] {
      consumers[Int(value.index)].map { graph.nodes[$0] }
    }
    func isOutput(_ value: Value) -> Bool { graph.outputs.contains { $0.value == value } }
    /// A float parameter that nothing else reads.
    func isFree(_ value: Value) -> Bool {
      graph.parameter(value).map { $0.quantization == nil } ?? false
        && readers(of: value).count == 1
    }
    func weights(reading value: Value) -> [Value]? {
      let nodes = readers(of: value)
      guard !nodes.isEmpty, !isOutput(value) else { return nil }
      var weights: [Value] = []
      for node in nodes {
        // Linears, of one expert or of many.
        guard let op = node.op as? any QuantizableOp, op.activationInputs == [0],
          node.inputs[0] == value
        else { return nil }
        weights += op.weightInputs.map { node.inputs[$0] }
      }
      return weights.allSatisfy(isFree) ? weights : nil
    }
    var sites: [MigrationSite] = []
    for node in graph.nodes where node.outputs.contains(where: wanted.contains) {
      guard let weights = weights(reading: node.outputs[0]) else { continue }
      var makers: [Value] = []
      if node.op is LayerNorm {
        makers = Array(node.inputs.dropFirst())
      } else if node.op is Attention || node.op is ProportionalAttention {
        let values = node.inputs[2]
        guard case .node(let index) = graph.origin(of: values), !isOutput(values),
          graph.nodes[index].op is Linear, readers(of: values).count == 1
        else { continue }
        makers = Array(graph.nodes[index].inputs.dropFirst())
      }
      guard !makers.isEmpty, makers.allSatisfy(isFree) else { continue }
      sites.append(
        MigrationSite(activation: node.outputs[0], readers: weights, makers: makers))
    }
    return sites
  }

  /// Divides the activation by `factors`, one a channel, in `graph`.
  package func apply(_ factors: [Float], to graph: inout Graph) throws(GraphError) {
    for maker in makers {
      guard var parameter = graph.parameter(maker) else { continue }
      let width = parameter.tensor.count / factors.count
      parameter.tensor = parameter.tensor.mapping { index, element in
        element / factors[index / width]
      }
      try graph.setParameter(maker, parameter)
    }
    for reader in readers {
      guard var parameter = graph.parameter(reader) else { continue }
      parameter.tensor = parameter.tensor.mapping { index, element in
        element * factors[index % factors.count]
      }
      try graph.setParameter(reader, parameter)
    }
  }
}
