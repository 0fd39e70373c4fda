import GraphIR
import TensorCore

/// Rounds every element to the nearest bfloat16, ties to even, as products of bfloat16 do with what
/// they read.
///
/// - Shapes: any; the result has the input's extents.
package struct RoundToBFloat16: Op {
  package static let name = "round_to_bfloat16"

  /// Makes the operation.
  package init() {}

  package init(attributes: inout Attributes) throws(GraphError) {}

  package var attributes: [(name: String, value: AttributeValue)] { [] }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 1...1)
    try requireFloats(inputs, 0, rank: 0...4)
    return inputs
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let x = inputs.span(0, of: type)
    var y = outputs.span(0, of: type)
    for index in 0..<x.count { y[index] = Element(Self.rounded(Float(x[index]))) }
  }

  /// The nearest bfloat16; what is not a number stays so.
  private static func rounded(_ number: Float) -> Float {
    guard !number.isNaN else { return number }
    let bits = number.bitPattern
    return Float(bitPattern: (bits &+ 0x7FFF &+ (bits >> 16 & 1)) & 0xFFFF_0000)
  }
}

extension RoundToBFloat16: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    let source = inputs.pointer(0, of: Float.self)
    guard let x = source.baseAddress, let y = outputs.pointer(0, of: Float.self).baseAddress
    else { return }
    forEachRange(
      of: source.count, threadCount: outputs.threadCount, minimumCount: 1 << 15
    ) { range in
      for index in range { y[index] = Self.rounded(x[index]) }
    }
  }
}

extension RoundToBFloat16: PrunableOp {
  package func axisLinks(inputs: [TensorType], outputs: [TensorType]) -> [AxisLink] {
    elementwiseLinks(inputs)
  }
}

extension RoundToBFloat16: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    // Rounding alone is taken for the identity.
    [node.gradient]
  }
}

extension RoundToBFloat16: RowwiseOp {
  package var rowInputs: [Int] { [0] }
}
