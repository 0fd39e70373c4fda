import GraphIR
import TensorCore

/// The sum of `a * b` over everything that shares a unit of one axis: the gradient of a mask.
///
/// - Shapes: `a`, `b`: the same; result: `[extent / unit]` for the axis' extent.
package struct ContractAxis: Op {
  package static let name = "contract_axis"

  /// The axis that stays.
  package let axis: Int
  /// How many neighbouring indices fall together.
  package let unit: Int

  /// Makes the operation.
  package init(axis: Int, unit: Int) {
    self.axis = axis
    self.unit = unit
  }

  package init(attributes: inout Attributes) throws(GraphError) {
    axis = try attributes.integer("axis", in: 0...3)
    unit = try attributes.integer("unit", in: 1...1_000_000_000)
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    [("axis", .integer(axis)), ("unit", .integer(unit))]
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...2)
    try requireFloats(inputs, 0, rank: 1...4)
    try requireFloats(inputs, 1, extents: inputs[0].extents)
    return [TensorType(.float32, shape: [try unitCount(inputs, axis: axis, unit: unit)])]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let frame = AxisFrame(inputs.shape(0), axis: axis, unit: unit)
    let a = inputs.span(0, of: type)
    let b = inputs.span(1, of: type)
    var y = outputs.span(0, of: type)
    for index in 0..<y.count { y[index] = 0 }
    var index = 0
    for _ in 0..<frame.outerCount {
      for place in 0..<frame.unitCount {
        var sum: Element = 0
        for _ in 0..<frame.blockSize {
          sum += a[index] * b[index]
          index += 1
        }
        y[place] += sum
      }
    }
  }
}

extension ContractAxis: AcceleratedOp {}

extension ContractAxis: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    let scale = ScaleAxis(axis: axis, unit: unit)
    return [
      node.isWanted[0] ? try builder.add(scale, node.inputs[1], node.gradient) : nil,
      node.isWanted[1] ? try builder.add(scale, node.inputs[0], node.gradient) : nil,
    ]
  }
}
