import GraphIR
import TensorCore

/// `y = a + b`, element by element.
///
/// - Shapes: `a`, `b` and the result have the same extents.
package struct Add: Op {
  package static let name = "add"

  /// Makes the operation; it has no attributes.
  package init() {}

  package init(attributes: inout Attributes) throws(GraphError) {}

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...2)
    try requireFloats(inputs, 0, rank: 0...4)
    try requireFloats(inputs, 1, extents: inputs[0].extents)
    return [inputs[0]]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let a = inputs.span(0, of: type)
    let b = inputs.span(1, of: type)
    var y = outputs.span(0, of: type)
    for index in 0..<a.count { y[index] = a[index] + b[index] }
  }
}

extension Add: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    let a = inputs.pointer(0, of: Float.self)
    let b = inputs.pointer(1, of: Float.self)
    let y = outputs.pointer(0, of: Float.self)
    forEachRange(of: a.count, threadCount: outputs.threadCount, minimumCount: 1 << 16) { range in
      for index in range { y[index] = a[index] + b[index] }
    }
  }
}

extension Add: PrunableOp {
  package func axisLinks(inputs: [TensorType], outputs: [TensorType]) -> [AxisLink] {
    elementwiseLinks(inputs, operands: 2)
  }
}

extension Add: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    [node.gradient, node.gradient]
  }
}

extension Add: RowwiseOp {
  package var rowInputs: [Int] { [0, 1] }
}
