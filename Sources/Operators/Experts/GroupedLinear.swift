import GraphIR
import TensorCore

/// `y = x Wₑᵀ + bₑ` for the expert `e` of each slot: the linears of all experts as one operation.
///
/// Rows of slots whose expert is not among the weights, is full or was not chosen are zero; an
/// expert without tokens costs nothing.
///
/// - Shapes: `x`: `[..., in]`, a row for each token that all its slots read, or `[..., slots, in]`;
///   `assignment`: int32 `[..., slots]`; then each expert's `W`: `[out, in]`, then, if there are
///   biases, each expert's `b`: `[out]`; result: `[..., slots, out]`.
package struct GroupedLinear: Op {
  package static let name = "grouped_linear"

  /// How many experts' weights there are.
  package let experts: Int
  /// The index of the first of these experts.
  package let first: Int
  /// Whether biases follow the weights.
  package let hasBias: Bool
  /// Slots of a sample that an expert computes at most, where experts chose them; 0 elsewhere.
  ///
  /// It changes the count of multiplications alone: every slot of a token is counted without it.
  package let capacity: Int

  /// Makes the operation.
  package init(experts: Int, first: Int = 0, hasBias: Bool = false, capacity: Int = 0) {
    self.experts = experts
    self.first = first
    self.hasBias = hasBias
    self.capacity = capacity
  }

  package init(attributes: inout Attributes) throws(GraphError) {
    experts = try attributes.integer("experts", in: 1...largestExpertCount)
    first = try attributes.integer("first", in: 0...largestExpertCount, absent: 0)
    hasBias = try attributes.flag("bias")
    capacity = try attributes.integer("capacity", in: 1...1_000_000_000, absent: 0)
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    [("experts", .integer(experts))] + (first == 0 ? [] : [("first", .integer(first))])
      + [("bias", .flag(hasBias))] + (capacity == 0 ? [] : [("capacity", .integer(capacity))])
  }

  /// The inputs that are weights, in the order of the experts.
  package var weightRange: Range<Int> { 2..<(2 + experts) }
  /// The inputs that are biases, in the order of the experts.
  package var biasRange: Range<Int> { (2 + experts)..<(2 + experts * (hasBias ? 2 : 1)) }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    guard experts >= 1 else {
      throw .attribute(op: Self.name, name: "experts", expected: "at least 1")
    }
    try require(inputs, count: biasRange.upperBound...biasRange.upperBound)
    try requireAssignment(inputs, 1)
    let width = try requireExpertRows(inputs, 0, assignment: 1)
    let out = try requireWeights(inputs, weightRange)[0]
    guard inputs[2].extents[1] == width else { throw mismatch(inputs, 2, "f32[out, \(width)]") }
    for index in biasRange { try requireFloats(inputs, index, extents: [out]) }
    return [TensorType(.float32, inputs[1].extents + [out])]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let slots = inputs.shape(1).last ?? 1
    let (out, width) = (inputs.shape(2)[0], inputs.shape(2)[1])
    let sharing = inputs.shape(0).count == inputs.shape(1).count ? slots : 1
    let x = inputs.span(0, of: type)
    let codes = inputs.span(1, of: Int32.self)
    var y = outputs.span(0, of: type)
    for index in 0..<y.count { y[index] = 0 }
    for slot in 0..<codes.count {
      let expert = Int(codes[slot]) - first
      guard codes[slot] >= 0, expert >= 0, expert < experts else { continue }
      let weight = inputs.span(2 + expert, of: type)
      let row = slot / sharing * width
      for channel in 0..<out {
        var sum: Element = 0
        for k in 0..<width { sum += x[row + k] * weight[channel * width + k] }
        if hasBias { sum += inputs.span(2 + experts + expert, of: type)[channel] }
        y[slot * out + channel] = sum
      }
    }
  }

  package func multiplyAccumulateCount(inputs: [[Int]], outputs: [[Int]]) -> Int {
    var slots = inputs[1].reduce(1, *)
    if capacity > 0, inputs[1].count == 3 {
      slots = min(slots, inputs[1][0] * experts * min(capacity, inputs[1][1]))
    }
    return slots * inputs[2].reduce(1, *)
  }
}

extension GroupedLinear: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    let slots = inputs.shape(1).last ?? 1
    let (out, width) = (inputs.shape(2)[0], inputs.shape(2)[1])
    let codes = inputs.pointer(1, of: Int32.self)
    guard let y = outputs.pointer(0, of: Float.self).baseAddress, codes.count * out > 0 else {
      return
    }
    guard width > 0, let x = inputs.pointer(0, of: Float.self).baseAddress else {
      return evaluate(inputs, &outputs, as: Float.self)
    }
    clearOtherRows(codes, first: first, count: experts, width: out, y)
    var weights: [UnsafeBufferPointer<Float>] = []
    var biases: [UnsafeBufferPointer<Float>] = []
    for index in weightRange { weights.append(inputs.pointer(index, of: Float.self)) }
    for index in biasRange { biases.append(inputs.pointer(index, of: Float.self)) }
    ExpertRows(codes, first: first, count: experts).multiply(
      x, sharing: inputs.shape(0).count == inputs.shape(1).count ? slots : 1, inner: width,
      outer: out, weights: weights, biases: biases, isTransposed: false,
      isRounded: outputs.roundsFactors, into: y, threadCount: outputs.threadCount)
  }
}

extension GroupedLinear: PrunableOp {
  package func axisLinks(inputs: [TensorType], outputs: [TensorType]) -> [AxisLink] {
    let (last, slots) = (inputs[0].rank - 1, inputs[1].rank)
    let read: [OperandAxis] = [.input(0, last)] + weightRange.map { .input($0, 1) }
    let made: [OperandAxis] =
      [.output(0, slots)] + weightRange.map { .input($0, 0) } + biasRange.map { .input($0, 0) }
    return leadingLinks([0, 1], rank: slots - 1) + [AxisLink(read), AxisLink(made)]
  }
}

extension GroupedLinear: QuantizableOp {
  package var weightInputs: [Int] { Array(weightRange) }
  package var activationInputs: [Int] { [0] }
}

extension GroupedLinear: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    let (g, x, assignment) = (node.gradient, node.inputs[0], node.inputs[1])
    var gradients = [Value?](repeating: nil, count: node.inputs.count)
    if node.isWanted[0] {
      let graph = builder.graph
      let op = GroupedLinearTransposed(
        experts: experts, first: first,
        isSum: graph.tensorType(of: x).rank == graph.tensorType(of: assignment).rank)
      gradients[0] =
        try builder.addNode(op, [g, assignment] + node.inputs[weightRange])[0]
    }
    for (expert, index) in weightRange.enumerated() where node.isWanted[index] {
      gradients[index] = try builder.add(GroupedContract(expert: first + expert), g, x, assignment)
    }
    for (expert, index) in biasRange.enumerated() where node.isWanted[index] {
      gradients[index] = try builder.add(GroupedSum(expert: first + expert), g, assignment)
    }
    return gradients
  }
}

extension GroupedLinear: RowwiseOp {
  package var rowInputs: [Int] { [0, 1] }
}

extension Op {
  /// Throws unless the inputs in `range` are float32 matrices of the same extents, and returns
  /// these.
  func requireWeights(
    _ inputs: [TensorType], _ range: Range<Int>
  ) throws(GraphError) -> [Extent] {
    let extents = inputs[range.lowerBound].extents
    for index in range {
      try requireFloats(inputs, index, rank: 2...2)
      try requireFloats(inputs, index, extents: extents)
    }
    return extents
  }
}
