import CKernels
import GraphIR
import TensorCore

/// `y = x * sigmoid(1.702 x)`, the activation of the original CLIP weights.
///
/// - Source: Radford et al., "Learning Transferable Visual Models From Natural Language
///   Supervision", ICML 2021, arXiv:2103.00020.
///
/// - Shapes: any; the result has the input's extents.
package struct QuickGELU: Op {
  package static let name = "quick_gelu"

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
      y[index] = x[index] / (1 + Element.exp(-1.702 * x[index]))
    }
  }
}

extension QuickGELU: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    Kernels.activate(
      inputs.pointer(0, of: Float.self), outputs.pointer(0, of: Float.self),
      CLIP_ACTIVATION_QUICK_GELU,
      threadCount: outputs.threadCount)
  }
}

extension QuickGELU: PrunableOp {
  package func axisLinks(inputs: [TensorType], outputs: [TensorType]) -> [AxisLink] {
    elementwiseLinks(inputs)
  }
}

extension QuickGELU: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    [try builder.add(ActivationGradient(of: .quickGELU), node.inputs[0], node.gradient)]
  }
}

extension QuickGELU: RowwiseOp {
  package var rowInputs: [Int] { [0] }
}
