import GraphIR
import TensorCore

/// `y = eˣ`.
///
/// - Shapes: any; the result has the input's extents.
package struct Exponential: Op {
  package static let name = "exp"

  /// Makes the operation; it has no attributes.
  package init() {}

  package init(attributes: inout Attributes) throws(GraphError) {}
}

extension Exponential: ElementwiseOp {
  func value<Element: FloatingElement>(of x: Element) -> Element { Element.exp(x) }
}

extension Exponential: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    return [try builder.product(node.gradient, node.outputs[0])]
  }
}
