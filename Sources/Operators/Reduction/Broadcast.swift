import GraphIR
import TensorCore

/// Repeats the elements of `v` over some axes until they fill the extents of `like`.
///
/// - Shapes: `v`: what ``ReducedAxes`` leaves of `like`; `like`: any, its elements do not matter;
///   result: as `like`.
package struct Broadcast: Op {
  package static let name = "broadcast"

  /// Over which axes.
  package let axes: ReducedAxes
  /// Whether the elements are divided by the number of their copies.
  package let isMean: Bool

  /// Makes the operation.
  package init(over axes: ReducedAxes, isMean: Bool = false) {
    self.axes = axes
    self.isMean = isMean
  }

  package init(attributes: inout Attributes) throws(GraphError) {
    let word = try attributes.word("over", of: ReducedAxes.allCases.map(\.rawValue))
    axes = ReducedAxes(rawValue: word) ?? .all
    isMean = try attributes.flag("mean")
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    [("over", .word(axes.rawValue)), ("mean", .flag(isMean))]
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...2)
    try requireFloats(inputs, 1, rank: (axes == .all ? 0 : 1)...4)
    try requireFloats(inputs, 0, extents: axes.remaining(inputs[1].extents))
    return [inputs[1]]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let shape = inputs.shape(1)
    let width = shape.last ?? 1
    let v = inputs.span(0, of: type)
    var y = outputs.span(0, of: type)
    let divisor = Element(isMean ? max(axes.count(in: shape), 1) : 1)
    for index in 0..<y.count { y[index] = v[axes.target(of: index, width: width)] / divisor }
  }
}

extension Broadcast: AcceleratedOp {}

extension Broadcast: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    [try builder.add(Sum(over: axes, isMean: isMean), node.gradient), nil]
  }
}
