import GraphIR
import TensorCore

/// `y = factor * x`.
///
/// - Shapes: any; the result has the input's extents.
package struct Scale: Op {
  package static let name = "scale"

  /// The factor.
  package let factor: Float

  /// Makes the operation.
  package init(by factor: Float) { self.factor = factor }

  package init(attributes: inout Attributes) throws(GraphError) {
    factor = try attributes.real("factor")
  }

  package var attributes: [(name: String, value: AttributeValue)] { [("factor", .real(factor))] }
}

extension Scale: ElementwiseOp {
  func value<Element: FloatingElement>(of x: Element) -> Element { Element(factor) * x }
}

extension Scale: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    return [try builder.scaled(node.gradient, by: factor)]
  }
}
