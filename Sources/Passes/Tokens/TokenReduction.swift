import GraphIR
import Operators
import TensorCore

/// What a pass made of the length of the image tower's sequence.
package struct TokenReductionReport: Codable, Sendable, Equatable {
  /// Tokens that enter each block with attention.
  package var tokens: [Int]
  /// Multiply-accumulate operations of the image tower for one image, before.
  package var macsBefore: Int
  /// The same, after.
  package var macsAfter: Int

  /// How many times faster the tower is if its time is that of its arithmetic.
  package var promisedSpeedup: Double { Double(macsBefore) / Double(max(macsAfter, 1)) }

  /// The report in words.
  var lines: [String] {
    let share = (1000 * Double(macsAfter) / Double(max(macsBefore, 1))).rounded() / 10
    return [
      "tokens by layer: " + tokens.map(String.init).joined(separator: " "),
      "\(share) % of the image tower's multiply-accumulate operations are left",
    ]
  }
}

/// A block of the image tower between whose attention and MLP tokens can go.
struct TokenBlock {
  /// Its attention.
  let node: Node
  /// Elements of a head.
  let headWidth: Int
  /// What the products of queries and keys are multiplied by.
  let scale: Float
  /// The sum of what entered the block and the attention's result.
  let sum: Value
}

extension Graph {
  /// The blocks of the image tower in order, for a pass called `pass` that shortens its sequence.
  ///
  /// - Throws: ``PassError/unsuitable(pass:_:)`` when there is no image tower, when its sequence is
  ///   shortened already, or when it is not one of blocks that end in their class token.
  func tokenBlocks(for pass: String) throws(PassError) -> [TokenBlock] {
    let tower = values(of: [.image])
    guard !tower.isEmpty else { throw .unsuitable(pass: pass, "the model has no image tower") }
    let consumers = consumers()
    var blocks: [TokenBlock] = []
    for node in nodes where node.outputs.contains(where: tower.contains) {
      switch node.op {
      case is TokenMerge, is TokenDrop, is ProportionalAttention:
        throw .unsuitable(
          pass: pass, "node \(node.name) shortens the image tower's sequence already")
      case let op as SelectToken where op.index != 0:
        throw .unsuitable(
          pass: pass, "node \(node.name) reads token \(op.index), not the class token")
      case let op as Attention:
        guard !op.isCausal, let sum = residualSum(behind: node.outputs[0], consumers) else {
          throw .unsuitable(
            pass: pass, "the result of \(node.name) is not added to what enters its block")
        }
        blocks.append(
          TokenBlock(node: node, headWidth: op.headWidth, scale: op.scale, sum: sum))
      default: continue
      }
    }
    guard !blocks.isEmpty, nodes.contains(where: { $0.op is SelectToken }) else {
      throw .unsuitable(pass: pass, "the image tower has no attention before a class token")
    }
    return blocks
  }

  /// The first sum of tokens that `value` reaches through operations on single rows.
  private func residualSum(behind value: Value, _ consumers: [[Int]]) -> Value? {
    var value = value
    while true {
      let readers = consumers[Int(value.index)]
      guard readers.count == 1, nodes[readers[0]].op is any RowwiseOp else { return nil }
      let reader = nodes[readers[0]]
      guard reader.outputs.count == 1 else { return nil }
      value = reader.outputs[0]
      if reader.op is Add { return tensorType(of: value).rank == 3 ? value : nil }
    }
  }

  /// The tokens of each image that `value` has.
  func tokenCount(_ value: Value) -> Int { tensorType(of: value).extents[1].fixedCount ?? 0 }

  /// What a pass made of this graph's image tower.
  func tokenReport(before: Graph) -> TokenReductionReport {
    let tower = values(of: [.image])
    let attentions = nodes.filter {
      ($0.op is Attention || $0.op is ProportionalAttention) && tower.contains($0.outputs[0])
    }
    return TokenReductionReport(
      tokens: attentions.map { tokenCount($0.inputs[0]) },
      macsBefore: before.multiplyAccumulateCount(output: Tower.image.outputName),
      macsAfter: multiplyAccumulateCount(output: Tower.image.outputName))
  }
}
