import GraphIR
import TensorCore

/// The step between codes with the lowest expected squared error for the elements of a tensor.
///
/// It is computed, not learned: no gradient passes.
///
/// - Shapes: `x`: any; `start`: `[]`, a step from which to search, or 0; result: `[]`, positive. Where
///   `x` has nothing to go by it is `start`, or 1.
/// - Source: Sakr et al., arXiv:2206.06501, section 3; see ``ScaleSearch``.
package struct OptimalScale: Op {
  package static let name = "optimal_scale"

  /// The codes in use, counted from the code of zero.
  package let codes: ClosedRange<Int>

  /// Makes the operation.
  ///
  /// - Precondition: zero is a code.
  package init(codes: ClosedRange<Int>) {
    precondition(codes.contains(0), "zero has a code")
    self.codes = codes
  }

  package init(attributes: inout Attributes) throws(GraphError) {
    codes = try attributes.codes()
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    [("lowest", .integer(codes.lowerBound)), ("highest", .integer(codes.upperBound))]
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...2)
    try requireFloats(inputs, 0, rank: 0...4)
    try requireFloats(inputs, 1, extents: [])
    return [inputs[1]]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let x = inputs.pointer(0, of: type)
    let start = inputs.span(1, of: type)[0]
    let found = ScaleSearch(codes: codes).scale(near: Double(start)) { low, high in
      var sums = ScaleSearch.Sums()
      for element in x where element != 0 {
        let value = Double(element)
        if value >= high {
          sums.above += value
          sums.aboveCount += 1
        } else if value <= low {
          sums.below += value
          sums.belowCount += 1
        } else {
          sums.insideCount += 1
        }
      }
      return sums
    }
    var y = outputs.span(0, of: type)
    y[0] = found.map { Element($0) } ?? (start > 0 ? start : 1)
  }
}

extension OptimalScale: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    let start = inputs.span(1, of: Float.self)[0]
    let found = ScaleSearch(codes: codes).scale(
      of: inputs.pointer(0, of: Float.self), near: start, threadCount: outputs.threadCount)
    var y = outputs.span(0, of: Float.self)
    y[0] = found ?? (start > 0 ? start : 1)
  }
}

extension OptimalScale: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] { [nil, nil] }
}
