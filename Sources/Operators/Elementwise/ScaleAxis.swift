import GraphIR
import TensorCore

/// `y = z[i / unit] * x` for index `i` of one axis: what a mask of units does to a tensor.
///
/// - Shapes: `x`: any; `z`: `[extent / unit]` for the axis' extent; result: as `x`.
package struct ScaleAxis: Op {
  package static let name = "scale_axis"

  /// The axis whose indices are scaled.
  package let axis: Int
  /// How many neighbouring indices share a factor.
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
    try requireFloats(inputs, 1, extents: [.fixed(try unitCount(inputs, axis: axis, unit: unit))])
    return [inputs[0]]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let frame = AxisFrame(inputs.shape(0), axis: axis, unit: unit)
    let x = inputs.span(0, of: type)
    let z = inputs.span(1, of: type)
    var y = outputs.span(0, of: type)
    var index = 0
    for _ in 0..<frame.outerCount {
      for place in 0..<frame.unitCount {
        let factor = z[place]
        for _ in 0..<frame.blockSize {
          y[index] = x[index] * factor
          index += 1
        }
      }
    }
  }
}

extension ScaleAxis: AcceleratedOp {}

extension ScaleAxis: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    [
      node.isWanted[0] ? try builder.add(self, node.gradient, node.inputs[1]) : nil,
      node.isWanted[1]
        ? try builder.add(
          ContractAxis(axis: axis, unit: unit), node.gradient, node.inputs[0]) : nil,
    ]
  }
}

/// A tensor seen as blocks of neighbouring elements that share a unit of one axis: all units in
/// order, as often as there are indices before the axis.
struct AxisFrame {
  let outerCount: Int
  let unitCount: Int
  let blockSize: Int

  init(_ shape: [Int], axis: Int, unit: Int) {
    outerCount = shape[..<axis].reduce(1, *)
    unitCount = shape[axis] / unit
    blockSize = shape[(axis + 1)...].reduce(1, *) * unit
  }
}

extension Op {
  /// How many units of `unit` indices axis `axis` of input 0 has.
  func unitCount(_ inputs: [TensorType], axis: Int, unit: Int) throws(GraphError) -> Int {
    guard axis < inputs[0].rank else { throw mismatch(inputs, 0, "more than \(axis) axes") }
    let extent = try fixedExtent(inputs, 0, axis: axis)
    guard extent % unit == 0 else {
      throw mismatch(inputs, 0, "a multiple of \(unit) on axis \(axis)")
    }
    return extent / unit
  }
}
