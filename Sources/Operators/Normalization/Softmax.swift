import GraphIR
import TensorCore

/// `y = eˣ / Σ eˣ` along the last axis.
///
/// - Shapes: `x`: `[..., n]`, causal `[..., m, n]`; result: as `x`.
package struct Softmax: Op {
  package static let name = "softmax"

  /// Whether row `i` takes part only up to its element `i`; the others are zero.
  package let isCausal: Bool

  /// Makes the operation.
  package init(isCausal: Bool = false) { self.isCausal = isCausal }

  package init(attributes: inout Attributes) throws(GraphError) {
    isCausal = try attributes.flag("causal")
  }

  package var attributes: [(name: String, value: AttributeValue)] { [("causal", .flag(isCausal))] }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 1...1)
    try requireFloats(inputs, 0, rank: (isCausal ? 2 : 1)...4)
    return inputs
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let shape = inputs.shape(0)
    let (rows, width) = matrixExtents(shape)
    let x = inputs.span(0, of: type)
    var y = outputs.span(0, of: type)
    for row in 0..<rows where width > 0 {
      let start = row * width
      let seen = isCausal ? min(row % shape[shape.count - 2] + 1, width) : width
      var largest = x[start]
      for k in 0..<seen { largest = max(largest, x[start + k]) }
      var sum: Element = 0
      for k in 0..<seen {
        y[start + k] = Element.exp(x[start + k] - largest)
        sum += y[start + k]
      }
      for k in 0..<seen { y[start + k] /= sum }
      for k in seen..<width { y[start + k] = 0 }
    }
  }
}

extension Softmax: AcceleratedOp {}

extension Softmax: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    let y = node.outputs[0]
    let weighted = try builder.product(node.gradient, y)
    let mean = try builder.add(Sum(over: .last), weighted)
    let spread = try builder.add(Broadcast(over: .last), mean, y)
    return [try builder.difference(weighted, try builder.product(spread, y))]
  }
}
