import GraphIR
import TensorCore

/// `y = g` where `lower < x < upper` and 0 elsewhere: the gradient of what is flat outside.
///
/// - Shapes: `x`, `g` and the result have the same extents.
package struct Gate: Op {
  package static let name = "gate"

  /// Where the open range begins.
  package let lower: Float
  /// Where it ends.
  package let upper: Float

  /// Makes the operation for what lies between `lower` and `upper`.
  package init(_ lower: Float, _ upper: Float = .greatestFiniteMagnitude) {
    self.lower = lower
    self.upper = upper
  }

  package init(attributes: inout Attributes) throws(GraphError) {
    lower = try attributes.real("lower")
    upper = try attributes.real("upper")
    guard lower <= upper else {
      throw .attribute(op: Self.name, name: "upper", expected: "at least \(lower)")
    }
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    [("lower", .real(lower)), ("upper", .real(upper))]
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...2)
    try requireFloats(inputs, 0, rank: 0...4)
    try requireFloats(inputs, 1, extents: inputs[0].extents)
    return [inputs[0]]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let x = inputs.span(0, of: type)
    let g = inputs.span(1, of: type)
    var y = outputs.span(0, of: type)
    for index in 0..<x.count {
      y[index] = x[index] > Element(lower) && x[index] < Element(upper) ? g[index] : 0
    }
  }
}

extension Gate: AcceleratedOp {}

extension Gate: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    [nil, try builder.add(self, node.inputs[0], node.gradient)]
  }
}
