import GraphIR
import TensorCore

/// Rounds each row to symmetric codes of a scale of its own, as the integer runtime does:
/// `limit = 2^(bits-1)-1`, `scale = max|row| / limit`, 1 for a row of zeros,
/// `y = clamp(rint(x / scale), ±limit) * scale`, zero where the scale is too small to be a number.
///
/// - Shapes: any of rank 1 or more, rows along the last axis; the result has the input's extents.
package struct FakeQuantizeTokens: Op {
  package static let name = "fake_quantize_tokens"

  /// Bits of a code.
  package let bitCount: Int

  /// Makes the operation.
  package init(bitCount: Int) { self.bitCount = bitCount }

  package init(attributes: inout Attributes) throws(GraphError) {
    bitCount = try attributes.integer("bits", in: 2...8)
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    [("bits", .integer(bitCount))]
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 1...1)
    try requireFloats(inputs, 0, rank: 1...4)
    return inputs
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let width = inputs.shape(0).last ?? 1
    let x = inputs.span(0, of: type)
    var y = outputs.span(0, of: type)
    let limit = Element((1 << (bitCount - 1)) - 1)
    for start in stride(from: 0, to: x.count, by: max(width, 1)) {
      var peak: Element = 0
      for index in start..<(start + width) { peak = max(peak, abs(x[index])) }
      let scale = peak > 0 ? peak / limit : 1
      for index in start..<(start + width) {
        let code = (x[index] / scale).rounded(.toNearestOrEven)
        y[index] = scale > 0 ? min(max(code, -limit), limit) * scale : 0
      }
    }
  }
}

extension FakeQuantizeTokens: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    // Nothing is clipped, so rounding alone is taken for the identity.
    [node.gradient]
  }
}

extension FakeQuantizeTokens: RowwiseOp {
  package var rowInputs: [Int] { [0] }
}
