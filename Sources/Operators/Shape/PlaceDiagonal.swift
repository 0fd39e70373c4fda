import GraphIR
import TensorCore

/// Puts elements on the diagonal of a square matrix, zeros elsewhere.
///
/// - Shapes: `x`: `[n]`; `like`: `[n, n]`, its elements do not matter; result: as `like`.
package struct PlaceDiagonal: Op {
  package static let name = "place_diagonal"

  /// Makes the operation; it has no attributes.
  package init() {}

  package init(attributes: inout Attributes) throws(GraphError) {}

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...2)
    try requireFloats(inputs, 1, rank: 2...2)
    try requireFloats(inputs, 0, extents: [inputs[1].extents[0]])
    return [inputs[1]]
  }

  package func checkBound(inputs: [[Int]]) throws(GraphError) {
    try Diagonal().checkBound(inputs: [inputs[1]])
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let count = inputs.shape(0)[0]
    let x = inputs.span(0, of: type)
    var y = outputs.span(0, of: type)
    for index in 0..<y.count { y[index] = 0 }
    for index in 0..<count { y[index * count + index] = x[index] }
  }
}

extension PlaceDiagonal: AcceleratedOp {}

extension PlaceDiagonal: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    [try builder.add(Diagonal(), node.gradient), nil]
  }
}
