import GraphIR
import ModelFormat
import Operators
import TensorCore

extension Lowering {
  /// Merging of the tokens that are most alike.
  mutating func lower(_ node: Node, _ op: TokenMerge) throws(ExportError) {
    let input = try buffer(of: node.inputs[0], for: node.inputs[0])
    let key = try heads(node.inputs[1], for: node.inputs[1])
    var sizes: Int?
    if node.inputs.count == 3 { sizes = try buffer(of: node.inputs[2], for: node.inputs[2]) }
    let headCount = try headCount(of: node.inputs[1], by: op.headWidth, node)
    let output = makeBuffer(node.outputs[0])
    let outputSizes = makeBuffer(node.outputs[1])
    builder.append(
      .mergeTokens(
        MergeTokens(
          input: input, key: key, sizes: sizes, output: output, outputSizes: outputSizes,
          headCount: headCount, headWidth: op.headWidth)),
      name: node.name)
  }

  /// Keeping of the tokens that matter most.
  mutating func lower(_ node: Node, _ op: TokenDrop) throws(ExportError) {
    let input = try buffer(of: node.inputs[0], for: node.inputs[0])
    let query = try heads(node.inputs[1], for: node.inputs[1])
    let key = try heads(node.inputs[2], for: node.inputs[2])
    let headCount = try headCount(of: node.inputs[2], by: op.headWidth, node)
    let output = makeBuffer(node.outputs[0])
    builder.append(
      .dropTokens(
        DropTokens(
          input: input, query: query, key: key, output: output, headCount: headCount,
          headWidth: op.headWidth, scoreScale: op.scale, leading: op.grid.leading,
          columns: op.grid.columns, spacing: op.grid.spacing)),
      name: node.name)
  }

  private func headCount(
    of keys: Value, by headWidth: Int, _ node: Node
  ) throws(ExportError) -> Int {
    let count = columns(of: keys) / headWidth
    guard count > 0 else { throw unsupported(node, "no head is left whose keys tell tokens apart") }
    return count
  }
}
