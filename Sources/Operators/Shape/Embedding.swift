import GraphIR
import TensorCore

/// Looks up the row of a table for every id.
///
/// - Shapes: `ids`: int32 `[batch, tokens]`, each below the table's rows; `table`: `[rows, width]`;
///   result: `[batch, tokens, width]`.
package struct Embedding: Op {
  package static let name = "embedding"

  /// Makes the operation; it has no attributes.
  package init() {}

  package init(attributes: inout Attributes) throws(GraphError) {}

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...2)
    guard inputs[0].dtype == .int32, inputs[0].rank == 2 else {
      throw mismatch(inputs, 0, "i32[batch, tokens]")
    }
    try requireFloats(inputs, 1, rank: 2...2)
    return [TensorType(.float32, inputs[0].extents + [inputs[1].extents[1]])]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let width = inputs.shape(1)[1]
    let ids = inputs.span(0, of: Int32.self)
    let table = inputs.span(1, of: type)
    var y = outputs.span(0, of: type)
    for index in 0..<ids.count {
      let row = Int(ids[index]) * width
      for k in 0..<width { y[index * width + k] = table[row + k] }
    }
  }
}

extension Embedding: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    evaluate(inputs, &outputs, as: Float.self)
  }
}

extension Embedding: PrunableOp {
  package func axisLinks(inputs: [TensorType], outputs: [TensorType]) -> [AxisLink] {
    [
      AxisLink([.input(0, 0), .output(0, 0)]), AxisLink([.input(0, 1), .output(0, 1)]),
      AxisLink([.input(1, 1), .output(0, 2)]),
    ]
  }
}

extension Embedding: QuantizableOp {
  package var weightInputs: [Int] { [1] }
  package var activationInputs: [Int] { [] }
}

extension Embedding: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    guard node.isWanted[1] else { return [nil, nil] }
    let rows = builder.graph.tensorType(of: node.inputs[1]).extents[0].fixedCount ?? 0
    return [
      nil, try builder.add(EmbeddingGradient(rowCount: rows), node.inputs[0], node.gradient),
    ]
  }
}
