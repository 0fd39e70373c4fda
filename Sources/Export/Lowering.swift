import GraphIR
import ModelFormat
import Operators
import TensorCore

/// Turns one tower's graph into the program of a runtime file.
///
/// Neighbouring nodes become one instruction where the runtime has one for them; each pattern is a
/// method in a file of its own. Values that only the pooled row of is needed are computed for that
/// row alone.
struct Lowering {
  let graph: Graph
  let needs: RowNeeds
  /// Whether pruned weights are stored as they are multiplied.
  let expands: Bool
  var writer: ModelWriter
  var builder: ProgramBuilder
  /// The buffer of each value that is made.
  private var buffers: [Value: Int] = [:]
  /// The buffer of the pooled rows of values that are made for all rows.
  private var pooledBuffers: [Value: Int] = [:]
  /// The activation codes of each value that integer instructions read.
  private(set) var codes: [Value: ActivationQuantization] = [:]
  /// The buffer of the rows' scales of each value whose rows have scales of their own.
  private var rowScales: [Value: Int] = [:]
  /// The same of the pooled rows of values that are made for all rows.
  private var pooledRowScales: [Value: Int] = [:]
  /// Where the columns of a value lie that is made together with others.
  var headColumns: [Value: (value: Value, column: Int)] = [:]
  /// Which experts compute which tokens, by the value that says so.
  var routes: [Value: LoweredRoute] = [:]
  /// The assignment that gates belong to.
  var gateRoutes: [Value: Value] = [:]
  /// The rows of values that have one for each slot of a token, in the order of experts.
  var expertRows: [Value: RowRule] = [:]
  /// Nodes that a neighbour's instruction does.
  var done: Set<String> = []
  /// Tensors that are in the file already, by name.
  private var tensors: [String: Int] = [:]

  init(_ graph: Graph, writer: ModelWriter, builder: ProgramBuilder, expands: Bool) {
    self.graph = graph
    self.expands = expands
    self.writer = writer
    self.builder = builder
    needs = RowNeeds(graph)
  }

  /// Emits the instructions of every node.
  mutating func lower() throws(ExportError) {
    for node in graph.nodes where !done.contains(node.name) {
      switch node.op {
      case let op as UnfoldPatches: try lower(node, op)
      case is Operators.Linear: try lowerLinear(node)
      case let op as Operators.LayerNorm: try lower(node, op)
      case let op as Operators.Attention: try lower(node, op)
      case let op as ProportionalAttention: try lower(node, op.attention)
      case let op as TokenMerge: try lower(node, op)
      case let op as TokenDrop: try lower(node, op)
      case let op as Operators.RouteTokens: try lower(node, op)
      case let op as GroupedLinear: try lower(node, op)
      case let op as Operators.CombineExperts: try lower(node, op)
      case is PrependToken: try lowerPrependToken(node)
      case is Embedding: try lowerEmbedding(node)
      case let op as SelectToken:
        guard op.index == 0 else { throw unsupported(node, "it keeps token \(op.index), not 0") }
        try lowerPooling(node)
      case is SelectEndToken: try lowerPooling(node)
      case is L2Normalize:
        let input = try buffer(of: node.inputs[0], for: node.outputs[0])
        let output = makeBuffer(node.outputs[0])
        builder.append(.l2Normalize(input: input, output: output), name: node.name)
      case let op as FakeQuantize:
        expertRows[node.outputs[0]] = expertRows[node.inputs[0]]
        let input = try buffer(of: node.inputs[0], for: node.outputs[0])
        let output = makeBuffer(node.outputs[0], codes: op.parameters)
        builder.append(.quantize(input: input, output: output), name: node.name)
      case let op as FakeQuantizeTokens: try lower(node, op)
      case is RoundToBFloat16: try lowerRounding(node)
      case is Add:
        let left = try buffer(of: node.inputs[0], for: node.outputs[0])
        let right = try buffer(of: node.inputs[1], for: node.outputs[0])
        let output = makeBuffer(node.outputs[0])
        builder.append(.add(left: left, right: right, output: output), name: node.name)
      default: throw unsupported(node, "it stands where no other instruction can take it in")
      }
    }
  }

  /// The error that `node` cannot be lowered.
  func unsupported(_ node: Node, _ what: String) -> ExportError {
    .noInstruction(node: node.name, op: type(of: node.op).name, what)
  }

  // MARK: Buffers

  /// Whether `value` is made for the pooled rows alone.
  func isPooled(_ value: Value) -> Bool { needs.pooled.contains(value) }

  /// Whether `value` is made already.
  func isMade(_ value: Value) -> Bool { buffers[value] != nil }

  /// The buffer of `value` in the rows that `reader` is made for.
  mutating func buffer(of value: Value, for reader: Value) throws(ExportError) -> Int {
    guard let made = buffers[value] else {
      throw .missing("buffer of \(graph.name(of: value))")
    }
    guard isPooled(reader), !isPooled(value) else { return made }
    if let pooled = pooledBuffers[value] { return pooled }
    let pooled = builder.buffer(
      .perItem(1), columns: columns(of: value), quantization: codes[value].map(Self.quantization))
    builder.append(.pool(input: made, output: pooled), name: "\(graph.name(of: value)).pooled")
    pooledBuffers[value] = pooled
    if let scales = rowScales[value] {
      let pooledScales = builder.buffer(.perItem(1), columns: 1)
      builder.append(
        .pool(input: scales, output: pooledScales), name: "\(graph.name(of: value)).pooled.scales")
      pooledRowScales[value] = pooledScales
    }
    return pooled
  }

  /// The scales of the rows of `value`, if they have any, in the rows that `reader` is made for, in
  /// which ``buffer(of:for:)`` was asked for before.
  func rowScale(of value: Value, for reader: Value) -> Int? {
    isPooled(reader) && !isPooled(value) ? pooledRowScales[value] : rowScales[value]
  }

  /// Whether the rows of `value` are codes of scales of their own.
  func hasRowScales(_ value: Value) -> Bool { rowScales[value] != nil }

  /// Codes of rows by scales of their own.
  private mutating func lower(_ node: Node, _ op: FakeQuantizeTokens) throws(ExportError) {
    let value = node.outputs[0]
    expertRows[value] = expertRows[node.inputs[0]]
    let input = try buffer(of: node.inputs[0], for: value)
    let zeroPoint = UInt8(1) << UInt8(op.bitCount - 1)
    let codes = ActivationQuantization(
      scale: 1, zeroPoint: zeroPoint, lowest: 1, highest: zeroPoint - 1 + zeroPoint)
    let output = makeBuffer(value, codes: codes)
    let scales = builder.buffer(rows(of: value), columns: 1)
    rowScales[value] = scales
    builder.append(
      .quantizeTokens(input: input, output: output, scales: scales), name: node.name)
  }

  /// Whether `value` is what rounding to bfloat16 makes; its buffer holds what was rounded.
  func isRounded(_ value: Value) -> Bool {
    guard case .node(let index) = graph.origin(of: value) else { return false }
    return graph.nodes[index].op is RoundToBFloat16
  }

  /// Nothing to do: products with weights in pairs round what they read.
  private mutating func lowerRounding(_ node: Node) throws(ExportError) {
    let value = node.outputs[0]
    let readers = needs.readers(of: value, in: graph)
    let isMultiplied = readers.allSatisfy { reader in
      (reader.op is Operators.Linear || reader.op is GroupedLinear)
        && reader.inputs.count { $0 == value } == 1 && reader.inputs[0] == value
    }
    guard isMultiplied, !graph.outputs.contains(where: { $0.value == value }) else {
      throw unsupported(node, "only products with bfloat16 weights may read what it rounds")
    }
    expertRows[value] = expertRows[node.inputs[0]]
    alias(value, to: try buffer(of: node.inputs[0], for: value))
  }

  /// Makes the buffer of `value`, which holds codes where `codes` says so.
  mutating func makeBuffer(
    _ value: Value, codes parameters: ActivationQuantization? = nil, columns: Int? = nil
  ) -> Int {
    let made = builder.buffer(
      rows(of: value), columns: columns ?? self.columns(of: value),
      quantization: parameters.map(Self.quantization))
    buffers[value] = made
    codes[value] = parameters
    return made
  }

  /// Lets `value` stand for the buffer of `other`.
  mutating func alias(_ value: Value, to buffer: Int) { buffers[value] = buffer }

  /// The columns of `value`.
  func columns(of value: Value) -> Int {
    graph.tensorType(of: value).extents.last?.fixedCount ?? 0
  }

  /// The rows that `value` is made for.
  func rows(of value: Value) -> RowRule {
    if let rows = expertRows[value] { return rows }
    let type = graph.tensorType(of: value)
    if isPooled(value) || type.rank == 2 { return .perItem(1) }
    return type.extents[1].fixedCount.map { .perItem($0) } ?? .perToken
  }

  private static func quantization(_ codes: ActivationQuantization) -> BufferQuantization {
    BufferQuantization(
      scale: codes.scale, zeroPoint: codes.zeroPoint, lowest: codes.lowest, highest: codes.highest)
  }

  /// The value that `node` ends in, and its codes, when its only reader turns it into codes.
  mutating func fuseCodes(after value: Value) -> (Value, ActivationQuantization?) {
    guard let reader = needs.soleConsumer(of: value, in: graph),
      let quantize = reader.op as? FakeQuantize
    else { return (value, nil) }
    done.insert(reader.name)
    return (reader.outputs[0], quantize.parameters)
  }

  // MARK: Tensors

  /// The parameter behind `value`.
  func parameter(_ value: Value, of node: Node) throws(ExportError) -> Parameter {
    guard let parameter = graph.parameter(value) else {
      throw unsupported(node, "input \(graph.name(of: value)) is not a parameter")
    }
    return parameter
  }

  /// The row-major floats of the parameter behind `value`, in the shortest type that has them.
  mutating func floats(_ value: Value, of node: Node) throws(ExportError) -> Int {
    let tensor = try parameter(value, of: node).materialized
    let columns = tensor.shape.last ?? 1
    return add("\(graph.name(of: value))") {
      .floats(
        tensor.elements(of: Float.self), rows: tensor.count / max(columns, 1), columns: columns)
    }
  }

  /// Adds the tensor `name` once.
  mutating func add(_ name: String, _ make: () -> StoredTensor) -> Int {
    if let index = tensors[name] { return index }
    let index = writer.add(make(), name: name)
    tensors[name] = index
    return index
  }
}
