import GraphIR
import TensorCore

/// Chooses the experts that compute each token.
///
/// - Token choice: a token takes the experts of its largest logits, which are those of the largest
///   probabilities, in descending order; ties go to the lower index. With a capacity an expert
///   takes that many tokens of each sample at most, the first ones, each with all its choices: the
///   routing of a token never depends on later tokens.
/// - Expert choice: an expert takes the tokens of a sample for which its softmax probability is
///   largest, as many as its capacity; ties go to the earlier token. Slot `e` of a token is `e` or
///   none. Every token's routing depends on all others.
///
/// - Shapes: `logits`: `[..., experts]`, with a capacity `[batch, tokens, experts]`; result: int32
///   `[..., slots]`, see ``SlotCode``, with as many slots as choices of a token, or as experts.
/// - Source: Shazeer et al., "Outrageously Large Neural Networks", ICLR 2017, arXiv:1701.06538;
///   Zhou et al., "Mixture-of-Experts with Expert Choice Routing", NeurIPS 2022, arXiv:2202.09368.
package struct RouteTokens: Op {
  package static let name = "route_tokens"

  /// Who chooses.
  package enum Choice: Hashable, Sendable {
    /// Each token chooses this many experts.
    case tokens(topK: Int)
    /// Each expert chooses as many tokens as its capacity.
    case experts
  }

  /// Who chooses.
  package let choice: Choice
  /// Tokens of a sample that an expert takes at most; 0 for any number.
  package let capacity: Int

  /// Lets each token choose `topK` experts, each of which takes at most `capacity` tokens of a
  /// sample, or any number where that is 0.
  package init(topK: Int, capacity: Int = 0) {
    choice = .tokens(topK: topK)
    self.capacity = capacity
  }

  /// Lets each expert choose `capacity` tokens of each sample.
  package init(expertChoiceOf capacity: Int) {
    choice = .experts
    self.capacity = capacity
  }

  package init(attributes: inout Attributes) throws(GraphError) {
    if try attributes.word("choice", of: ["tokens", "experts"]) == "tokens" {
      choice = .tokens(topK: try attributes.integer("top_k", in: 1...largestExpertCount))
      capacity = try attributes.integer("capacity", in: 0...1_000_000_000)
    } else {
      choice = .experts
      capacity = try attributes.integer("capacity", in: 1...1_000_000_000)
    }
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    switch choice {
    case .tokens(let topK):
      [
        ("choice", .word("tokens")), ("top_k", .integer(topK)), ("capacity", .integer(capacity)),
      ]
    case .experts: [("choice", .word("experts")), ("capacity", .integer(capacity))]
    }
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 1...1)
    let isRowwise = capacity == 0
    try requireFloats(inputs, 0, rank: isRowwise ? 1...3 : 3...3)
    let experts = try fixedExtent(inputs, 0, axis: inputs[0].rank - 1)
    guard (1...largestExpertCount).contains(experts) else {
      throw mismatch(inputs, 0, "1 to \(largestExpertCount) experts on the last axis")
    }
    var slots = experts
    switch choice {
    case .tokens(let topK):
      guard topK >= 1, topK <= experts else {
        throw .attribute(op: Self.name, name: "top_k", expected: "in 1...\(experts)")
      }
      slots = topK
    case .experts:
      guard capacity > 0 else {
        throw .attribute(op: Self.name, name: "capacity", expected: "positive")
      }
    }
    return [TensorType(.int32, inputs[0].extents.dropLast() + [.fixed(slots)])]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let shape = inputs.shape(0)
    let (rows, experts) = matrixExtents(shape)
    let x = inputs.span(0, of: type)
    var y = outputs.span(0, of: Int32.self)
    switch choice {
    case .tokens(let topK):
      for row in 0..<rows { Self.chooseExperts(x, row, experts, topK, &y) }
      guard capacity > 0 else { return }
      for item in 0..<shape[0] {
        Self.limit(&y, (item * shape[1] * topK)..<((item + 1) * shape[1] * topK), capacity, experts)
      }
    case .experts:
      for index in 0..<y.count { y[index] = SlotCode.none }
      for item in 0..<shape[0] { chooseTokens(x, item * shape[1], shape[1], experts, &y) }
    }
  }

  private static func chooseExperts<Element: FloatingElement>(
    _ x: Span<Element>, _ row: Int, _ experts: Int, _ topK: Int, _ y: inout MutableSpan<Int32>
  ) {
    for slot in 0..<topK {
      var best = -1
      candidates: for expert in 0..<experts {
        if best >= 0, !(x[row * experts + expert] > x[row * experts + best]) { continue }
        for earlier in 0..<slot where y[row * topK + earlier] == Int32(expert) {
          continue candidates
        }
        best = expert
      }
      y[row * topK + slot] = Int32(best)
    }
  }

  private static func limit(
    _ y: inout MutableSpan<Int32>, _ slots: Range<Int>, _ capacity: Int, _ experts: Int
  ) {
    var counts = [Int](repeating: 0, count: experts)
    for slot in slots {
      let expert = Int(y[slot])
      counts[expert] += 1
      if counts[expert] > capacity { y[slot] = SlotCode.full(expert) }
    }
  }

  private func chooseTokens<Element: FloatingElement>(
    _ x: Span<Element>, _ first: Int, _ tokens: Int, _ experts: Int, _ y: inout MutableSpan<Int32>
  ) {
    // Logarithms of probabilities have the same order and do not run into each other at zero.
    var shifts = [Element](repeating: 0, count: tokens)
    for token in 0..<tokens {
      let start = (first + token) * experts
      var largest = x[start]
      for expert in 0..<experts { largest = max(largest, x[start + expert]) }
      var sum: Element = 0
      for expert in 0..<experts { sum += Element.exp(x[start + expert] - largest) }
      shifts[token] = largest + Element.log(sum)
    }
    var scores = shifts
    for expert in 0..<experts {
      for token in 0..<tokens {
        let score = x[(first + token) * experts + expert] - shifts[token]
        scores[token] = score.isNaN ? -Element.infinity : score
      }
      let order = (0..<tokens).sorted { (scores[$0], $1) > (scores[$1], $0) }
      for token in order.prefix(capacity) {
        y[(first + token) * experts + expert] = Int32(expert)
      }
    }
  }
}

extension RouteTokens: AcceleratedOp {}

extension RouteTokens: PrunableOp {
  package func axisLinks(inputs: [TensorType], outputs: [TensorType]) -> [AxisLink] {
    // Tokens compete where there is a capacity, so only samples can go.
    leadingLinks([0], rank: capacity == 0 ? inputs[0].rank - 1 : 1)
  }
}

extension RouteTokens: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    [nil]
  }
}

extension RouteTokens: RowwiseOp {
  package var rowInputs: [Int] { capacity == 0 ? [0] : [] }
}
