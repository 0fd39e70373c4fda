import GraphIR
import TensorCore

/// An operation that computes each element from the one at its place.
///
/// - Shapes: any; the result has the input's extents.
protocol ElementwiseOp: AcceleratedOp {
  /// The result for an element.
  func value<Element: FloatingElement>(of x: Element) -> Element
}

extension ElementwiseOp {
  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 1...1)
    try requireFloats(inputs, 0, rank: 0...4)
    return inputs
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let x = inputs.span(0, of: type)
    var y = outputs.span(0, of: type)
    for index in 0..<x.count { y[index] = value(of: x[index]) }
  }
}

extension AcceleratedOp {
  /// Runs the definition, compiled for float32.
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    evaluate(inputs, &outputs, as: Float.self)
  }
}

extension GraphBuilder {
  /// `a + b`.
  package mutating func sum(_ a: Value, _ b: Value) throws(GraphError) -> Value {
    try add(Add(), a, b)
  }

  /// `a * b`, element by element.
  package mutating func product(_ a: Value, _ b: Value) throws(GraphError) -> Value {
    try add(Multiply(), a, b)
  }

  /// `factor * x`.
  package mutating func scaled(_ x: Value, by factor: Float) throws(GraphError) -> Value {
    factor == 1 ? x : try add(Scale(by: factor), x)
  }

  /// `a - b`.
  package mutating func difference(_ a: Value, _ b: Value) throws(GraphError) -> Value {
    try sum(a, try scaled(b, by: -1))
  }
}
