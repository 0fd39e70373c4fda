import GraphIR
import TensorCore

/// Puts the heads of attention side by side again.
///
/// - Shapes: `x`: `[batch, heads, tokens, headWidth]`; result:
///   `[batch, tokens, heads * headWidth]`.
package struct MergeHeads: Op {
  package static let name = "merge_heads"

  /// Makes the operation; it has no attributes.
  package init() {}

  package init(attributes: inout Attributes) throws(GraphError) {}

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 1...1)
    try requireFloats(inputs, 0, rank: 4...4)
    let heads = try fixedExtent(inputs, 0, axis: 1)
    let headWidth = try fixedExtent(inputs, 0, axis: 3)
    let extents = inputs[0].extents
    return [TensorType(.float32, [extents[0], extents[2], .fixed(heads * headWidth)])]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let shape = inputs.shape(0)
    let x = inputs.span(0, of: type)
    var y = outputs.span(0, of: type)
    forEachHeadRow(shape) { packed, interleaved in
      for d in 0..<shape[3] { y[interleaved + d] = x[packed + d] }
    }
  }
}

extension MergeHeads: AcceleratedOp {}

extension MergeHeads: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    let headWidth = builder.graph.tensorType(of: node.inputs[0]).extents[3].fixedCount ?? 1
    return [try builder.add(SplitHeads(headWidth: headWidth), node.gradient)]
  }
}
