import CKernels
import GraphIR
import TensorCore

/// `y = x / 2 * (1 + erf(x / sqrt 2))`, exact.
///
/// - Source: Hendrycks and Gimpel, "Gaussian Error Linear Units", arXiv:1606.08415.
///
/// - Shapes: any; the result has the input's extents.
package struct GELU: Op {
  package static let name = "gelu"

  /// Makes the operation; it has no attributes.
  package init() {}

  package init(attributes: inout Attributes) throws(GraphError) {}

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 1...1)
    try requireFloats(inputs, 0, rank: 0...4)
    return inputs
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let x = inputs.span(0, of: type)
    var y = outputs.span(0, of: type)
    for index in 0..<x.count {
      y[index] = x[index] / 2 * (1 + Element.erf(x[index] * (Element(0.5).squareRoot())))
    }
  }
}

extension GELU: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    Kernels.activate(
      inputs.pointer(0, of: Float.self), outputs.pointer(0, of: Float.self), CLIP_ACTIVATION_GELU,
      threadCount: outputs.threadCount)
  }
}

extension GELU: PrunableOp {
  package func axisLinks(inputs: [TensorType], outputs: [TensorType]) -> [AxisLink] {
    elementwiseLinks(inputs)
  }
}

extension GELU: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    [try builder.add(ActivationGradient(of: .gelu), node.inputs[0], node.gradient)]
  }
}

extension GELU: RowwiseOp {
  package var rowInputs: [Int] { [0] }
}
