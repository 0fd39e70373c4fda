import CKernels
import GraphIR
import TensorCore

/// Keeps the tokens of every item that the first one, the class token, attends to most.
///
/// A token's score is the mean over heads of `softmax(q kᵀ * scale)` in the first token's row.
/// Tokens at the front and tokens on a uniform grid stay whatever their score. The result has the
/// leading tokens, those of the grid, then the others, each in their order, so that a later
/// operation can keep the grid as leading tokens. Ties go to the lower index.
///
/// - Shapes: `x`: `[batch, tokens, width]`; `q`, `k`: `[batch, tokens, heads * headWidth]`; result:
///   `[batch, count, width]`.
/// - Source: Yang et al., "Attentive Mask CLIP", ICCV 2023, arXiv:2212.08653, for the score, of one
///   layer here; Endo et al., "Feather the Throttle", ICCV 2025, arXiv:2412.13180, for the union
///   with a grid.
package struct TokenDrop: Op {
  package static let name = "drop_tokens"

  /// How many tokens stay.
  package let count: Int
  /// Which of them stay in any case.
  package let grid: TokenGrid
  /// Elements of one head.
  package let headWidth: Int
  /// What the products of queries and keys are multiplied by.
  package let scale: Float

  /// Makes the operation.
  package init(count: Int, grid: TokenGrid, headWidth: Int, scale: Float) {
    self.count = count
    self.grid = grid
    self.headWidth = headWidth
    self.scale = scale
  }

  package init(attributes: inout Attributes) throws(GraphError) {
    count = try attributes.integer("count", in: 1...1_000_000)
    grid = TokenGrid(
      leading: try attributes.integer("leading", in: 1...1_000_000),
      columns: try attributes.integer("columns", in: 0...1_000_000),
      spacing: try attributes.integer("spacing", in: 1...1_000_000))
    headWidth = try attributes.integer("head_width", in: 1...65_536)
    scale = try attributes.real("scale")
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    [
      ("count", .integer(count)), ("leading", .integer(grid.leading)),
      ("columns", .integer(grid.columns)), ("spacing", .integer(grid.spacing)),
      ("head_width", .integer(headWidth)), ("scale", .real(scale)),
    ]
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 3...3)
    try requireFloats(inputs, 0, rank: 3...3)
    try requireFloats(inputs, 1, rank: 3...3)
    let tokens = try fixedExtent(inputs, 0, axis: 1)
    let certain = grid.certainCount(of: tokens)
    guard count <= tokens, certain <= count else {
      throw .attribute(op: Self.name, name: "count", expected: "in \(certain)...\(tokens)")
    }
    let width = try fixedExtent(inputs, 1, axis: 2)
    let leading = Array(inputs[0].extents.prefix(2))
    guard width % headWidth == 0, Array(inputs[1].extents.prefix(2)) == leading else {
      throw mismatch(inputs, 1, "f32[\(leading[0]), \(tokens), a multiple of \(headWidth)]")
    }
    try requireFloats(inputs, 2, extents: inputs[1].extents)
    return [TensorType(.float32, [leading[0], .fixed(count), inputs[0].extents[2]])]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let (tokens, width) = (inputs.shape(0)[1], inputs.shape(0)[2])
    let x = inputs.span(0, of: type)
    var y = outputs.span(0, of: type)
    for item in 0..<inputs.shape(0)[0] {
      let scores = scores(inputs, item, as: type)
      let onGrid = (0..<tokens).filter { grid.contains($0) }
      let certain = Array(0..<grid.leading) + onGrid
      let others = (grid.leading..<tokens).filter { !grid.contains($0) }
        .sorted { (scores[$0], $1) > (scores[$1], $0) }
      let kept = certain + others.prefix(count - certain.count).sorted()
      for (row, token) in kept.enumerated() {
        let (source, target) = ((item * tokens + token) * width, (item * count + row) * width)
        for k in 0..<width { y[target + k] = x[source + k] }
      }
    }
  }

  /// The first token's attention to each token of one item, the mean over heads.
  private func scores<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ item: Int, as type: Element.Type
  ) -> [Element] {
    let (tokens, width) = (inputs.shape(1)[1], inputs.shape(1)[2])
    let (q, k) = (inputs.span(1, of: type), inputs.span(2, of: type))
    let base = item * tokens * width
    var means = [Element](repeating: 0, count: tokens)
    for head in 0..<(width / headWidth) {
      var logits = [Element](repeating: 0, count: tokens)
      for token in 0..<tokens {
        for d in (head * headWidth)..<((head + 1) * headWidth) {
          logits[token] += q[base + d] * k[base + token * width + d] * Element(scale)
        }
      }
      let largest = logits.max() ?? 0
      var sum: Element = 0
      for token in 0..<tokens { sum += Element.exp(logits[token] - largest) }
      for token in 0..<tokens { means[token] += Element.exp(logits[token] - largest) / sum }
    }
    return means
  }

  package func multiplyAccumulateCount(inputs: [[Int]], outputs: [[Int]]) -> Int {
    inputs[1].reduce(1, *)
  }
}

/// Tokens that stay in any case: some at the front and, of a grid behind them, every so many.
package struct TokenGrid: Hashable, Sendable {
  /// Tokens at the front, at least the class token.
  package let leading: Int
  /// Columns of the grid of all other tokens, row by row; 0 where they are none.
  package let columns: Int
  /// A grid token stays where its row and its column are `spacing / 2` modulo this.
  package let spacing: Int

  /// Describes the tokens.
  package init(leading: Int, columns: Int = 0, spacing: Int = 1) {
    self.leading = leading
    self.columns = columns
    self.spacing = spacing
  }

  /// Whether `token` stays for its place on the grid.
  package func contains(_ token: Int) -> Bool {
    guard columns > 0, token >= leading else { return false }
    let (row, column) = (token - leading).quotientAndRemainder(dividingBy: columns)
    return row % spacing == spacing / 2 && column % spacing == spacing / 2
  }

  /// How many of `tokens` tokens stay in any case.
  package func certainCount(of tokens: Int) -> Int {
    leading + (columns == 0 ? 0 : (0..<max(tokens, 0)).count { contains($0) })
  }
}

extension TokenDrop: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    let shape = inputs.shape(0)
    let (tokens, width, keyWidth) = (shape[1], shape[2], inputs.shape(1)[2])
    guard let x = inputs.pointer(0, of: Float.self).baseAddress,
      let queries = inputs.pointer(1, of: Float.self).baseAddress,
      let keys = inputs.pointer(2, of: Float.self).baseAddress,
      let y = outputs.pointer(0, of: Float.self).baseAddress, shape[0] * width * keyWidth > 0
    else { return evaluate(inputs, &outputs, as: Float.self) }
    let kernels = Kernels.best
    let op = self
    forEachRange(of: shape[0], threadCount: outputs.threadCount) { range in
      withTokenPlan(kept: op.count, merged: 0) { plan in
        withScratch(of: Float.self, clip_f32_select_tokens_scratch_count(tokens)) { scratch in
          for item in range {
            var choice = clip_f32_select_tokens_arguments(
              query: queries + item * tokens * keyWidth, key: keys + item * tokens * keyWidth,
              key_stride: keyWidth, token_count: tokens, head_count: keyWidth / op.headWidth,
              head_width: op.headWidth, scale: op.scale, kept_count: op.count,
              leading: op.grid.leading, columns: op.grid.columns, spacing: op.grid.spacing,
              sources: plan.sources)
            kernels.f32_select_tokens(&choice, scratch)
            var rows = clip_f32_merge_rows_arguments(
              input: x + item * tokens * width, input_stride: width, plan: plan,
              kept_count: op.count, merge_count: 0, output: y + item * op.count * width,
              output_stride: width)
            kernels.f32_merge_rows(&rows, clip_range(begin: 0, end: width))
          }
        }
      }
    }
  }
}

extension TokenDrop: PrunableOp {
  package func axisLinks(inputs: [TensorType], outputs: [TensorType]) -> [AxisLink] {
    [
      AxisLink([.input(0, 0), .input(1, 0), .input(2, 0), .output(0, 0)]),
      AxisLink([.input(0, 2), .output(0, 2)]),
      AxisLink([.input(1, 2), .input(2, 2)], unit: headWidth),
    ]
  }
}
