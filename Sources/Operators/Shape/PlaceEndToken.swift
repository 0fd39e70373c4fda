import GraphIR
import TensorCore

/// Puts a row at the token where every item's text ends, zeros at the others.
///
/// - Shapes: `x`: `[batch, width]`; `ids`: int32 `[batch, tokens]`; result:
///   `[batch, tokens, width]`.
package struct PlaceEndToken: Op {
  package static let name = "place_end_token"

  /// How the end is found.
  package let rule: EndTokenRule

  /// Makes the operation.
  package init(rule: EndTokenRule) { self.rule = rule }

  package init(attributes: inout Attributes) throws(GraphError) {
    rule = try SelectEndToken(attributes: &attributes).rule
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    SelectEndToken(rule: rule).attributes
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...2)
    try requireFloats(inputs, 0, rank: 2...2)
    guard inputs[1].dtype == .int32, inputs[1].rank == 2,
      inputs[1].extents[0] == inputs[0].extents[0]
    else { throw mismatch(inputs, 1, "i32[\(inputs[0].extents[0]), tokens]") }
    return [TensorType(.float32, inputs[1].extents + [inputs[0].extents[1]])]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let shape = outputs.shape(0)
    let (tokens, width) = (shape[1], shape[2])
    let x = inputs.span(0, of: type)
    let ids = inputs.span(1, of: Int32.self)
    var y = outputs.span(0, of: type)
    for place in 0..<y.count { y[place] = 0 }
    for item in 0..<shape[0] where tokens > 0 {
      let token = rule.position(in: ids, from: item * tokens, count: tokens)
      let start = (item * tokens + token) * width
      for k in 0..<width { y[start + k] = x[item * width + k] }
    }
  }
}

extension PlaceEndToken: AcceleratedOp {}

extension PlaceEndToken: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    [try builder.add(SelectEndToken(rule: rule), node.gradient, node.inputs[1]), nil]
  }
}
