import GraphIR
import TensorCore

/// `y = min(max(x, lower), upper)`.
///
/// - Shapes: any; the result has the input's extents.
package struct Clamp: Op {
  package static let name = "clamp"

  /// The least value.
  package let lower: Float
  /// The greatest value.
  package let upper: Float

  /// Makes the operation for `lower...upper`.
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
}

extension Clamp: ElementwiseOp {
  func value<Element: FloatingElement>(of x: Element) -> Element {
    min(max(x, Element(lower)), Element(upper))
  }
}

extension Clamp: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    return [try builder.add(Gate(lower, upper), node.inputs[0], node.gradient)]
  }
}
