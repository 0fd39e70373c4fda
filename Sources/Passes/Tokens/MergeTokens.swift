import GraphIR
import Operators
import TensorCore

/// Merges tokens of the image tower that are alike, some between attention and MLP of each block.
///
/// From the first merging on, attention counts a key as often as the tokens it stands for. Behind
/// the last attention nothing merges: only the class token is read there, which merging leaves as it
/// is. Weights stay as they are, and no training is needed.
///
/// - Source: Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023, arXiv:2210.09461.
package struct MergeTokens: Pass {
  package static let name = "merge-tokens"

  /// How many tokens go in which block.
  package enum Schedule: String, Codable, Sendable, CaseIterable {
    /// As many in each.
    case constant
    /// Twice as many in the first, falling to none in the last.
    case linear
  }

  /// The user's choices.
  package struct Options: Codable, Sendable {
    /// Tokens that go in each block, with ``Schedule/linear`` on average.
    ///
    /// 0 changes nothing. No block loses more than half of what it has beside the class token.
    package var tokensPerLayer = 8
    /// How they spread over the blocks.
    package var schedule = Schedule.constant

    /// The defaults of the command line.
    package init() {}
  }

  package let options: Options

  package init(options: Options = Options()) { self.options = options }

  package func run(
    on graph: consuming Graph, in context: borrowing PassContext
  ) throws(PassError) -> Graph {
    let source = graph
    let blocks = try source.tokenBlocks(for: Self.name)
    let tokens = source.tokenCount(blocks[0].sum)
    guard options.tokensPerLayer >= 0, options.tokensPerLayer <= (tokens - 1) / 2 else {
      throw .option(
        name: "tokens per layer",
        expected: "0 to \((tokens - 1) / 2), half of the image's \(tokens) tokens",
        found: "\(options.tokensPerLayer)")
    }
    var merged = source
    do {
      if options.tokensPerLayer > 0 { merged = try merging(source, blocks) }
    } catch { throw .graph(pass: Self.name, error) }
    let report = merged.tokenReport(before: source)
    for line in report.lines { context.report(.note(line)) }
    context.report(.result(report))
    return merged
  }

  /// How many tokens block `index` of `count` is to lose.
  func tokenCount(block index: Int, of count: Int) -> Int {
    switch options.schedule {
    case .constant: options.tokensPerLayer
    case .linear where count > 1:
      2 * options.tokensPerLayer * (count - 1 - index) / (count - 1)
    case .linear: options.tokensPerLayer
    }
  }

  private func merging(_ graph: Graph, _ blocks: [TokenBlock]) throws(GraphError) -> Graph {
    var indices: [Value: Int] = [:]
    for (index, block) in blocks.enumerated().dropLast() { indices[block.sum] = index }
    let attentions = Set(blocks.map(\.node.name))
    var sizes: Value?
    return try graph.rewritten { node, rewriter throws(GraphError) in
      if let sizes, attentions.contains(node.name), let op = node.op as? Attention {
        var inputs: [Value] = []
        for input in node.inputs { inputs.append(try rewriter.image(of: input)) }
        let made = try rewriter.result.addNode(
          node.name, ProportionalAttention(op), inputs + [sizes])
        rewriter.setImage(of: node.outputs[0], to: made[0])
      } else {
        try rewriter.copy(node)
      }
      guard let index = node.outputs.first.flatMap({ indices[$0] }) else { return }
      let block = blocks[index]
      let sum = try rewriter.image(of: block.sum)
      let tokens = rewriter.result.tokenCount(sum)
      let count = min(self.tokenCount(block: index, of: blocks.count), (tokens - 1) / 2)
      guard count > 0 else { return }
      var inputs = [sum, try rewriter.image(of: block.node.inputs[1])]
      if let sizes { inputs.append(sizes) }
      let made = try rewriter.result.addNode(
        "\(node.name).merged", TokenMerge(count: count, headWidth: block.headWidth), inputs)
      rewriter.setImage(of: block.sum, to: made[0])
      sizes = made[1]
    }
  }
}
