import GraphIR
import ModelFormat
import Operators
import TensorCore

extension Lowering {
  /// One or more linears over the same input, then an activation function, a residual sum and the
  /// step to codes, as one instruction.
  mutating func lowerLinear(_ node: Node) throws(ExportError) {
    let siblings = attentionSiblings(of: node)
    if siblings.count > 1 { return try lowerSiblings(siblings) }
    var end = node.outputs[0]
    var activation = Activation.none
    if let reader = needs.soleConsumer(of: end, in: graph),
      let function = Self.activation(reader.op)
    {
      activation = function
      done.insert(reader.name)
      end = reader.outputs[0]
    }
    var residual: Value?
    if let reader = needs.soleConsumer(of: end, in: graph), reader.op is Add {
      let other = reader.inputs[0] == end ? reader.inputs[1] : reader.inputs[0]
      if isMade(other) {
        residual = other
        done.insert(reader.name)
        end = reader.outputs[0]
      }
    }
    let (value, codes) = fuseCodes(after: end)
    try emit([node], into: value, codes: codes, activation: activation, residual: residual)
  }

  static func activation(_ op: any Op) -> Activation? {
    switch op {
    case is QuickGELU: .quickGELU
    case is GELU: .gelu
    default: nil
    }
  }

  /// The linears that read what `node` reads, for the same rows, and feed the same attention.
  private func attentionSiblings(of node: Node) -> [Node] {
    let readers = needs.readers(of: node.outputs[0], in: graph)
    guard let reader = readers.first(where: { Self.isAttention($0.op) }),
      areReadByHeads(node.outputs[0])
    else { return [node] }
    return reader.inputs.prefix(3).compactMap { input in
      guard case .node(let index) = graph.origin(of: input) else { return nil }
      let other = graph.nodes[index]
      let fits =
        other.op is Operators.Linear && other.inputs[0] == node.inputs[0]
        && other.inputs.count == node.inputs.count && isPooled(input) == isPooled(node.outputs[0])
        && areReadByHeads(input)
        && graph.parameter(other.inputs[1]).map { WeightForm($0) }
          == graph.parameter(node.inputs[1]).map { WeightForm($0) }
      return fits ? other : nil
    }
  }

  private static func isAttention(_ op: any Op) -> Bool {
    op is Operators.Attention || op is ProportionalAttention
  }

  /// Whether all that reads `value` takes it as columns of a buffer: one attention, at one operand,
  /// and what chooses tokens.
  private func areReadByHeads(_ value: Value) -> Bool {
    guard !graph.outputs.contains(where: { $0.value == value }) else { return false }
    let readers = needs.readers(of: value, in: graph)
    let isReadAsHeads = readers.allSatisfy { reader in
      switch reader.op {
      case is TokenMerge: reader.inputs[0] != value
      case is TokenDrop: reader.inputs[0] != value
      default: Self.isAttention(reader.op) && reader.inputs.count { $0 == value } == 1
      }
    }
    return isReadAsHeads && readers.count { Self.isAttention($0.op) } == 1
  }

  private mutating func lowerSiblings(_ siblings: [Node]) throws(ExportError) {
    try emit(siblings, into: siblings[0].outputs[0], codes: nil, activation: .none, residual: nil)
    var column = 0
    for node in siblings {
      done.insert(node.name)
      headColumns[node.outputs[0]] = (siblings[0].outputs[0], column)
      column += columns(of: node.outputs[0])
    }
  }

  /// Emits the product of the common input with the weights of `nodes`, one above the other.
  private mutating func emit(
    _ nodes: [Node], into value: Value, codes: ActivationQuantization?, activation: Activation,
    residual: Value?
  ) throws(ExportError) {
    let node = nodes[0]
    let source = node.inputs[0]
    let input = try buffer(of: source, for: value)
    let name = nodes.map(\.name).joined(separator: "+")
    let stack = try WeightStack(
      nodes.map { ($0.inputs[1], $0.inputs.count == 3 ? $0.inputs[2] : nil) }, of: node, self)
    let (isRounded, expands) = (isRounded(source), expands)
    guard stack.isBFloat16 || !isRounded else {
      throw unsupported(node, "activations that are bfloat16 need weights that are bfloat16")
    }
    let rows = rows(of: value)
    let weight = add("\(name).weight") {
      isRounded ? stack.pairs : stack.stored(for: rows, expands: expands)
    }
    var linear = ModelFormat.Linear(
      input: input, output: 0, weight: weight, activation: activation)
    let inputCodes = self.codes[source]
    if stack.isInteger {
      linear.scale = add("\(name).scale\(inputCodes == nil ? "" : ".input")") {
        stack.scales(times: inputCodes?.scale)
      }
      if let inputCodes, !stack.hasGroups {
        linear.correction = add("\(name).correction") {
          stack.correction(zeroPoint: inputCodes.zeroPoint)
        }
      }
    } else if inputCodes != nil {
      throw unsupported(node, "activations that are codes need weights that are codes")
    }
    linear.rowScale = rowScale(of: source, for: value)
    if let bias = stack.bias {
      linear.bias = add("\(name).bias") { .floats(bias, columns: bias.count) }
    }
    if let residual { linear.residual = try buffer(of: residual, for: value) }
    linear.output = makeBuffer(value, codes: codes, columns: stack.rows)
    builder.append(.linear(linear), name: name)
  }
}
