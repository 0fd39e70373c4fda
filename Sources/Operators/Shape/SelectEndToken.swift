import GraphIR
import TensorCore

/// How the end of a text is found among its ids.
package enum EndTokenRule: Hashable, Sendable {
  /// The first position of the largest id.
  case largest
  /// The first position of this id; position 0 where it is absent.
  case first(Int32)

  /// The position of the end in `ids`.
  package func position(in ids: Span<Int32>, from start: Int, count: Int) -> Int {
    switch self {
    case .largest:
      var best = 0
      for t in 0..<count where ids[start + t] > ids[start + best] { best = t }
      return best
    case .first(let id):
      for t in 0..<count where ids[start + t] == id { return t }
      return 0
    }
  }
}

/// Keeps the token of every item at which its text ends.
///
/// - Shapes: `x`: `[batch, tokens, width]`; `ids`: int32 `[batch, tokens]`; result:
///   `[batch, width]`.
package struct SelectEndToken: Op {
  package static let name = "select_end_token"

  /// How the end is found.
  package let rule: EndTokenRule

  /// Makes the operation.
  package init(rule: EndTokenRule) { self.rule = rule }

  package init(attributes: inout Attributes) throws(GraphError) {
    switch try attributes.word("rule", of: ["largest", "first"]) {
    case "first":
      rule = .first(Int32(try attributes.integer("token", in: 0...Int(Int32.max))))
    default: rule = .largest
    }
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    switch rule {
    case .largest: [("rule", .word("largest"))]
    case .first(let id): [("rule", .word("first")), ("token", .integer(Int(id)))]
    }
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...2)
    try requireFloats(inputs, 0, rank: 3...3)
    let ids = TensorType(.int32, Array(inputs[0].extents[..<2]))
    guard inputs[1] == ids else { throw mismatch(inputs, 1, "\(ids)") }
    return [TensorType(.float32, [inputs[0].extents[0], inputs[0].extents[2]])]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let shape = inputs.shape(0)
    let (tokens, width) = (shape[1], shape[2])
    let x = inputs.span(0, of: type)
    let ids = inputs.span(1, of: Int32.self)
    var y = outputs.span(0, of: type)
    for item in 0..<shape[0] where tokens > 0 {
      let token = rule.position(in: ids, from: item * tokens, count: tokens)
      let start = (item * tokens + token) * width
      for k in 0..<width { y[item * width + k] = x[start + k] }
    }
  }
}

extension SelectEndToken: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    evaluate(inputs, &outputs, as: Float.self)
  }
}

extension SelectEndToken: PrunableOp {
  package func axisLinks(inputs: [TensorType], outputs: [TensorType]) -> [AxisLink] {
    [
      AxisLink([.input(0, 0), .input(1, 0), .output(0, 0)]),
      AxisLink([.input(0, 2), .output(0, 1)]),
    ]
  }
}

extension SelectEndToken: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    [try builder.add(PlaceEndToken(rule: rule), node.gradient, node.inputs[1]), nil]
  }
}
