import GraphIR
import TensorCore

/// Adds row `t` of a table to token `t` of every item.
///
/// - Shapes: `x`: `[batch, tokens, width]`; `table`: `[longest, width]`, at least as many rows as
///   tokens; result: as `x`.
package struct AddPositions: Op {
  package static let name = "add_positions"

  /// Makes the operation; it has no attributes.
  package init() {}

  package init(attributes: inout Attributes) throws(GraphError) {}

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...2)
    try requireFloats(inputs, 0, rank: 3...3)
    try requireFloats(inputs, 1, rank: 2...2)
    let longest = try fixedExtent(inputs, 1, axis: 0)
    guard inputs[1].extents[1] == inputs[0].extents[2],
      (inputs[0].extents[1].fixedCount ?? 0) <= longest
    else {
      throw mismatch(
        inputs, 1, "f32[\(inputs[0].extents[1]) or more, \(inputs[0].extents[2])]")
    }
    return [inputs[0]]
  }

  package func checkBound(inputs: [[Int]]) throws(GraphError) {
    guard inputs[0][1] <= inputs[1][0] else {
      throw .inputType(
        op: Self.name, input: 0, expected: "at most \(inputs[1][0]) tokens",
        found: "\(inputs[0][1])")
    }
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let shape = inputs.shape(0)
    let count = shape[1] * shape[2]
    let x = inputs.span(0, of: type)
    let table = inputs.span(1, of: type)
    var y = outputs.span(0, of: type)
    for item in 0..<shape[0] {
      for k in 0..<count { y[item * count + k] = x[item * count + k] + table[k] }
    }
  }
}

extension AddPositions: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    evaluate(inputs, &outputs, as: Float.self)
  }
}

extension AddPositions: PrunableOp {
  package func axisLinks(inputs: [TensorType], outputs: [TensorType]) -> [AxisLink] {
    [
      AxisLink([.input(0, 0), .output(0, 0)]), AxisLink([.input(0, 1), .output(0, 1)]),
      AxisLink([.input(0, 2), .input(1, 1), .output(0, 2)]),
    ]
  }
}

extension AddPositions: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    let rows = builder.graph.tensorType(of: node.inputs[1]).extents[0].fixedCount ?? 0
    return [
      node.gradient,
      node.isWanted[1] ? try builder.add(SumPositions(rowCount: rows), node.gradient) : nil,
    ]
  }
}
