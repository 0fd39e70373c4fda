import GraphIR
import TensorCore

/// `y = g Wₑ` for the expert `e` of each slot: the gradient that ``GroupedLinear`` passes on.
///
/// - Shapes: `g`: `[..., slots, out]`, or `[..., out]`, a row that all slots of a token read;
///   `assignment`: int32 `[..., slots]`; then each expert's `W`: `[out, in]`; result:
///   `[..., slots, in]`, or `[..., in]` where the slots of a token are summed.
package struct GroupedLinearTransposed: Op {
  package static let name = "grouped_linear_transposed"

  /// How many experts' weights there are.
  package let experts: Int
  /// The index of the first of these experts.
  package let first: Int
  /// Whether the slots of a token are summed.
  package let isSum: Bool

  /// Makes the operation.
  package init(experts: Int, first: Int = 0, isSum: Bool) {
    self.experts = experts
    self.first = first
    self.isSum = isSum
  }

  package init(attributes: inout Attributes) throws(GraphError) {
    experts = try attributes.integer("experts", in: 1...largestExpertCount)
    first = try attributes.integer("first", in: 0...largestExpertCount, absent: 0)
    isSum = try attributes.flag("sum")
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    [("experts", .integer(experts))] + (first == 0 ? [] : [("first", .integer(first))])
      + [("sum", .flag(isSum))]
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    guard experts >= 1 else {
      throw .attribute(op: Self.name, name: "experts", expected: "at least 1")
    }
    try require(inputs, count: (2 + experts)...(2 + experts))
    try requireAssignment(inputs, 1)
    let out = try requireExpertRows(inputs, 0, assignment: 1)
    let extents = try requireWeights(inputs, 2..<(2 + experts))
    guard extents[0] == out else { throw mismatch(inputs, 2, "f32[\(out), in]") }
    return [
      TensorType(
        .float32, (isSum ? inputs[1].extents.dropLast() : inputs[1].extents) + [extents[1]])
    ]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let slots = inputs.shape(1).last ?? 1
    let (out, width) = (inputs.shape(2)[0], inputs.shape(2)[1])
    let sharing = inputs.shape(0).count == inputs.shape(1).count ? slots : 1
    let g = inputs.span(0, of: type)
    let codes = inputs.span(1, of: Int32.self)
    var y = outputs.span(0, of: type)
    for index in 0..<y.count { y[index] = 0 }
    for slot in 0..<codes.count {
      let expert = Int(codes[slot]) - first
      guard codes[slot] >= 0, expert >= 0, expert < experts else { continue }
      let weight = inputs.span(2 + expert, of: type)
      let row = slot / sharing * out
      let target = (isSum ? slot / slots : slot) * width
      for k in 0..<width {
        var sum: Element = 0
        for channel in 0..<out { sum += g[row + channel] * weight[channel * width + k] }
        y[target + k] += sum
      }
    }
  }

  package func multiplyAccumulateCount(inputs: [[Int]], outputs: [[Int]]) -> Int {
    inputs[1].reduce(1, *) * inputs[2].reduce(1, *)
  }
}

extension GroupedLinearTransposed: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    let slots = inputs.shape(1).last ?? 1
    let (out, width) = (inputs.shape(2)[0], inputs.shape(2)[1])
    let codes = inputs.pointer(1, of: Int32.self)
    let (threadCount, isRounded) = (outputs.threadCount, outputs.roundsFactors)
    guard out > 0, codes.count * width > 0, let g = inputs.pointer(0, of: Float.self).baseAddress,
      let y = outputs.pointer(0, of: Float.self).baseAddress
    else { return evaluate(inputs, &outputs, as: Float.self) }
    var weights: [UnsafeBufferPointer<Float>] = []
    for index in 2..<(2 + experts) { weights.append(inputs.pointer(index, of: Float.self)) }
    let sharing = inputs.shape(0).count == inputs.shape(1).count ? slots : 1
    let rows = ExpertRows(codes, first: first, count: experts)
    func multiply(into target: UnsafeMutablePointer<Float>) {
      clearOtherRows(codes, first: first, count: experts, width: width, target)
      rows.multiply(
        g, sharing: sharing, inner: out, outer: width, weights: weights, biases: [],
        isTransposed: true, isRounded: isRounded, into: target, threadCount: threadCount)
    }
    guard isSum, slots > 1 else { return multiply(into: y) }
    // Two experts' rows of one token meet only when both are there.
    withScratch(of: Float.self, codes.count * width) { parts in
      multiply(into: parts)
      forEachRange(of: codes.count / slots, threadCount: threadCount, minimumCount: 64) { range in
        for token in range {
          let (target, source) = (y + token * width, parts + token * slots * width)
          target.update(from: source, count: width)
          for slot in 1..<slots {
            for k in 0..<width { target[k] += source[slot * width + k] }
          }
        }
      }
    }
  }
}

extension GroupedLinearTransposed: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    let (g, assignment, h) = (node.inputs[0], node.inputs[1], node.gradient)
    var gradients = [Value?](repeating: nil, count: node.inputs.count)
    if node.isWanted[0] {
      let rows = try builder.addNode(
        GroupedLinear(experts: experts, first: first), [h, assignment] + node.inputs[2...])[0]
      let graph = builder.graph
      gradients[0] =
        graph.tensorType(of: g).rank == graph.tensorType(of: assignment).rank
        ? try builder.add(CombineExperts(), rows, try builder.add(SlotMask(), assignment)) : rows
    }
    for expert in 0..<experts where node.isWanted[2 + expert] {
      gradients[2 + expert] = try builder.add(
        GroupedContract(expert: first + expert), g, h, assignment)
    }
    return gradients
  }
}
