import GraphIR
import TensorCore

/// `y = x + constant`.
///
/// - Shapes: any; the result has the input's extents.
package struct Offset: Op {
  package static let name = "offset"

  /// What is added.
  package let constant: Float

  /// Makes the operation.
  package init(by constant: Float) { self.constant = constant }

  package init(attributes: inout Attributes) throws(GraphError) {
    constant = try attributes.real("constant")
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    [("constant", .real(constant))]
  }
}

extension Offset: ElementwiseOp {
  func value<Element: FloatingElement>(of x: Element) -> Element { x + Element(constant) }
}

extension Offset: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    return [node.gradient]
  }
}
