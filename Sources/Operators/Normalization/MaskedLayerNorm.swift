import CKernels
import GraphIR
import TensorCore

/// A layer norm over the channels that a mask leaves, as if the others were not there.
///
/// What the norm would be after the masked channels are removed; masked channels of the result are
/// zero.
///
/// - Shapes: `x`: `[..., width]`; `gamma`, `beta`, `mask`: `[width]`, the mask zero or one; result:
///   as `x`.
package struct MaskedLayerNorm: Op {
  package static let name = "masked_layer_norm"

  /// Added to the variance.
  package let epsilon: Float

  /// Makes the operation with a positive `epsilon`.
  package init(epsilon: Float) { self.epsilon = epsilon }

  package init(attributes: inout Attributes) throws(GraphError) {
    epsilon = try LayerNorm(attributes: &attributes).epsilon
  }

  package var attributes: [(name: String, value: AttributeValue)] { [("epsilon", .real(epsilon))] }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 4...4)
    try requireFloats(inputs, 3, extents: inputs[1].extents)
    return try LayerNorm(epsilon: epsilon).outputTypes(for: Array(inputs.prefix(3)))
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let (rows, width) = matrixExtents(inputs.shape(0))
    let x = inputs.span(0, of: type)
    let gamma = inputs.span(1, of: type)
    let beta = inputs.span(2, of: type)
    let mask = inputs.span(3, of: type)
    var y = outputs.span(0, of: type)
    var count: Element = 0
    for k in 0..<width { count += mask[k] }
    count = max(count, 1)
    for row in 0..<rows {
      let start = row * width
      var mean: Element = 0
      for k in 0..<width { mean += x[start + k] * mask[k] }
      mean /= count
      var variance: Element = 0
      for k in 0..<width { variance += (x[start + k] - mean) * (x[start + k] - mean) * mask[k] }
      let scale = 1 / (variance / count + Element(epsilon)).squareRoot()
      for k in 0..<width {
        y[start + k] = ((x[start + k] - mean) * scale * gamma[k] + beta[k]) * mask[k]
      }
    }
  }
}

extension MaskedLayerNorm: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    let (rows, width) = matrixExtents(inputs.shape(0))
    guard let x = inputs.pointer(0, of: Float.self).baseAddress,
      let gamma = inputs.pointer(1, of: Float.self).baseAddress,
      let beta = inputs.pointer(2, of: Float.self).baseAddress,
      let mask = inputs.pointer(3, of: Float.self).baseAddress,
      let y = outputs.pointer(0, of: Float.self).baseAddress
    else { return }
    let kernel = Kernels.training.f32_masked_layer_norm
    forEachRange(of: rows, threadCount: outputs.threadCount, minimumCount: 64) { range in
      var arguments = clip_f32_masked_layer_norm_arguments(
        input: x, input_stride: width, mask: mask, width: width, gamma: gamma, beta: beta,
        epsilon: epsilon, output: y, output_stride: width)
      kernel(&arguments, clip_range(begin: range.lowerBound, end: range.upperBound))
    }
  }
}

extension MaskedLayerNorm: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    let gradients = try builder.addNode(
      LayerNormGradient(epsilon: epsilon),
      [node.inputs[0], node.gradient, node.inputs[1], node.inputs[3]])
    return gradients + [nil]
  }
}

extension MaskedLayerNorm: RowwiseOp {
  package var rowInputs: [Int] { [0] }
}
