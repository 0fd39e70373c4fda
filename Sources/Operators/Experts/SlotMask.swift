import GraphIR
import TensorCore

/// One where a slot has an expert with room, zero elsewhere: a constant of the routing.
///
/// - Shapes: `assignment`: int32 `[..., slots]`; result: `[..., slots]`.
package struct SlotMask: Op {
  package static let name = "slot_mask"

  /// Makes the operation; it has no attributes.
  package init() {}

  package init(attributes: inout Attributes) throws(GraphError) {}

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 1...1)
    try requireAssignment(inputs, 0)
    return [TensorType(.float32, inputs[0].extents)]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let codes = inputs.span(0, of: Int32.self)
    var y = outputs.span(0, of: type)
    for slot in 0..<y.count { y[slot] = codes[slot] >= 0 ? 1 : 0 }
  }
}

extension SlotMask: AcceleratedOp {}

extension SlotMask: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    [nil]
  }
}

/// One where a token chose an expert, with room or without, zero elsewhere: a constant of the
/// routing.
///
/// - Shapes: `assignment`: int32 `[..., slots]`; result: `[..., experts]`.
package struct ExpertMask: Op {
  package static let name = "expert_mask"

  /// How many experts there are.
  package let experts: Int

  /// Makes the operation.
  package init(experts: Int) { self.experts = experts }

  package init(attributes: inout Attributes) throws(GraphError) {
    experts = try attributes.integer("experts", in: 1...largestExpertCount)
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    [("experts", .integer(experts))]
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 1...1)
    try requireAssignment(inputs, 0)
    return [TensorType(.float32, inputs[0].extents.dropLast() + [.fixed(experts)])]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let slots = inputs.shape(0).last ?? 1
    let codes = inputs.span(0, of: Int32.self)
    var y = outputs.span(0, of: type)
    for index in 0..<y.count { y[index] = 0 }
    for slot in 0..<codes.count {
      let choice = SlotCode.choice(codes[slot]) ?? experts
      if choice < experts { y[slot / slots * experts + choice] = 1 }
    }
  }
}

extension ExpertMask: AcceleratedOp {}

extension ExpertMask: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    [nil]
  }
}
