import GraphIR
import TensorCore

/// Adds every row to the row of a table that its id names: the gradient of ``Embedding``'s table.
///
/// - Shapes: `ids`: int32 `[batch, tokens]`, each below `rowCount`; `x`: `[batch, tokens, width]`;
///   result: `[rowCount, width]`.
package struct EmbeddingGradient: Op {
  package static let name = "embedding_gradient"

  /// Rows of the table.
  package let rowCount: Int

  /// Makes the operation.
  package init(rowCount: Int) {
    self.rowCount = rowCount
  }

  package init(attributes: inout Attributes) throws(GraphError) {
    rowCount = try attributes.integer("rows", in: 0...1_000_000_000)
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    [("rows", .integer(rowCount))]
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...2)
    guard inputs[0].dtype == .int32, inputs[0].rank == 2 else {
      throw mismatch(inputs, 0, "i32[batch, tokens]")
    }
    try requireFloats(inputs, 1, rank: 3...3)
    guard Array(inputs[1].extents.prefix(2)) == inputs[0].extents else {
      throw mismatch(inputs, 1, "a row for each of \(inputs[0])")
    }
    return [TensorType(.float32, [.fixed(rowCount), inputs[1].extents[2]])]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let width = inputs.shape(1)[2]
    let ids = inputs.span(0, of: Int32.self)
    let x = inputs.span(1, of: type)
    var y = outputs.span(0, of: type)
    for index in 0..<y.count { y[index] = 0 }
    for index in 0..<ids.count {
      let row = Int(ids[index]) * width
      for k in 0..<width { y[row + k] += x[index * width + k] }
    }
  }
}

extension EmbeddingGradient: AcceleratedOp {}

extension EmbeddingGradient: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    [nil, try builder.add(Embedding(), node.inputs[0], node.gradient)]
  }
}
