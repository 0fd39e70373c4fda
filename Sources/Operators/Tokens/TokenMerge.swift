import CKernels
import GraphIR
import TensorCore

/// Merges the tokens of every item that are most alike.
///
/// Tokens are alike where the sums over heads of their keys point the same way. Tokens of even
/// index each choose the most similar token of odd index; the `count` best choices merge, by means
/// weighted with how many tokens each stands for. The first token, the class token, never goes. The
/// result has the even tokens that stay, in order, then the odd ones. Ties go to the lower index.
///
/// - Shapes: `x`: `[batch, tokens, width]`; `keys`: `[batch, tokens, heads * headWidth]`; `sizes`:
///   `[batch, tokens]`, optional, one each without it; results: `[batch, tokens - count, width]`
///   and their sizes `[batch, tokens - count]`.
/// - Source: Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023, arXiv:2210.09461. The
///   sum over heads stands for the mean, which has the same direction.
package struct TokenMerge: Op {
  package static let name = "merge_tokens"

  /// How many tokens go, at most `(tokens - 1) / 2`.
  package let count: Int
  /// Elements of one head of the keys.
  package let headWidth: Int

  /// Makes the operation.
  package init(count: Int, headWidth: Int) {
    self.count = count
    self.headWidth = headWidth
  }

  package init(attributes: inout Attributes) throws(GraphError) {
    count = try attributes.integer("count", in: 0...1_000_000)
    headWidth = try attributes.integer("head_width", in: 1...65_536)
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    [("count", .integer(count)), ("head_width", .integer(headWidth))]
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...3)
    try requireFloats(inputs, 0, rank: 3...3)
    try requireFloats(inputs, 1, rank: 3...3)
    let tokens = try fixedExtent(inputs, 0, axis: 1)
    guard tokens > 0, count <= (tokens - 1) / 2 else {
      throw .attribute(
        op: Self.name, name: "count", expected: "at most \((max(tokens, 1) - 1) / 2)")
    }
    let width = try fixedExtent(inputs, 1, axis: 2)
    let leading = Array(inputs[0].extents.prefix(2))
    guard width % headWidth == 0, Array(inputs[1].extents.prefix(2)) == leading else {
      throw mismatch(inputs, 1, "f32[\(leading[0]), \(tokens), a multiple of \(headWidth)]")
    }
    if inputs.count == 3 { try requireFloats(inputs, 2, extents: leading) }
    let kept: [Extent] = [leading[0], .fixed(tokens - count)]
    return [TensorType(.float32, kept + [inputs[0].extents[2]]), TensorType(.float32, kept)]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let (tokens, width) = (inputs.shape(0)[1], inputs.shape(0)[2])
    let kept = tokens - count
    let x = inputs.span(0, of: type)
    for item in 0..<inputs.shape(0)[0] {
      var sizes = [Element](repeating: 1, count: tokens)
      if inputs.count == 3 {
        let given = inputs.span(2, of: type)
        for token in 0..<tokens { sizes[token] = given[item * tokens + token] }
      }
      let rows = matchedRows(metrics(inputs, item, as: type), tokens: tokens)
      var totals = [Element](repeating: 0, count: kept)
      for token in 0..<tokens { totals[rows[token]] += sizes[token] }
      var merged = [Element](repeating: 0, count: kept * width)
      for token in 0..<tokens {
        let share = sizes[token] / totals[rows[token]]
        let source = (item * tokens + token) * width
        for k in 0..<width { merged[rows[token] * width + k] += share * x[source + k] }
      }
      var y = outputs.span(0, of: type)
      for k in merged.indices { y[item * kept * width + k] = merged[k] }
      var mergedSizes = outputs.span(1, of: type)
      for row in 0..<kept { mergedSizes[item * kept + row] = totals[row] }
    }
  }

  /// Unit vectors along the sums over heads of one item's keys, token by token.
  private func metrics<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ item: Int, as type: Element.Type
  ) -> [Element] {
    let (tokens, width) = (inputs.shape(1)[1], inputs.shape(1)[2])
    let keys = inputs.span(1, of: type)
    var metrics = [Element](repeating: 0, count: tokens * headWidth)
    for token in 0..<tokens {
      let start = (item * tokens + token) * width
      for k in 0..<width { metrics[token * headWidth + k % headWidth] += keys[start + k] }
      var square: Element = 0
      let range = (token * headWidth)..<((token + 1) * headWidth)
      for k in range { square += metrics[k] * metrics[k] }
      guard square > 0 else { continue }
      for k in range { metrics[k] /= square.squareRoot() }
    }
    return metrics
  }

  /// The row of the result that each token goes to.
  private func matchedRows<Element: FloatingElement>(
    _ metrics: [Element], tokens: Int
  ) -> [Int] {
    let keptEven = (tokens + 1) / 2 - count
    var choices: [(score: Element, token: Int, partner: Int)] = []
    for token in stride(from: 2, to: tokens, by: 2) {
      var best = (score: -Element.infinity, token: token, partner: 1)
      for other in stride(from: 1, to: tokens, by: 2) {
        var score: Element = 0
        for k in 0..<headWidth {
          score += metrics[token * headWidth + k] * metrics[other * headWidth + k]
        }
        if score > best.score { best = (score, token, other) }
      }
      choices.append(best)
    }
    choices.sort { ($0.score, $1.token) > ($1.score, $0.token) }
    var rows = [Int](repeating: -1, count: tokens)
    for choice in choices.prefix(count) { rows[choice.token] = keptEven + choice.partner / 2 }
    var next = 0
    for token in stride(from: 0, to: tokens, by: 2) where rows[token] < 0 {
      rows[token] = next
      next += 1
    }
    for token in stride(from: 1, to: tokens, by: 2) { rows[token] = keptEven + token / 2 }
    return rows
  }

  package func multiplyAccumulateCount(inputs: [[Int]], outputs: [[Int]]) -> Int {
    // The products of the two halves' metrics.
    inputs[0][0] * (inputs[0][1] / 2) * ((inputs[0][1] + 1) / 2) * headWidth
  }
}

extension TokenMerge: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    let shape = inputs.shape(0)
    let (tokens, width, keyWidth) = (shape[1], shape[2], inputs.shape(1)[2])
    let kept = tokens - count
    guard let x = inputs.pointer(0, of: Float.self).baseAddress,
      let keys = inputs.pointer(1, of: Float.self).baseAddress,
      let y = outputs.pointer(0, of: Float.self).baseAddress,
      let mergedSizes = outputs.pointer(1, of: Float.self).baseAddress,
      shape[0] * width * keyWidth > 0
    else { return evaluate(inputs, &outputs, as: Float.self) }
    let sizes = inputs.count == 3 ? inputs.pointer(2, of: Float.self).baseAddress : nil
    let kernels = Kernels.best
    let (count, headWidth) = (count, headWidth)
    forEachRange(of: shape[0], threadCount: outputs.threadCount) { range in
      withTokenPlan(kept: kept, merged: count) { plan in
        withScratch(of: Float.self, clip_f32_match_tokens_scratch_count(tokens, headWidth)) {
          scratch in
          for item in range {
            var match = clip_f32_match_tokens_arguments(
              key: keys + item * tokens * keyWidth, key_stride: keyWidth, token_count: tokens,
              head_count: keyWidth / headWidth, head_width: headWidth, merge_count: count,
              sizes: sizes.map { $0 + item * tokens }, merged_sizes: mergedSizes + item * kept,
              plan: plan)
            kernels.f32_match_tokens(&match, scratch)
            var rows = clip_f32_merge_rows_arguments(
              input: x + item * tokens * width, input_stride: width, plan: plan,
              kept_count: kept, merge_count: count, output: y + item * kept * width,
              output_stride: width)
            kernels.f32_merge_rows(&rows, clip_range(begin: 0, end: width))
          }
        }
      }
    }
  }
}

extension TokenMerge: PrunableOp {
  package func axisLinks(inputs: [TensorType], outputs: [TensorType]) -> [AxisLink] {
    var items: [OperandAxis] = [
      .input(0, 0), .input(1, 0), .output(0, 0), .output(1, 0),
    ]
    if inputs.count == 3 { items.append(.input(2, 0)) }
    return [
      AxisLink(items), AxisLink([.input(0, 2), .output(0, 2)]),
      AxisLink([.input(1, 2)], unit: headWidth),
    ]
  }
}
