import GraphIR
import TensorCore

/// One at the tokens of a text up to and with its end, zero at what pads it.
///
/// - Shapes: `ids`: int32 `[batch, tokens]`; result: `[batch, tokens]`.
package struct TextMask: Op {
  package static let name = "text_mask"

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
    try require(inputs, count: 1...1)
    guard inputs[0].dtype == .int32, inputs[0].rank == 2 else {
      throw mismatch(inputs, 0, "i32[batch, tokens]")
    }
    return [TensorType(.float32, inputs[0].extents)]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let shape = inputs.shape(0)
    let tokens = shape[1]
    let ids = inputs.span(0, of: Int32.self)
    var y = outputs.span(0, of: type)
    for item in 0..<shape[0] where tokens > 0 {
      let end = rule.position(in: ids, from: item * tokens, count: tokens)
      for token in 0..<tokens { y[item * tokens + token] = token <= end ? 1 : 0 }
    }
  }
}

extension TextMask: AcceleratedOp {}

extension TextMask: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    [nil]
  }
}
