import GraphIR
import TensorCore

/// Gives every head of attention a matrix of its own.
///
/// - Shapes: `x`: `[batch, tokens, heads * headWidth]`; result:
///   `[batch, heads, tokens, headWidth]`.
package struct SplitHeads: Op {
  package static let name = "split_heads"

  /// Elements of one head.
  package let headWidth: Int

  /// Makes the operation.
  package init(headWidth: Int) { self.headWidth = headWidth }

  package init(attributes: inout Attributes) throws(GraphError) {
    headWidth = try attributes.integer("head_width", in: 1...65_536)
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    [("head_width", .integer(headWidth))]
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 1...1)
    try requireFloats(inputs, 0, rank: 3...3)
    let width = try fixedExtent(inputs, 0, axis: 2)
    guard width % headWidth == 0 else {
      throw mismatch(inputs, 0, "f32[batch, tokens, a multiple of \(headWidth)]")
    }
    let extents = inputs[0].extents
    return [
      TensorType(
        .float32, [extents[0], .fixed(width / headWidth), extents[1], .fixed(headWidth)])
    ]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let shape = outputs.shape(0)
    let x = inputs.span(0, of: type)
    var y = outputs.span(0, of: type)
    forEachHeadRow(shape) { packed, interleaved in
      for d in 0..<headWidth { y[packed + d] = x[interleaved + d] }
    }
  }
}

/// Calls `body` with where each row of `[batch, heads, tokens, headWidth]` starts there, and where
/// it starts in `[batch, tokens, heads * headWidth]`.
func forEachHeadRow(_ shape: [Int], _ body: (Int, Int) -> Void) {
  let (heads, tokens, headWidth) = (shape[1], shape[2], shape[3])
  for item in 0..<shape[0] {
    for head in 0..<heads {
      for token in 0..<tokens {
        body(
          ((item * heads + head) * tokens + token) * headWidth,
          ((item * tokens + token) * heads + head) * headWidth)
      }
    }
  }
}

extension SplitHeads: AcceleratedOp {}

extension SplitHeads: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    [try builder.add(MergeHeads(), node.gradient)]
  }
}
