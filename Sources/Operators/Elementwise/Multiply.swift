import GraphIR
import TensorCore

/// `y = a * b`, element by element.
///
/// - Shapes: `a`, `b` and the result have the same extents.
package struct Multiply: Op {
  package static let name = "multiply"

  /// Makes the operation; it has no attributes.
  package init() {}

  package init(attributes: inout Attributes) throws(GraphError) {}

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...2)
    try requireFloats(inputs, 0, rank: 0...4)
    try requireFloats(inputs, 1, extents: inputs[0].extents)
    return [inputs[0]]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let a = inputs.span(0, of: type)
    let b = inputs.span(1, of: type)
    var y = outputs.span(0, of: type)
    for index in 0..<a.count { y[index] = a[index] * b[index] }
  }
}

extension Multiply: AcceleratedOp {}

extension Multiply: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    [
      node.isWanted[0] ? try builder.product(node.gradient, node.inputs[1]) : nil,
      node.isWanted[1] ? try builder.product(node.gradient, node.inputs[0]) : nil,
    ]
  }
}
