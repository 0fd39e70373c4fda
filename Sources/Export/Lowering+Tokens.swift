import GraphIR
import ModelFormat
import Operators
import TensorCore

extension Lowering {
  /// Pixels to rows, straight to codes where those are wanted.
  mutating func lower(_ node: Node, _ op: UnfoldPatches) throws(ExportError) {
    let (value, codes) = fuseCodes(after: node.outputs[0])
    let output = makeBuffer(value, codes: codes)
    builder.append(
      .patchUnfold(PatchUnfold(output: output, patchSize: op.patchSize)), name: node.name)
  }

  /// The class token in front and the positions added, as one instruction.
  mutating func lowerPrependToken(_ node: Node) throws(ExportError) {
    guard let positions = needs.soleConsumer(of: node.outputs[0], in: graph),
      positions.op is AddPositions
    else { throw unsupported(node, "positions must be added right after it") }
    done.insert(positions.name)
    let input = try buffer(of: node.inputs[0], for: positions.outputs[0])
    let classRow = try floats(node.inputs[1], of: node)
    let position = try floats(positions.inputs[1], of: positions)
    let output = makeBuffer(positions.outputs[0])
    builder.append(
      .assembleTokens(
        AssembleTokens(input: input, output: output, classRow: classRow, position: position)),
      name: positions.name)
  }

  /// The token table's rows and the positions, as one instruction.
  mutating func lowerEmbedding(_ node: Node) throws(ExportError) {
    guard let positions = needs.soleConsumer(of: node.outputs[0], in: graph),
      positions.op is AddPositions
    else { throw unsupported(node, "positions must be added right after it") }
    done.insert(positions.name)
    let parameter = try parameter(node.inputs[1], of: node)
    let name = graph.name(of: node.inputs[1])
    let (rows, columns) = (parameter.tensor.shape[0], parameter.tensor.shape[1])
    var embedding = TokenEmbedding(output: 0, table: 0, position: 0)
    if let quantization = parameter.quantization {
      let form = try WeightForm(parameter, of: node)
      embedding.table = add(name) {
        .codes(
          parameter.keptCodes, rows: rows, columns: columns, bitCount: form.bitCount,
          groupSize: form.groupSize, .rowMajor)
      }
      embedding.scale = add("\(name).scale") {
        let scales = quantization.scales.elements(of: Float.self)
        return .floats(scales, rows: rows, columns: scales.count / max(rows, 1))
      }
    } else {
      embedding.table = try floats(node.inputs[1], of: node)
    }
    embedding.position = try floats(positions.inputs[1], of: positions)
    embedding.output = makeBuffer(positions.outputs[0])
    builder.append(.tokenEmbedding(embedding), name: positions.name)
  }

  /// Each item's pooled row: nothing to do where the value is made for that row alone.
  mutating func lowerPooling(_ node: Node) throws(ExportError) {
    let source = node.inputs[0]
    if isPooled(source) {
      alias(node.outputs[0], to: try buffer(of: source, for: source))
      return
    }
    let input = try buffer(of: source, for: source)
    let output = makeBuffer(node.outputs[0])
    builder.append(.pool(input: input, output: output), name: node.name)
  }
}
