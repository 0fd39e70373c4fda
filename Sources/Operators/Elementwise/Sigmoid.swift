import GraphIR
import TensorCore

/// `y = 1 / (1 + e⁻ˣ)`.
///
/// - Shapes: any; the result has the input's extents.
package struct Sigmoid: Op {
  package static let name = "sigmoid"

  /// Makes the operation; it has no attributes.
  package init() {}

  package init(attributes: inout Attributes) throws(GraphError) {}
}

extension Sigmoid: ElementwiseOp {
  func value<Element: FloatingElement>(of x: Element) -> Element { 1 / (1 + Element.exp(-x)) }
}

extension Sigmoid: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    let y = node.outputs[0]
    let slope = try builder.difference(y, try builder.product(y, y))
    return [try builder.product(node.gradient, slope)]
  }
}
