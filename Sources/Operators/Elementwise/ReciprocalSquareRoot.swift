import GraphIR
import TensorCore

/// `y = 1 / sqrt(x)`; zero where `x` is not positive, as a row of zeros is not normalized.
///
/// - Shapes: any; the result has the input's extents.
package struct ReciprocalSquareRoot: Op {
  package static let name = "rsqrt"

  /// Makes the operation; it has no attributes.
  package init() {}

  package init(attributes: inout Attributes) throws(GraphError) {}
}

extension ReciprocalSquareRoot: ElementwiseOp {
  func value<Element: FloatingElement>(of x: Element) -> Element { x > 0 ? 1 / x.squareRoot() : 0 }
}

extension ReciprocalSquareRoot: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    let y = node.outputs[0]
    let cube = try builder.product(try builder.product(y, y), y)
    return [try builder.product(node.gradient, try builder.scaled(cube, by: -0.5))]
  }
}
