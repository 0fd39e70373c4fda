import GraphIR
import TensorCore

/// Puts a row at one token of every item, zeros at the others.
///
/// - Shapes: `x`: `[batch, width]`; result: `[batch, tokenCount, width]`.
package struct PlaceToken: Op {
  package static let name = "place_token"

  /// Which token.
  package let index: Int
  /// Tokens of an item, more than `index`.
  package let tokenCount: Int

  /// Makes the operation.
  package init(at index: Int, of tokenCount: Int) {
    self.index = index
    self.tokenCount = tokenCount
  }

  package init(attributes: inout Attributes) throws(GraphError) {
    index = try attributes.integer("index", in: 0...1_000_000)
    tokenCount = try attributes.integer("tokens", in: 1...1_000_001)
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    [("index", .integer(index)), ("tokens", .integer(tokenCount))]
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 1...1)
    try requireFloats(inputs, 0, rank: 2...2)
    guard index < tokenCount else {
      throw .attribute(op: Self.name, name: "index", expected: "below \(tokenCount)")
    }
    return [
      TensorType(.float32, [inputs[0].extents[0], .fixed(tokenCount), inputs[0].extents[1]])
    ]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let shape = inputs.shape(0)
    let x = inputs.span(0, of: type)
    var y = outputs.span(0, of: type)
    for place in 0..<y.count { y[place] = 0 }
    for item in 0..<shape[0] {
      let start = (item * tokenCount + index) * shape[1]
      for k in 0..<shape[1] { y[start + k] = x[item * shape[1] + k] }
    }
  }
}

extension PlaceToken: AcceleratedOp {}

extension PlaceToken: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    [try builder.add(SelectToken(index: index), node.gradient)]
  }
}
