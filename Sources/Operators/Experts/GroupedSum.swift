import GraphIR
import TensorCore

/// The sum of the rows of the slots that one expert computes: the gradient of its bias.
///
/// - Shapes: `g`: `[..., slots, out]`; `assignment`: int32 `[..., slots]`; result: `[out]`.
package struct GroupedSum: Op {
  package static let name = "grouped_sum"

  /// The index of the expert.
  package let expert: Int

  /// Makes the operation.
  package init(expert: Int) { self.expert = expert }

  package init(attributes: inout Attributes) throws(GraphError) {
    expert = try attributes.integer("expert", in: 0...2 * largestExpertCount)
  }

  package var attributes: [(name: String, value: AttributeValue)] { [("expert", .integer(expert))] }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...2)
    try requireAssignment(inputs, 1)
    return [TensorType(.float32, [try requireSlotRows(inputs, 0, assignment: 1)])]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let g = inputs.span(0, of: type)
    let codes = inputs.span(1, of: Int32.self)
    var y = outputs.span(0, of: type)
    let width = y.count
    for k in 0..<width { y[k] = 0 }
    for slot in 0..<codes.count where Int(codes[slot]) == expert {
      for k in 0..<width { y[k] += g[slot * width + k] }
    }
  }
}

extension GroupedSum: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    let codes = inputs.pointer(1, of: Int32.self)
    let target = outputs.pointer(0, of: Float.self)
    let width = target.count
    target.update(repeating: 0)
    guard let g = inputs.pointer(0, of: Float.self).baseAddress, let y = target.baseAddress else {
      return
    }
    forEachRange(of: width, threadCount: outputs.threadCount, minimumCount: 64) { range in
      for (slot, code) in codes.enumerated() where Int(code) == expert {
        let row = g + slot * width
        for k in range { y[k] += row[k] }
      }
    }
  }
}

extension GroupedSum: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    [try builder.add(GroupedBroadcast(expert: expert), node.gradient, node.inputs[1]), nil]
  }
}

/// Repeats `u` in the rows of the slots that one expert computes; the others are zero.
///
/// - Shapes: `u`: `[out]`; `assignment`: int32 `[..., slots]`; result: `[..., slots, out]`.
package struct GroupedBroadcast: Op {
  package static let name = "grouped_broadcast"

  /// The index of the expert.
  package let expert: Int

  /// Makes the operation.
  package init(expert: Int) { self.expert = expert }

  package init(attributes: inout Attributes) throws(GraphError) {
    expert = try attributes.integer("expert", in: 0...2 * largestExpertCount)
  }

  package var attributes: [(name: String, value: AttributeValue)] { [("expert", .integer(expert))] }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...2)
    try requireFloats(inputs, 0, rank: 1...1)
    try requireAssignment(inputs, 1)
    return [TensorType(.float32, inputs[1].extents + inputs[0].extents)]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let u = inputs.span(0, of: type)
    let codes = inputs.span(1, of: Int32.self)
    var y = outputs.span(0, of: type)
    for slot in 0..<codes.count {
      let isOwn = Int(codes[slot]) == expert
      for k in 0..<u.count { y[slot * u.count + k] = isOwn ? u[k] : 0 }
    }
  }
}

extension GroupedBroadcast: AcceleratedOp {}

extension GroupedBroadcast: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    [try builder.add(GroupedSum(expert: expert), node.gradient, node.inputs[1]), nil]
  }
}
