import GraphIR
import TensorCore

/// Puts the same row in front of every item's rows, as the class token stands before patches.
///
/// - Shapes: `x`: `[batch, tokens, width]`; `token`: `[width]`; result:
///   `[batch, tokens + 1, width]`.
package struct PrependToken: Op {
  package static let name = "prepend_token"

  /// Makes the operation; it has no attributes.
  package init() {}

  package init(attributes: inout Attributes) throws(GraphError) {}

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...2)
    try requireFloats(inputs, 0, rank: 3...3)
    let tokens = try fixedExtent(inputs, 0, axis: 1)
    try requireFloats(inputs, 1, extents: [inputs[0].extents[2]])
    return [
      TensorType(.float32, [inputs[0].extents[0], .fixed(tokens + 1), inputs[0].extents[2]])
    ]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let shape = inputs.shape(0)
    let (tokens, width) = (shape[1], shape[2])
    let x = inputs.span(0, of: type)
    let token = inputs.span(1, of: type)
    var y = outputs.span(0, of: type)
    for item in 0..<shape[0] {
      let source = item * tokens * width
      let target = item * (tokens + 1) * width
      for k in 0..<width { y[target + k] = token[k] }
      for k in 0..<(tokens * width) { y[target + width + k] = x[source + k] }
    }
  }
}

extension PrependToken: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    evaluate(inputs, &outputs, as: Float.self)
  }
}

extension PrependToken: PrunableOp {
  package func axisLinks(inputs: [TensorType], outputs: [TensorType]) -> [AxisLink] {
    [
      AxisLink([.input(0, 0), .output(0, 0)]),
      AxisLink([.input(0, 2), .input(1, 0), .output(0, 2)]),
    ]
  }
}

extension PrependToken: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    var gradients: [Value?] = [nil, nil]
    if node.isWanted[0] { gradients[0] = try builder.add(DropFirstToken(), node.gradient) }
    if node.isWanted[1] {
      let first = try builder.add(SelectToken(index: 0), node.gradient)
      gradients[1] = try builder.add(Sum(over: .leading), first)
    }
    return gradients
  }
}
