import GraphIR
import TensorCore

/// The element of `x` at each slot's expert, whether it has room or not.
///
/// - Shapes: `x`: `[..., experts]`; `assignment`: int32 `[..., slots]`; result: `[..., slots]`.
package struct SelectSlots: Op {
  package static let name = "select_slots"

  /// What stands where no expert was chosen.
  package let fill: Float

  /// Makes the operation.
  package init(fill: Float = 0) { self.fill = fill }

  package init(attributes: inout Attributes) throws(GraphError) {
    fill = try attributes.real("fill")
  }

  package var attributes: [(name: String, value: AttributeValue)] { [("fill", .real(fill))] }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...2)
    try requireAssignment(inputs, 1)
    _ = try requireBeside(inputs, 0, assignment: 1)
    return [TensorType(.float32, inputs[1].extents)]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let experts = inputs.shape(0).last ?? 1
    let slots = inputs.shape(1).last ?? 1
    let x = inputs.span(0, of: type)
    let codes = inputs.span(1, of: Int32.self)
    var y = outputs.span(0, of: type)
    for slot in 0..<y.count {
      let choice = SlotCode.choice(codes[slot]) ?? experts
      y[slot] = choice < experts ? x[slot / slots * experts + choice] : Element(fill)
    }
  }
}

extension SelectSlots: AcceleratedOp {}

extension SelectSlots: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    let experts = builder.graph.tensorType(of: node.inputs[0]).extents.last?.fixedCount ?? 1
    return [try builder.add(PlaceSlots(experts: experts), node.gradient, node.inputs[1]), nil]
  }
}

/// Puts each slot's element at its expert, whether it has room or not, zeros elsewhere: the
/// transpose of ``SelectSlots``.
///
/// - Shapes: `g`: `[..., slots]`; `assignment`: int32 of the same extents; result:
///   `[..., experts]`.
package struct PlaceSlots: Op {
  package static let name = "place_slots"

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
    try require(inputs, count: 2...2)
    try requireAssignment(inputs, 1)
    try requireFloats(inputs, 0, extents: inputs[1].extents)
    return [TensorType(.float32, inputs[1].extents.dropLast() + [.fixed(experts)])]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let slots = inputs.shape(1).last ?? 1
    let g = inputs.span(0, of: type)
    let codes = inputs.span(1, of: Int32.self)
    var y = outputs.span(0, of: type)
    for index in 0..<y.count { y[index] = 0 }
    for slot in 0..<g.count {
      let choice = SlotCode.choice(codes[slot]) ?? experts
      if choice < experts { y[slot / slots * experts + choice] += g[slot] }
    }
  }
}

extension PlaceSlots: AcceleratedOp {}

extension PlaceSlots: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    [try builder.add(SelectSlots(), node.gradient, node.inputs[1]), nil]
  }
}
