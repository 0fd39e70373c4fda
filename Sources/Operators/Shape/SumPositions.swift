import GraphIR
import TensorCore

/// The sum over the items at every place: the gradient of a table of positions.
///
/// - Shapes: `x`: `[batch, tokens, width]`; result: `[rowCount, width]`, zero from row `tokens` on.
package struct SumPositions: Op {
  package static let name = "sum_positions"

  /// Rows of the table, at least as many as tokens.
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
    try require(inputs, count: 1...1)
    try requireFloats(inputs, 0, rank: 3...3)
    return [TensorType(.float32, [.fixed(rowCount), inputs[0].extents[2]])]
  }

  package func checkBound(inputs: [[Int]]) throws(GraphError) {
    guard inputs[0][1] <= rowCount else {
      throw .inputType(
        op: Self.name, input: 0, expected: "at most \(rowCount) tokens", found: "\(inputs[0][1])")
    }
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let shape = inputs.shape(0)
    let count = shape[1] * shape[2]
    let x = inputs.span(0, of: type)
    var y = outputs.span(0, of: type)
    for index in 0..<y.count { y[index] = 0 }
    for item in 0..<shape[0] {
      for k in 0..<count { y[k] += x[item * count + k] }
    }
  }
}

extension SumPositions: AcceleratedOp {}

extension SumPositions: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    let zero = try builder.add(Fill(with: 0), node.inputs[0])
    return [try builder.add(AddPositions(), zero, node.gradient)]
  }
}
