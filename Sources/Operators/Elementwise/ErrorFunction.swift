import GraphIR
import TensorCore

/// `y = erf(x)`.
///
/// - Shapes: any; the result has the input's extents.
package struct ErrorFunction: Op {
  package static let name = "erf"

  /// Makes the operation; it has no attributes.
  package init() {}

  package init(attributes: inout Attributes) throws(GraphError) {}
}

extension ErrorFunction: ElementwiseOp {
  func value<Element: FloatingElement>(of x: Element) -> Element { Element.erf(x) }
}

extension ErrorFunction: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    let square = try builder.product(node.inputs[0], node.inputs[0])
    let bell = try builder.add(Exponential(), try builder.scaled(square, by: -1))
    let slope = try builder.scaled(bell, by: 2 / Float.pi.squareRoot())
    return [try builder.product(node.gradient, slope)]
  }
}
