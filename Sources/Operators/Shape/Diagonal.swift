import GraphIR
import TensorCore

/// The diagonal of a square matrix.
///
/// - Shapes: `x`: `[n, n]`; result: `[n]`.
package struct Diagonal: Op {
  package static let name = "diagonal"

  /// Makes the operation; it has no attributes.
  package init() {}

  package init(attributes: inout Attributes) throws(GraphError) {}

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 1...1)
    try requireFloats(inputs, 0, rank: 2...2)
    return [TensorType(.float32, [inputs[0].extents[0]])]
  }

  package func checkBound(inputs: [[Int]]) throws(GraphError) {
    guard inputs[0][0] == inputs[0][1] else {
      throw .inputType(
        op: Self.name, input: 0, expected: "a square matrix", found: "\(inputs[0])")
    }
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let count = inputs.shape(0)[0]
    let x = inputs.span(0, of: type)
    var y = outputs.span(0, of: type)
    for index in 0..<count { y[index] = x[index * count + index] }
  }
}

extension Diagonal: AcceleratedOp {}

extension Diagonal: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    [try builder.add(PlaceDiagonal(), node.gradient, node.inputs[0])]
  }
}
