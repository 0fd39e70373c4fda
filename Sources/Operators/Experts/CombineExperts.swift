import GraphIR
import TensorCore

/// The sum of a token's rows, one for each slot, times their gates.
///
/// - Shapes: `rows`: `[..., slots, d]`; `gates`: `[..., slots]`; result: `[..., d]`.
package struct CombineExperts: Op {
  package static let name = "combine_experts"

  /// Makes the operation; it has no attributes.
  package init() {}

  package init(attributes: inout Attributes) throws(GraphError) {}

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...2)
    try requireFloats(inputs, 0, rank: 2...4)
    try requireFloats(inputs, 1, extents: inputs[0].extents.dropLast())
    return [TensorType(.float32, inputs[0].extents.dropLast(2) + inputs[0].extents.suffix(1))]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let (tokens, slots) = matrixExtents(inputs.shape(1))
    let width = inputs.shape(0).last ?? 1
    let rows = inputs.span(0, of: type)
    let gates = inputs.span(1, of: type)
    var y = outputs.span(0, of: type)
    for token in 0..<tokens {
      for k in 0..<width {
        var sum: Element = 0
        for slot in (token * slots)..<((token + 1) * slots) {
          sum += gates[slot] * rows[slot * width + k]
        }
        y[token * width + k] = sum
      }
    }
  }

  package func multiplyAccumulateCount(inputs: [[Int]], outputs: [[Int]]) -> Int {
    inputs[0].reduce(1, *)
  }
}

extension CombineExperts: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    let (tokens, slots) = matrixExtents(inputs.shape(1))
    let width = inputs.shape(0).last ?? 1
    guard slots > 0, let rows = inputs.pointer(0, of: Float.self).baseAddress,
      let gates = inputs.pointer(1, of: Float.self).baseAddress,
      let y = outputs.pointer(0, of: Float.self).baseAddress
    else { return evaluate(inputs, &outputs, as: Float.self) }
    forEachRange(of: tokens, threadCount: outputs.threadCount, minimumCount: 64) { range in
      for token in range {
        let (target, source) = (y + token * width, rows + token * slots * width)
        for slot in 0..<slots {
          let gate = gates[token * slots + slot]
          let row = source + slot * width
          if slot == 0 {
            for k in 0..<width { target[k] = gate * row[k] }
          } else {
            for k in 0..<width { target[k] += gate * row[k] }
          }
        }
      }
    }
  }
}

extension CombineExperts: PrunableOp {
  package func axisLinks(inputs: [TensorType], outputs: [TensorType]) -> [AxisLink] {
    let slots = inputs[1].rank - 1
    return leadingLinks([0, 1], rank: slots)
      + [AxisLink([.input(0, slots + 1), .output(0, slots)])]
  }
}

extension CombineExperts: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    let (rows, gates, g) = (node.inputs[0], node.inputs[1], node.gradient)
    return [
      node.isWanted[0] ? try builder.add(ScaleSlots(), g, gates) : nil,
      node.isWanted[1] ? try builder.add(SlotProducts(), rows, g) : nil,
    ]
  }
}

extension CombineExperts: RowwiseOp {
  package var rowInputs: [Int] { [0, 1] }
}
