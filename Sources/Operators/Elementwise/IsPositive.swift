import GraphIR
import TensorCore

/// `y = 1` where `x > 0` and 0 elsewhere.
///
/// - Shapes: any; the result has the input's extents.
package struct IsPositive: Op {
  package static let name = "is_positive"

  /// Makes the operation; it has no attributes.
  package init() {}

  package init(attributes: inout Attributes) throws(GraphError) {}
}

extension IsPositive: ElementwiseOp {
  func value<Element: FloatingElement>(of x: Element) -> Element { x > 0 ? 1 : 0 }
}

extension IsPositive: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    return [nil]
  }
}
