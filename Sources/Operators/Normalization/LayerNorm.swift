import CKernels
import GraphIR
import TensorCore

/// `y = (x - mean) / sqrt(variance + epsilon) * gamma + beta` along the last axis.
///
/// The variance is the biased one, over the axis.
///
/// - Shapes: `x`: `[..., width]`; `gamma`, `beta`: `[width]`; result: as `x`.
/// - Source: Ba, Kiros and Hinton, "Layer Normalization", arXiv:1607.06450.
package struct LayerNorm: Op {
  package static let name = "layer_norm"

  /// Added to the variance.
  package let epsilon: Float

  /// Makes the operation with a positive `epsilon`.
  package init(epsilon: Float) { self.epsilon = epsilon }

  package init(attributes: inout Attributes) throws(GraphError) {
    epsilon = try attributes.real("epsilon")
    guard epsilon > 0 else {
      throw .attribute(op: Self.name, name: "epsilon", expected: "a positive number")
    }
  }

  package var attributes: [(name: String, value: AttributeValue)] { [("epsilon", .real(epsilon))] }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 3...3)
    try requireFloats(inputs, 0, rank: 1...4)
    let width = try fixedExtent(inputs, 0, axis: inputs[0].rank - 1)
    try requireFloats(inputs, 1, extents: [.fixed(width)])
    try requireFloats(inputs, 2, extents: [.fixed(width)])
    return [inputs[0]]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let (rows, width) = matrixExtents(inputs.shape(0))
    let x = inputs.span(0, of: type)
    let gamma = inputs.span(1, of: type)
    let beta = inputs.span(2, of: type)
    var y = outputs.span(0, of: type)
    for row in 0..<rows {
      let start = row * width
      var mean: Element = 0
      for k in 0..<width { mean += x[start + k] }
      mean /= Element(width)
      var variance: Element = 0
      for k in 0..<width { variance += (x[start + k] - mean) * (x[start + k] - mean) }
      variance /= Element(width)
      let scale = 1 / (variance + Element(epsilon)).squareRoot()
      for k in 0..<width { y[start + k] = (x[start + k] - mean) * scale * gamma[k] + beta[k] }
    }
  }
}

extension LayerNorm: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    let (rows, width) = matrixExtents(inputs.shape(0))
    guard let x = inputs.pointer(0, of: Float.self).baseAddress,
      let gamma = inputs.pointer(1, of: Float.self).baseAddress,
      let beta = inputs.pointer(2, of: Float.self).baseAddress,
      let y = outputs.pointer(0, of: Float.self).baseAddress
    else { return }
    let kernel = Kernels.best.f32_layer_norm
    forEachRange(of: rows, threadCount: outputs.threadCount, minimumCount: 64) { range in
      var norm = clip_f32_layer_norm_arguments(
        input: x, input_stride: width, width: width, gamma: gamma, beta: beta, epsilon: epsilon,
        output: Kernels.floats(y, stride: width))
      kernel(&norm, clip_range(begin: range.lowerBound, end: range.upperBound))
    }
  }
}

extension LayerNorm: PrunableOp {
  package func axisLinks(inputs: [TensorType], outputs: [TensorType]) -> [AxisLink] {
    let last = inputs[0].rank - 1
    let leading = (0..<last).map { AxisLink([.input(0, $0), .output(0, $0)]) }
    let normalized: [OperandAxis] = [.input(0, last), .input(1, 0), .input(2, 0), .output(0, last)]
    return leading + [AxisLink(normalized, isNormalized: true)]
  }
}

extension LayerNorm: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    try builder.addNode(
      LayerNormGradient(epsilon: epsilon), [node.inputs[0], node.gradient, node.inputs[1]])
  }
}

extension LayerNorm: RowwiseOp {
  package var rowInputs: [Int] { [0] }
}
