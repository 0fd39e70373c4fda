import GraphIR
import TensorCore

/// Keeps one token of every item, the class token of an image tower.
///
/// - Shapes: `x`: `[batch, tokens, width]`; result: `[batch, width]`.
package struct SelectToken: Op {
  package static let name = "select_token"

  /// Which token.
  package let index: Int

  /// Makes the operation.
  package init(index: Int) { self.index = index }

  package init(attributes: inout Attributes) throws(GraphError) {
    index = try attributes.integer("index", in: 0...1_000_000)
  }

  package var attributes: [(name: String, value: AttributeValue)] { [("index", .integer(index))] }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 1...1)
    try requireFloats(inputs, 0, rank: 3...3)
    let tokens = try fixedExtent(inputs, 0, axis: 1)
    guard index < tokens else {
      throw .attribute(op: Self.name, name: "index", expected: "below \(tokens)")
    }
    return [TensorType(.float32, [inputs[0].extents[0], inputs[0].extents[2]])]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let shape = inputs.shape(0)
    let (tokens, width) = (shape[1], shape[2])
    let x = inputs.span(0, of: type)
    var y = outputs.span(0, of: type)
    for item in 0..<shape[0] {
      let start = (item * tokens + index) * width
      for k in 0..<width { y[item * width + k] = x[start + k] }
    }
  }
}

extension SelectToken: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    evaluate(inputs, &outputs, as: Float.self)
  }
}

extension SelectToken: PrunableOp {
  package func axisLinks(inputs: [TensorType], outputs: [TensorType]) -> [AxisLink] {
    [AxisLink([.input(0, 0), .output(0, 0)]), AxisLink([.input(0, 2), .output(0, 1)])]
  }
}

extension SelectToken: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    let tokens = builder.graph.tensorType(of: node.inputs[0]).extents[1].fixedCount ?? 1
    return [try builder.add(PlaceToken(at: index, of: tokens), node.gradient)]
  }
}
