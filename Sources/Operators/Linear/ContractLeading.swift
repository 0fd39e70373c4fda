import GraphIR
import TensorCore

/// `y = aᵀ b` over all axes but the last: the gradient of a linear's weight.
///
/// - Shapes: `a`: `[..., m]`; `b`: `[..., n]` with the same leading extents; result: `[m, n]`.
package struct ContractLeading: Op {
  package static let name = "contract_leading"

  /// Makes the operation; it has no attributes.
  package init() {}

  package init(attributes: inout Attributes) throws(GraphError) {}

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...2)
    try requireFloats(inputs, 0, rank: 1...4)
    try requireFloats(inputs, 1, rank: inputs[0].rank...inputs[0].rank)
    guard inputs[0].extents.dropLast() == inputs[1].extents.dropLast() else {
      throw mismatch(inputs, 1, "the leading extents of \(inputs[0])")
    }
    return [TensorType(.float32, inputs[0].extents.suffix(1) + inputs[1].extents.suffix(1))]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let (rows, m) = matrixExtents(inputs.shape(0))
    let n = inputs.shape(1).last ?? 1
    let a = inputs.span(0, of: type)
    let b = inputs.span(1, of: type)
    var y = outputs.span(0, of: type)
    for index in 0..<y.count { y[index] = 0 }
    for row in 0..<rows {
      for i in 0..<m {
        for j in 0..<n { y[i * n + j] += a[row * m + i] * b[row * n + j] }
      }
    }
  }

  package func multiplyAccumulateCount(inputs: [[Int]], outputs: [[Int]]) -> Int {
    inputs[0].reduce(1, *) * (inputs[1].last ?? 0)
  }
}

extension ContractLeading: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    let (rows, m) = matrixExtents(inputs.shape(0))
    let n = inputs.shape(1).last ?? 1
    Matrix.product(
      m: m, n: n, k: rows,
      MatrixView(inputs.pointer(0, of: Float.self), stride: m, isTransposed: true),
      MatrixView(inputs.pointer(1, of: Float.self), stride: n),
      isRounded: outputs.roundsFactors, into: outputs.pointer(0, of: Float.self),
      threadCount: outputs.threadCount)
  }
}

extension ContractLeading: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    [
      node.isWanted[0] ? try builder.add(Linear(), node.inputs[1], node.gradient) : nil,
      node.isWanted[1]
        ? try builder.add(LinearTransposed(), node.inputs[0], node.gradient) : nil,
    ]
  }
}
