import GraphIR
import Operators
import TensorCore

/// Drops tokens of the image tower in stages, those that the class token attends to least.
///
/// At each stage, between attention and MLP of its block, a share of the tokens stays. Those of a
/// uniform grid stay at every stage, whatever the attention says, so that no part of the image goes
/// unseen. Weights stay as they are, and no training is needed.
///
/// - Source: Yang et al., "Attentive Mask CLIP", ICCV 2023, arXiv:2212.08653, for the score; Endo et
///   al., "Feather the Throttle", ICCV 2025, arXiv:2412.13180, for stages united with a grid.
///   Differs: the grid counts within the share that stays, so that every image keeps as many tokens.
package struct DropTokens: Pass {
  package static let name = "drop-tokens"

  /// A block behind whose attention tokens go.
  package struct Stage: Codable, Sendable, Equatable {
    /// Number of the block, from 1; not the last, behind which only the class token is read.
    package var layer: Int
    /// The share of the tokens beside the class token that stays, above 0 and at most 1.
    package var keep: Double

    /// Keeps `keep` at block `layer`.
    package init(layer: Int, keep: Double) {
      self.layer = layer
      self.keep = keep
    }
  }

  /// The user's choices.
  package struct Options: Codable, Sendable {
    /// Where tokens go and how many stay, ascending by layer.
    package var stages = [Stage(layer: 4, keep: 0.6)]
    /// Every so many rows and columns of patches a token stays in any case; 0 for none.
    package var gridSpacing = 3

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
    try checkStages(blockCount: blocks.count)
    let drops = try plan(source, blocks)
    let dropped: Graph
    do {
      dropped = try source.rewritten { node, rewriter throws(GraphError) in
        try rewriter.copy(node)
        guard let output = node.outputs.first, let (block, op) = drops[output] else { return }
        let inputs = [
          try rewriter.image(of: output), try rewriter.image(of: block.node.inputs[0]),
          try rewriter.image(of: block.node.inputs[1]),
        ]
        let made = try rewriter.result.addNode("\(node.name).kept", op, inputs)
        rewriter.setImage(of: output, to: made[0])
      }
    } catch {
      throw .graph(pass: Self.name, error)
    }
    let report = dropped.tokenReport(before: source)
    for line in report.lines { context.report(.note(line)) }
    context.report(.result(report))
    return dropped
  }

  private func checkStages(blockCount: Int) throws(PassError) {
    guard blockCount > 1 else {
      throw .unsuitable(pass: Self.name, "the image tower has no block behind which one follows")
    }
    guard (0...1024).contains(options.gridSpacing) else {
      throw .option(
        name: "grid spacing", expected: "in 0...1024", found: "\(options.gridSpacing)")
    }
    guard !options.stages.isEmpty else {
      throw .option(name: "stages", expected: "at least one", found: "none")
    }
    var last = 0
    for stage in options.stages {
      guard stage.layer > last, stage.layer < blockCount else {
        throw .option(
          name: "layer", expected: "in \(last + 1)...\(blockCount - 1), ascending by stage",
          found: "\(stage.layer)")
      }
      guard stage.keep > 0, stage.keep <= 1 else {
        throw .option(name: "keep", expected: "above 0 and at most 1", found: "\(stage.keep)")
      }
      last = stage.layer
    }
  }

  /// What stands behind which sum.
  private func plan(
    _ graph: Graph, _ blocks: [TokenBlock]
  ) throws(PassError) -> [Value: (block: TokenBlock, op: TokenDrop)] {
    var tokens = graph.tokenCount(blocks[0].sum)
    var grid = try firstGrid(graph, tokens: tokens)
    var drops: [Value: (block: TokenBlock, op: TokenDrop)] = [:]
    for stage in options.stages {
      let block = blocks[stage.layer - 1]
      let count = 1 + Int((stage.keep * Double(tokens - 1)).rounded())
      let certain = grid.certainCount(of: tokens)
      guard count >= certain, count > 1 else {
        throw .option(
          name: "keep",
          expected: "enough for the class token and \(max(certain - 1, 1)) of the "
            + "\(tokens - 1) others at layer \(stage.layer)",
          found: "\(stage.keep)")
      }
      drops[block.sum] = (
        block,
        TokenDrop(count: count, grid: grid, headWidth: block.headWidth, scale: block.scale)
      )
      // Behind the first stage the grid's tokens stand in front, right behind the class token.
      grid = TokenGrid(leading: certain)
      tokens = count
    }
    return drops
  }

  private func firstGrid(_ graph: Graph, tokens: Int) throws(PassError) -> TokenGrid {
    guard options.gridSpacing > 0 else { return TokenGrid(leading: 1) }
    let patchSize = graph.nodes.lazy.compactMap { ($0.op as? UnfoldPatches)?.patchSize }.first
    guard let extents = graph.imageExtents, let patchSize, patchSize > 0,
      extents[1] / patchSize * (extents[2] / patchSize) + 1 == tokens
    else {
      throw .unsuitable(pass: Self.name, "the image's tokens are not a class token and its patches")
    }
    return TokenGrid(
      leading: 1, columns: extents[2] / patchSize, spacing: options.gridSpacing)
  }
}
