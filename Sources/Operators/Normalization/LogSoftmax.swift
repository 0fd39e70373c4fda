import GraphIR
import TensorCore

/// `y = x - ln Σ eˣ` along the last axis.
///
/// - Shapes: `x`: `[..., n]`; result: as `x`.
package struct LogSoftmax: Op {
  package static let name = "log_softmax"

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
    for row in 0..<rows where width > 0 {
      let start = row * width
      var largest = x[start]
      for k in 0..<width { largest = max(largest, x[start + k]) }
      var sum: Element = 0
      for k in 0..<width { sum += Element.exp(x[start + k] - largest) }
      let shift = largest + Element.log(sum)
      for k in 0..<width { y[start + k] = x[start + k] - shift }
    }
  }
}

extension LogSoftmax: AcceleratedOp {}

extension LogSoftmax: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    let sum = try builder.add(Sum(over: .last), node.gradient)
    let spread = try builder.add(Broadcast(over: .last), sum, node.gradient)
    let probabilities = try builder.add(Exponential(), node.outputs[0])
    return [
      try builder.difference(node.gradient, try builder.product(probabilities, spread))
    ]
  }
}
