extension ProgramVerifier {
  /// Checks the choice of experts, and that there is room for a row of every slot.
  mutating func check(_ op: RouteTokens) throws(ModelError) {
    let logits = try readFloat(op.logits)
    let experts = logits.columns
    if case .perSlot = logits.rows { throw fault(.bufferRows(buffer: op.logits)) }
    try require(
      experts <= Limit.expertCount,
      .bufferColumns(buffer: op.logits, expected: Limit.expertCount, found: experts))
    try require(op.topK <= experts, .parameter(operand: 5, found: UInt32(op.topK)))
    try require(
      op.capacity <= Limit.rowCount && (op.topK > 0 || op.capacity > 0),
      .parameter(operand: 6, found: UInt32(op.capacity)))
    try require(
      program.buffers.indices.contains(op.places), .noSuchBuffer(found: UInt32(op.places)))
    let tokens = program.buffers[op.places].rows
    try require(
      tokens == logits.rows || tokens == .perItem(1), .bufferRows(buffer: op.places))
    guard let rows = op.rowRule(tokens: tokens, experts: experts) else {
      throw fault(.bufferRows(buffer: op.places))
    }
    let slots = op.slotCount(experts: experts)
    try writeIndices(op.places, rows: tokens, columns: slots)
    try writeFloat(op.gates, rows: tokens, columns: slots)
    try writeIndices(op.order, rows: rows, columns: 3)
    routes[op.places] = Route(tokens: tokens, rows: rows, slots: slots, experts: nil)
    routes[op.order] = Route(tokens: tokens, rows: rows, slots: slots, experts: experts)
  }

  /// Checks a product by the weights of many experts.
  mutating func check(_ op: ExpertLinear) throws(ModelError) {
    let source = try read(op.input)
    let route = try readRoute(op.order)
    guard let experts = route.experts else { throw fault(.bufferType(buffer: op.order)) }
    try require(
      op.experts.count == experts,
      .wordCount(
        expected: OpCode.expertLinear.wordCount
          + (experts - 1) * OpCode.expertLinear.repeatedWordCount,
        found: OpCode.expertLinear.wordCount
          + (op.experts.count - 1) * OpCode.expertLinear.repeatedWordCount))
    try require(
      source.rows == (op.isOrdered ? route.rows : route.tokens), .bufferRows(buffer: op.input))
    try checkRowScale(op.rowScale, of: source, op.input)
    let first = op.experts[0].weight
    try require(tensors.indices.contains(first), .noSuchTensor(found: UInt32(first)))
    let width = tensors[first].rows
    for (index, expert) in op.experts.enumerated() {
      try checkWeights(expert, of: source, operand: 7 + 4 * index)
      let weight = tensors[expert.weight]
      try require(
        weight.layout == .panels || weight.layout == .pairs, .tensorType(tensor: expert.weight))
      try require(
        weight.rows == width,
        .tensorShape(
          tensor: expert.weight, expectedRows: width, expectedColumns: source.columns))
    }
    _ = try write(op.output, rows: route.rows, columns: width)
  }

  /// Checks the sum of what experts computed.
  mutating func check(_ op: CombineExperts) throws(ModelError) {
    let source = try readFloat(op.input)
    let route = try readRoute(op.places)
    try require(route.experts == nil, .bufferType(buffer: op.places))
    try require(source.rows == route.rows, .bufferRows(buffer: op.input))
    let gates = try readFloat(op.gates)
    try require(gates.rows == route.tokens, .bufferRows(buffer: op.gates))
    try require(
      gates.columns == route.slots,
      .bufferColumns(buffer: op.gates, expected: route.slots, found: gates.columns))
    if let residual = op.residual {
      let other = try readFloat(residual)
      try require(other.rows == route.tokens, .bufferRows(buffer: residual))
      try require(
        other.columns == source.columns,
        .bufferColumns(buffer: residual, expected: source.columns, found: other.columns))
    }
    try writeFloat(op.output, rows: route.tokens, columns: source.columns)
  }

  /// Checks what a product multiplies `source` by, whose weight is operand `operand` and the others
  /// behind it.
  func checkWeights(
    _ op: ExpertLinear.Expert, of source: Buffer, operand: Int
  ) throws(ModelError) {
    try require(tensors.indices.contains(op.weight), .noSuchTensor(found: UInt32(op.weight)))
    let weight = tensors[op.weight]
    let isInteger = source.quantization != nil
    try require(
      weight.layout != .rowMajor && (weight.storedType.isInteger || !isInteger),
      .tensorType(tensor: op.weight))
    try require(
      weight.columns == source.columns,
      .tensorShape(
        tensor: op.weight, expectedRows: weight.rows, expectedColumns: source.columns))
    let hasGroups = weight.groupSize != 0
    try require(
      (op.scale != nil) == weight.storedType.isInteger, .optionalTensor(operand: operand + 1))
    try require(
      (op.correction != nil) == (isInteger && !hasGroups), .optionalTensor(operand: operand + 2))
    if let scale = op.scale {
      if hasGroups {
        try floats(scale, .panels, rows: weight.rows, columns: weight.groupCount)
      } else {
        try floats(scale, columns: weight.rows)
      }
    }
    if let correction = op.correction { try tensor(correction, .int32, columns: weight.rows) }
    if let bias = op.bias { try floats(bias, columns: weight.rows) }
  }

  /// Checks the scales of the rows of `source`, which is buffer `input`.
  mutating func checkRowScale(
    _ rowScale: Int?, of source: Buffer, _ input: Int
  ) throws(ModelError) {
    guard let rowScale else { return }
    try require(source.quantization != nil, .bufferType(buffer: input))
    let scales = try readFloat(rowScale)
    try require(scales.rows == source.rows, .bufferRows(buffer: rowScale))
    try require(
      scales.columns == 1,
      .bufferColumns(buffer: rowScale, expected: 1, found: scales.columns))
  }

  /// The route whose indices a buffer holds.
  private mutating func readRoute(_ buffer: Int) throws(ModelError) -> Route {
    try readAny(buffer)
    guard let route = routes[buffer] else { throw fault(.bufferType(buffer: buffer)) }
    return route
  }

  private mutating func writeIndices(
    _ buffer: Int, rows: RowRule, columns: Int
  ) throws(ModelError) {
    let value = try writeAny(buffer, rows: rows, columns: columns)
    try require(value.isIndices, .bufferType(buffer: buffer))
  }
}

/// What is known of a buffer of indices.
struct Route {
  /// The rows of the tokens.
  let tokens: RowRule
  /// The rows of their slots.
  let rows: RowRule
  /// Slots of a token.
  let slots: Int
  /// Of ``RouteTokens/order``, how many experts there are.
  let experts: Int?
}
