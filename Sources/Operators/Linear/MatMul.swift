import GraphIR
import TensorCore

/// Products of matrices, `y = a b`, each operand transposed on request.
///
/// - Shapes: `a`: `[..., m, k]`, or `[..., k, m]` transposed; `b`: `[..., k, n]`, or `[..., n, k]`
///   transposed, with the same leading extents; result: `[..., m, n]`.
package struct MatMul: Op {
  package static let name = "matmul"

  /// Whether `a` holds its columns as rows.
  package let transposesA: Bool
  /// Whether `b` holds its columns as rows.
  package let transposesB: Bool

  /// Makes the operation.
  package init(transposesA: Bool = false, transposesB: Bool = false) {
    self.transposesA = transposesA
    self.transposesB = transposesB
  }

  package init(attributes: inout Attributes) throws(GraphError) {
    transposesA = try attributes.flag("transpose_a")
    transposesB = try attributes.flag("transpose_b")
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    [("transpose_a", .flag(transposesA)), ("transpose_b", .flag(transposesB))]
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...2)
    try requireFloats(inputs, 0, rank: 2...4)
    let rank = inputs[0].rank
    try requireFloats(inputs, 1, rank: rank...rank)
    let a = inputs[0].extents.suffix(2).map { $0 }
    let b = inputs[1].extents.suffix(2).map { $0 }
    let (m, k) = transposesA ? (a[1], a[0]) : (a[0], a[1])
    let (inner, n) = transposesB ? (b[1], b[0]) : (b[0], b[1])
    guard k == inner, inputs[0].extents.dropLast(2) == inputs[1].extents.dropLast(2) else {
      throw mismatch(inputs, 1, "a matrix that \(inputs[0]) can be multiplied with")
    }
    return [TensorType(.float32, inputs[0].extents.dropLast(2) + [m, n])]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let frame = Frame(inputs, self)
    let a = inputs.span(0, of: type)
    let b = inputs.span(1, of: type)
    var y = outputs.span(0, of: type)
    let (m, n, k) = (frame.m, frame.n, frame.k)
    for item in 0..<frame.items {
      for i in 0..<m {
        for j in 0..<n {
          var sum: Element = 0
          for l in 0..<k {
            let left = a[item * m * k + (transposesA ? l * m + i : i * k + l)]
            let right = b[item * k * n + (transposesB ? j * k + l : l * n + j)]
            sum += left * right
          }
          y[(item * m + i) * n + j] = sum
        }
      }
    }
  }

  package func multiplyAccumulateCount(inputs: [[Int]], outputs: [[Int]]) -> Int {
    outputs[0].reduce(1, *) * inputs[0][inputs[0].count - (transposesA ? 2 : 1)]
  }

  private struct Frame {
    let items: Int
    let m: Int
    let n: Int
    let k: Int

    init(_ inputs: borrowing InputOperands, _ op: MatMul) {
      let a = inputs.shape(0)
      let b = inputs.shape(1)
      let rank = a.count
      items = a.dropLast(2).reduce(1, *)
      m = op.transposesA ? a[rank - 1] : a[rank - 2]
      k = op.transposesA ? a[rank - 2] : a[rank - 1]
      n = op.transposesB ? b[rank - 2] : b[rank - 1]
    }
  }
}

extension MatMul: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    let frame = Frame(inputs, self)
    let (m, n, k) = (frame.m, frame.n, frame.k)
    let a = inputs.pointer(0, of: Float.self)
    let b = inputs.pointer(1, of: Float.self)
    let y = outputs.pointer(0, of: Float.self)
    for item in 0..<frame.items {
      Matrix.multiply(
        m: m, n: n, k: k,
        MatrixView(
          .init(rebasing: a[(item * m * k)...]), stride: transposesA ? m : k,
          isTransposed: transposesA),
        MatrixView(
          .init(rebasing: b[(item * k * n)...]), stride: transposesB ? k : n,
          isTransposed: transposesB),
        into: .init(rebasing: y[(item * m * n)...]),
        threadCount: outputs.threadCount)
    }
  }
}

extension MatMul: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    let (a, b, g) = (node.inputs[0], node.inputs[1], node.gradient)
    var gradients: [Value?] = [nil, nil]
    if node.isWanted[0] {
      gradients[0] =
        transposesA
        ? try builder.add(MatMul(transposesA: transposesB, transposesB: true), b, g)
        : try builder.add(MatMul(transposesB: !transposesB), g, b)
    }
    if node.isWanted[1] {
      gradients[1] =
        transposesB
        ? try builder.add(MatMul(transposesA: true, transposesB: transposesA), g, a)
        : try builder.add(MatMul(transposesA: !transposesA), a, g)
    }
    return gradients
  }
}
