import GraphIR
import Operators
import TensorCore

extension Graph {
  /// The graph of a step in which the products behind every linear read its upstream gradient rounded
  /// to `bitCount` bits an element.
  ///
  /// The product with the weight, which gives the input's gradient, reads levels of rows; the product
  /// with the input, which gives the weight's, reads levels of channels: both scales then stand
  /// outside the sum, so that integer kernels could compute it. The draws follow the input
  /// ``TrainingName/gradientSeed``.
  ///
  /// - Source: Gao et al., "1-bit FQT", 2024, arXiv:2408.14267. See ``QuantizeGradient``.
  package func quantizingLinearGradients(bitCount: Int) throws(GraphError) -> Graph {
    var seed: Value?
    var salts: [Value: Int] = [:]
    var made: [Value: [QuantizeGradient.Levels: Value]] = [:]
    return try rewritten { node, rewriter throws(GraphError) in
      let levels: QuantizeGradient.Levels
      switch node.op {
      case is LinearTransposed: levels = .row
      case is ContractLeading: levels = .channel
      default: return try rewriter.copy(node)
      }
      guard node.name.hasPrefix("gradient.") else { return try rewriter.copy(node) }
      let upstream = node.inputs[0]
      if made[upstream]?[levels] == nil {
        let seedValue: Value
        if let seed {
          seedValue = seed
        } else {
          seedValue = try rewriter.result.addInput(
            TrainingName.gradientSeed, TensorType(.int32, [.fixed(2)]))
          seed = seedValue
        }
        let salt = salts[upstream] ?? salts.count
        salts[upstream] = salt
        made[upstream, default: [:]][levels] = try rewriter.result.add(
          "\(node.name).\(levels.rawValue)",
          QuantizeGradient(bitCount: bitCount, levels: levels, salt: salt),
          try rewriter.image(of: upstream), seedValue)
      }
      var inputs: [Value] = []
      for input in node.inputs { inputs.append(try rewriter.image(of: input)) }
      if let quantized = made[upstream]?[levels] { inputs[0] = quantized }
      let outputs = try rewriter.result.addNode(node.name, node.op, inputs)
      for (old, new) in zip(node.outputs, outputs) { rewriter.setImage(of: old, to: new) }
    }
  }
}
