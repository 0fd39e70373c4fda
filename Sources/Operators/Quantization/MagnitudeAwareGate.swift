import GraphIR
import TensorCore

/// `y = g` where a weight lies inside the grid of its codes and `g * limit / |w|` where it is
/// clipped.
///
/// - Shapes: `w`: `[rows, ...]`; `scales`: `[rows]`; `g` and the result: as `w`.
/// - Source: Sakr et al., arXiv:2206.06501, section 4.
package struct MagnitudeAwareGate: Op {
  package static let name = "magnitude_aware_gate"

  /// Bits of a code.
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
    try require(inputs, count: 3...3)
    try requireFloats(inputs, 2, extents: inputs[0].extents)
    return try FakeQuantizeWeight(bitCount: bitCount).outputTypes(for: Array(inputs.prefix(2)))
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let shape = inputs.shape(0)
    let width = shape.dropFirst().reduce(1, *)
    let w = inputs.span(0, of: type)
    let scales = inputs.span(1, of: type)
    let g = inputs.span(2, of: type)
    var y = outputs.span(0, of: type)
    for row in 0..<shape[0] {
      let limit = Element((1 << (bitCount - 1)) - 1) * scales[row]
      for index in (row * width)..<((row + 1) * width) {
        y[index] = abs(w[index]) <= limit ? g[index] : g[index] * limit / abs(w[index])
      }
    }
  }
}

extension MagnitudeAwareGate: AcceleratedOp {}

extension MagnitudeAwareGate: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    [
      nil, nil,
      try builder.add(self, node.inputs[0], node.inputs[1], node.gradient),
    ]
  }
}
