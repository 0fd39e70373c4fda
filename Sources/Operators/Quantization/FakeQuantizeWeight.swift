import GraphIR
import TensorCore

/// Rounds a weight to the grid of its integer codes: `y = clamp(rint(w / scale)) * scale`.
///
/// Its gradient is that of magnitude-aware differentiation: whole inside the grid, and shrunk by
/// `limit / |w|` where the weight is clipped, so that clipped weights go on learning.
///
/// - Shapes: `w`: `[rows, ...]`; `scales`: `[rows]`, positive; result: as `w`.
/// - Source: Sakr et al., "Optimal Clipping and Magnitude-aware Differentiation for Improved
///   Quantization-aware Training", ICML 2022, arXiv:2206.06501.
package struct FakeQuantizeWeight: Op {
  package static let name = "fake_quantize_weight"

  /// Bits of a code; the grid is symmetric about zero.
  package let bitCount: Int

  /// Makes the operation.
  package init(bitCount: Int) {
    self.bitCount = bitCount
  }

  package init(attributes: inout Attributes) throws(GraphError) {
    bitCount = try attributes.integer("bits", in: 2...8)
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    [("bits", .integer(bitCount))]
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...2)
    try requireFloats(inputs, 0, rank: 1...4)
    try requireFloats(inputs, 1, extents: [inputs[0].extents[0]])
    return [inputs[0]]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let shape = inputs.shape(0)
    let width = shape.dropFirst().reduce(1, *)
    let limit = Element((1 << (bitCount - 1)) - 1)
    let w = inputs.span(0, of: type)
    let scales = inputs.span(1, of: type)
    var y = outputs.span(0, of: type)
    for row in 0..<shape[0] {
      for index in (row * width)..<((row + 1) * width) {
        let code = (w[index] / scales[row]).rounded(.toNearestOrEven)
        y[index] = min(max(code, -limit), limit) * scales[row]
      }
    }
  }
}

extension FakeQuantizeWeight: AcceleratedOp {}

extension FakeQuantizeWeight: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    [
      try builder.add(
        MagnitudeAwareGate(bitCount: bitCount), node.inputs[0], node.inputs[1], node.gradient),
      nil,
    ]
  }
}
