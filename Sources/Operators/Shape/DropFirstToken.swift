import GraphIR
import TensorCore

/// Leaves out the first row of every item: what ``PrependToken`` put there.
///
/// - Shapes: `x`: `[batch, tokens + 1, width]`; result: `[batch, tokens, width]`.
package struct DropFirstToken: Op {
  package static let name = "drop_first_token"

  /// Makes the operation; it has no attributes.
  package init() {}

  package init(attributes: inout Attributes) throws(GraphError) {}

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 1...1)
    try requireFloats(inputs, 0, rank: 3...3)
    let tokens = try fixedExtent(inputs, 0, axis: 1)
    guard tokens > 0 else { throw mismatch(inputs, 0, "f32[batch, 1 or more, width]") }
    return [
      TensorType(.float32, [inputs[0].extents[0], .fixed(tokens - 1), inputs[0].extents[2]])
    ]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let shape = inputs.shape(0)
    let width = shape[2]
    let kept = (shape[1] - 1) * width
    let x = inputs.span(0, of: type)
    var y = outputs.span(0, of: type)
    for item in 0..<shape[0] {
      let source = item * shape[1] * width + width
      for k in 0..<kept { y[item * kept + k] = x[source + k] }
    }
  }
}

extension DropFirstToken: AcceleratedOp {}

extension DropFirstToken: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    let first = try builder.add(SelectToken(index: 0), node.inputs[0])
    let sum = try builder.add(Sum(over: .leading), first)
    let zero = try builder.add(Fill(with: 0), sum)
    return [try builder.add(PrependToken(), node.gradient, zero)]
  }
}
