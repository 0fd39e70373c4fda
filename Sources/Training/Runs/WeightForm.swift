import GraphIR
import Operators
import TensorCore

/// A student whose weights are trained as they are: masks stay, codes stay codes of the same grid.
///
/// Pruned elements get no gradient and stay zero. Quantized weights are trained as float32 numbers
/// that the graph rounds to their grid at every use.
package struct WeightForm: TrainedForm {
  package let graph: Graph
  package let weights: [String]
  private let source: Graph
  private let isMasked: [String]

  /// Trains the parameters of `source` that `isTrained` names.
  package init(
    _ source: Graph, isTrained: (String) -> Bool = { $0 != "logit_scale" }
  ) throws(GraphError) {
    self.source = source
    var masked: [String] = []
    var graph = Graph()
    var images: [Value: Value] = [:]
    var weights: [String] = []
    var quantized: [(value: Value, bitCount: Int, scales: Value)] = []
    for value in source.values {
      let name = source.name(of: value)
      if source.origin(of: value) == .input {
        images[value] = try graph.addInput(name, source.tensorType(of: value))
      }
      guard let parameter = source.parameter(value) else { continue }
      let plain = try graph.addParameter(name, Parameter(parameter.materialized))
      images[value] = plain
      if parameter.mask != nil { masked.append(name) }
      if parameter.type.dtype == .float32, isTrained(name) { weights.append(name) }
      if let quantization = parameter.quantization {
        let scales = try graph.addParameter("\(name).scales", Parameter(quantization.scales))
        quantized.append((value, quantization.bitCount, scales))
      }
    }
    for (value, bitCount, scales) in quantized {
      guard let plain = images[value] else { continue }
      images[value] = try graph.add(
        "\(source.name(of: value)).rounded", FakeQuantizeWeight(bitCount: bitCount), plain, scales)
    }
    for node in source.nodes {
      let made = try graph.addNode(node.name, node.op, node.inputs.compactMap { images[$0] })
      for (old, new) in zip(node.outputs, made) { images[old] = new }
    }
    for output in source.outputs {
      if let image = images[output.value] { try graph.addOutput(output.name, image) }
    }
    self.graph = graph
    self.weights = weights
    isMasked = masked
  }

  package func prepare(gradients: ParameterBlock) { clearMasked(gradients) }

  package func constrain(weights: ParameterBlock, controls: ParameterBlock) {
    clearMasked(weights)
  }

  private func clearMasked(_ block: ParameterBlock) {
    for name in isMasked {
      guard let elements = block[name] else { continue }
      source.parameter(named: name)?.mask?.withElements(of: UInt8.self) { mask in
        for index in elements.indices where mask[index] == 0 { elements[index] = 0 }
      }
    }
  }

  package func result(
    weights: ParameterBlock, controls: ParameterBlock
  ) throws(GraphError) -> Graph {
    var graph = source
    for entry in weights.entries {
      guard let value = graph.value(named: entry.name), var parameter = graph.parameter(value)
      else { continue }
      let trained = weights.tensor(of: entry)
      if let quantization = parameter.quantization {
        parameter.tensor = quantization.codes(of: trained)
      } else {
        parameter.tensor = trained
      }
      try graph.setParameter(value, parameter)
    }
    return graph
  }
}

extension WeightQuantization {
  /// The codes nearest to `weight`, `[rows, ...]`, as ``FakeQuantizeWeight`` rounds.
  func codes(of weight: Tensor) -> Tensor {
    let width = weight.shape.dropFirst().reduce(1, *)
    let limit = Float(largestCode)
    let scales = self.scales.elements(of: Float.self)
    return Tensor(shape: weight.shape, of: Int8.self) { target in
      weight.withElements(of: Float.self) { source in
        for index in source.indices {
          let code = (source[index] / scales[index / width]).rounded(.toNearestOrEven)
          target[index] = Int8(min(max(code, -limit), limit))
        }
      }
    }
  }
}
