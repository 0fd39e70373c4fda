import GraphIR
import TensorCore

/// `y = x / |x|` along the last axis; a row of zeros stays zero.
///
/// - Shapes: `x`: `[..., width]`; result: as `x`.
package struct L2Normalize: Op {
  package static let name = "l2_normalize"

  /// Makes the operation; it has no attributes.
  package init() {}

  package init(attributes: inout Attributes) throws(GraphError) {}

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 1...1)
    try requireFloats(inputs, 0, rank: 1...4)
    return inputs
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let (rows, width) = matrixExtents(inputs.shape(0))
    let x = inputs.span(0, of: type)
    var y = outputs.span(0, of: type)
    for row in 0..<rows {
      let start = row * width
      var square: Element = 0
      for k in 0..<width { square += x[start + k] * x[start + k] }
      let scale = square > 0 ? 1 / square.squareRoot() : 0
      for k in 0..<width { y[start + k] = x[start + k] * scale }
    }
  }
}

extension L2Normalize: PrunableOp {
  package func axisLinks(inputs: [TensorType], outputs: [TensorType]) -> [AxisLink] {
    let last = inputs[0].rank - 1
    return (0..<last).map { AxisLink([.input(0, $0), .output(0, $0)]) }
      + [AxisLink([.input(0, last), .output(0, last)], isNormalized: true)]
  }
}

extension L2Normalize: AcceleratedOp {}

extension L2Normalize: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    let (x, y, g) = (node.inputs[0], node.outputs[0], node.gradient)
    let square = try builder.add(Sum(over: .last), try builder.product(x, x))
    let inverse = try builder.add(ReciprocalSquareRoot(), square)
    let along = try builder.add(Sum(over: .last), try builder.product(y, g))
    let parallel = try builder.product(y, try builder.add(Broadcast(over: .last), along, y))
    let across = try builder.difference(g, parallel)
    return [try builder.product(across, try builder.add(Broadcast(over: .last), inverse, y))]
  }
}
