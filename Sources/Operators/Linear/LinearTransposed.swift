import GraphIR
import TensorCore

/// `y = x W` along the last axis: the gradient that a linear passes on.
///
/// - Shapes: `x`: `[..., out]`; `W`: `[out, in]`; result: `[..., in]`.
package struct LinearTransposed: Op {
  package static let name = "linear_transposed"

  /// Makes the operation; it has no attributes.
  package init() {}

  package init(attributes: inout Attributes) throws(GraphError) {}

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...2)
    try requireFloats(inputs, 0, rank: 1...4)
    try requireFloats(inputs, 1, rank: 2...2)
    guard let width = inputs[0].extents.last, inputs[1].extents[0] == width else {
      throw mismatch(inputs, 1, "f32[\(inputs[0].extents.last ?? 0), in]")
    }
    return [TensorType(.float32, inputs[0].extents.dropLast() + [inputs[1].extents[1]])]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let (rows, out) = matrixExtents(inputs.shape(0))
    let width = inputs.shape(1)[1]
    let x = inputs.span(0, of: type)
    let weight = inputs.span(1, of: type)
    var y = outputs.span(0, of: type)
    for row in 0..<rows {
      for column in 0..<width {
        var sum: Element = 0
        for k in 0..<out { sum += x[row * out + k] * weight[k * width + column] }
        y[row * width + column] = sum
      }
    }
  }

  package func multiplyAccumulateCount(inputs: [[Int]], outputs: [[Int]]) -> Int {
    outputs[0].reduce(1, *) * (inputs[0].last ?? 0)
  }
}

extension LinearTransposed: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    let (rows, out) = matrixExtents(inputs.shape(0))
    let width = inputs.shape(1)[1]
    Matrix.product(
      m: rows, n: width, k: out,
      MatrixView(inputs.pointer(0, of: Float.self), stride: out),
      MatrixView(inputs.pointer(1, of: Float.self), stride: width),
      isRounded: outputs.roundsFactors, into: outputs.pointer(0, of: Float.self),
      threadCount: outputs.threadCount)
  }
}

extension LinearTransposed: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    [
      node.isWanted[0] ? try builder.add(Linear(), node.gradient, node.inputs[1]) : nil,
      node.isWanted[1]
        ? try builder.add(ContractLeading(), node.inputs[0], node.gradient) : nil,
    ]
  }
}
