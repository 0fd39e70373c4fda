import GraphIR
import TensorCore

/// `y = gᵀ x` over the slots that one expert computes: the gradient of its weight.
///
/// - Shapes: `g`: `[..., slots, out]` or `[..., out]`, a row that all slots of a token read; `x`:
///   `[..., slots, in]` or `[..., in]`; `assignment`: int32 `[..., slots]`; result: `[out, in]`.
package struct GroupedContract: Op {
  package static let name = "grouped_contract"

  /// The index of the expert.
  package let expert: Int

  /// Makes the operation.
  package init(expert: Int) { self.expert = expert }

  package init(attributes: inout Attributes) throws(GraphError) {
    expert = try attributes.integer("expert", in: 0...2 * largestExpertCount)
  }

  package var attributes: [(name: String, value: AttributeValue)] { [("expert", .integer(expert))] }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 3...3)
    try requireAssignment(inputs, 2)
    let out = try requireExpertRows(inputs, 0, assignment: 2)
    return [TensorType(.float32, [out, try requireExpertRows(inputs, 1, assignment: 2)])]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let frame = Frame(inputs)
    let g = inputs.span(0, of: type)
    let x = inputs.span(1, of: type)
    let codes = inputs.span(2, of: Int32.self)
    var y = outputs.span(0, of: type)
    for index in 0..<y.count { y[index] = 0 }
    for slot in 0..<codes.count where Int(codes[slot]) == expert {
      let left = slot / frame.outSharing * frame.out
      let right = slot / frame.inSharing * frame.width
      for i in 0..<frame.out {
        for j in 0..<frame.width { y[i * frame.width + j] += g[left + i] * x[right + j] }
      }
    }
  }

  package func multiplyAccumulateCount(inputs: [[Int]], outputs: [[Int]]) -> Int {
    // What one expert takes is not known beforehand: as if it took one slot of every token.
    inputs[2].dropLast().reduce(1, *) * outputs[0].reduce(1, *)
  }

  private struct Frame {
    let out: Int
    let width: Int
    let outSharing: Int
    let inSharing: Int

    init(_ inputs: borrowing InputOperands) {
      let (slots, rank) = (inputs.shape(2).last ?? 1, inputs.shape(2).count)
      out = inputs.shape(0).last ?? 1
      width = inputs.shape(1).last ?? 1
      outSharing = inputs.shape(0).count == rank ? slots : 1
      inSharing = inputs.shape(1).count == rank ? slots : 1
    }
  }
}

extension GroupedContract: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    let frame = Frame(inputs)
    let y = outputs.pointer(0, of: Float.self)
    let (threadCount, isRounded) = (outputs.threadCount, outputs.roundsFactors)
    let rows = ExpertRows(inputs.pointer(2, of: Int32.self), first: expert, count: 1)
    let count = rows.slots.count
    guard count > 0, let g = inputs.pointer(0, of: Float.self).baseAddress,
      let x = inputs.pointer(1, of: Float.self).baseAddress
    else { return y.update(repeating: 0) }
    // As many rows at a time as stay in the cache between copying and multiplying.
    let blockCount = (count + 1023) / 1024
    let height = (count + blockCount - 1) / blockCount
    withScratch(of: Float.self, height * frame.out) { left in
      withScratch(of: Float.self, height * frame.width) { right in
        for start in stride(from: 0, to: count, by: height) {
          let end = min(start + height, count)
          forEachRange(of: end - start, threadCount: threadCount, minimumCount: 64) { range in
            let chosen = (start + range.lowerBound)..<(start + range.upperBound)
            rows.gather(
              chosen, from: g, width: frame.out, sharing: frame.outSharing,
              to: left + range.lowerBound * frame.out)
            rows.gather(
              chosen, from: x, width: frame.width, sharing: frame.inSharing,
              to: right + range.lowerBound * frame.width)
          }
          Matrix.product(
            m: frame.out, n: frame.width, k: end - start,
            MatrixView(
              .init(start: left, count: height * frame.out), stride: frame.out,
              isTransposed: true),
            MatrixView(.init(start: right, count: height * frame.width), stride: frame.width),
            isRounded: isRounded, accumulates: start > 0, into: y, threadCount: threadCount)
        }
      }
    }
  }
}

extension GroupedContract: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    let (g, x, assignment, h) = (node.inputs[0], node.inputs[1], node.inputs[2], node.gradient)
    let rank = builder.graph.tensorType(of: assignment).rank
    var gradients: [Value?] = [nil, nil, nil]
    if node.isWanted[0] {
      let rows = try builder.add(GroupedLinear(experts: 1, first: expert), x, assignment, h)
      gradients[0] =
        builder.graph.tensorType(of: g).rank == rank
        ? try builder.add(CombineExperts(), rows, try builder.add(SlotMask(), assignment)) : rows
    }
    if node.isWanted[1] {
      let op = GroupedLinearTransposed(
        experts: 1, first: expert, isSum: builder.graph.tensorType(of: x).rank == rank)
      gradients[1] = try builder.add(op, g, assignment, h)
    }
    return gradients
  }
}
