import GraphIR
import ModelFormat
import Operators
import TensorCore

extension Lowering {
  /// Normalization, straight to codes where those are wanted.
  mutating func lower(_ node: Node, _ op: Operators.LayerNorm) throws(ExportError) {
    let (value, codes) = fuseCodes(after: node.outputs[0])
    let input = try buffer(of: node.inputs[0], for: node.outputs[0])
    let weight = try floats(node.inputs[1], of: node)
    let bias = try floats(node.inputs[2], of: node)
    let output = makeBuffer(value, codes: codes)
    builder.append(
      .layerNorm(
        ModelFormat.LayerNorm(
          input: input, output: output, weight: weight, bias: bias, epsilon: op.epsilon)),
      name: node.name)
  }

  /// Attention of all heads, straight to codes where those are wanted.
  mutating func lower(_ node: Node, _ op: Operators.Attention) throws(ExportError) {
    let (value, codes) = fuseCodes(after: node.outputs[0])
    let query = try heads(node.inputs[0], for: node.outputs[0])
    let key = try heads(node.inputs[1], for: node.inputs[1])
    let values = try heads(node.inputs[2], for: node.inputs[2])
    var sizes: Int?
    if node.inputs.count == 4 { sizes = try buffer(of: node.inputs[3], for: node.inputs[3]) }
    let coded = node.inputs.prefix(3).count { self.codes[$0] != nil }
    guard coded == (op.quantizesProbabilities ? 3 : 0) else {
      throw unsupported(
        node, "queries, keys, values and probabilities must all be codes, or none of them")
    }
    guard coded == 0 || (sizes == nil && op.headWidth <= Limit.integerHeadWidth) else {
      throw unsupported(node, "keys of different sizes, or heads so wide, can not be codes")
    }
    guard node.inputs.prefix(3).allSatisfy({ !hasRowScales($0) }) else {
      throw unsupported(node, "rows of its operands can not have scales of their own")
    }
    let width = columns(of: node.outputs[0])
    guard width > 0 else { throw unsupported(node, "it has no heads") }
    let output = makeBuffer(value, codes: codes)
    builder.append(
      .attention(
        ModelFormat.Attention(
          query: query, key: key, value: values, output: output,
          headCount: width / op.headWidth, headWidth: op.headWidth, scoreScale: op.scale,
          isCausal: op.isCausal, sizes: sizes, isInteger: coded > 0)),
      name: node.name)
  }

  /// Where the heads of `value` lie, in the rows that `reader` is made for.
  mutating func heads(_ value: Value, for reader: Value) throws(ExportError) -> HeadColumns {
    let source = headColumns[value] ?? (value, 0)
    return HeadColumns(buffer: try buffer(of: source.value, for: reader), column: source.column)
  }
}
