import GraphIR
import TensorCore

/// Rounds every element to the nearest bfloat16, ties to even, as products of bfloat16 do with what
/// they read; what is not a number stays so.
///
/// - Shapes: any; the result has the input's extents.
package struct RoundToBFloat16: Op {
  package static let name = "round_to_bfloat16"

  /// Makes the operation; it has no attributes.
  package init() {}

  package init(attributes: inout Attributes) throws(GraphError) {}
}

extension RoundToBFloat16: ElementwiseOp {
  func value<Element: FloatingElement>(of x: Element) -> Element {
    let number = Float(x)
    guard !number.isNaN else { return x }
    let bits = number.bitPattern
    return Element(Float(bitPattern: (bits &+ 0x7FFF &+ (bits >> 16 & 1)) & 0xFFFF_0000))
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
