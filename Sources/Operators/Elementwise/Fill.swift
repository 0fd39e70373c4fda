import GraphIR
import TensorCore

/// `y = constant`, whatever `x` holds.
///
/// - Shapes: any; the result has the input's extents.
package struct Fill: Op {
  package static let name = "fill"

  /// Every element of the result.
  package let constant: Float

  /// Makes the operation.
  package init(with constant: Float) { self.constant = constant }

  package init(attributes: inout Attributes) throws(GraphError) {
    constant = try attributes.real("constant")
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    [("constant", .real(constant))]
  }
}

extension Fill: ElementwiseOp {
  func value<Element: FloatingElement>(of x: Element) -> Element { Element(constant) }
}

extension Fill: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    return [nil]
  }
}
