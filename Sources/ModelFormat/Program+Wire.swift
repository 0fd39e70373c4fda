// The wire form of programs: 24 bytes a buffer, 32-bit words for instructions.

extension Program {
  /// Bytes in front of the buffers.
  static var headerByteCount: Int { 32 }
  /// Bytes of a buffer.
  static var bufferByteCount: Int { 24 }

  /// Reads a section; what the numbers refer to is for ``verify(_:_:_:)`` to check.
  init(_ cursor: inout Cursor, _ tower: Tower) throws(ModelError) {
    let bufferCount = try cursor.count(.bufferCount, in: 1...Limit.bufferCount)
    slotCount = try cursor.count(.slotCount, in: 1...Limit.slotCount)
    let instructionCount = try cursor.count(.instructionCount, in: 1...Limit.instructionCount)
    let ruleOffset = cursor.offset
    let ruleValue = try cursor.u32()
    guard let rule = PoolingRule(rawValue: ruleValue),
      (tower == .image) == (rule == .firstRow)
    else { throw .field(.poolingRule, offset: ruleOffset, found: UInt64(ruleValue)) }
    poolingRule = rule
    endToken = try cursor.count(
      .endToken, in: rule == .endToken ? 0...Limit.tensorRowCount : 0...0)
    for _ in 0..<3 { try cursor.zero() }
    buffers = []
    for index in 0..<bufferCount {
      buffers.append(try Buffer(&cursor, tower, index: index, slotCount: slotCount))
    }
    instructions = []
    for index in 0..<instructionCount {
      instructions.append(try Instruction(&cursor, tower, index: index))
    }
    try cursor.finish()
  }
}

extension Buffer {
  /// Reads 24 bytes and checks what they say on their own.
  init(
    _ cursor: inout Cursor, _ tower: Tower, index: Int, slotCount: Int
  ) throws(ModelError) {
    let type = try cursor.u8()
    let rule = try cursor.u8()
    let slot = try cursor.u16()
    let rows = try cursor.u32()
    let columns = try cursor.u32()
    let scale = try cursor.float()
    let inverseScale = try cursor.float()
    let zeroPoint = try cursor.u8()
    let lowest = try cursor.u8()
    let unused = try cursor.u8()
    let reserved = try cursor.u8()
    switch rule {
    case 0 where rows >= 1 && rows <= UInt32(Limit.rowCount): self.rows = .perItem(Int(rows))
    case 1 where rows == 0 && tower == .text: self.rows = .perToken
    case 2 where tower == .text && rows >= 2 && rows <= UInt32(Limit.rowCount):
      self.rows = .perSlot(Int(rows))
    case 0, 1: throw .buffer(tower, index: index, .rows(found: rows))
    case 2 where tower == .text: throw .buffer(tower, index: index, .rows(found: rows))
    default: throw .buffer(tower, index: index, .rowRule(found: rule))
    }
    guard columns >= 1, columns <= UInt32(Limit.columnCount) else {
      throw .buffer(tower, index: index, .columns(found: columns))
    }
    self.columns = Int(columns)
    guard Int(slot) < slotCount else { throw .buffer(tower, index: index, .slot(found: slot)) }
    self.slot = Int(slot)
    guard reserved == 0 else { throw .buffer(tower, index: index, .reserved) }
    isIndices = StoredType(rawValue: type) == .int32
    switch StoredType(rawValue: type) {
    case .float32, .int32:
      guard scale.bitPattern == 0, inverseScale.bitPattern == 0, zeroPoint == 0, lowest == 0,
        unused == 0
      else {
        throw .buffer(tower, index: index, .quantization)
      }
      quantization = nil
    case .uint8:
      let parameters = BufferQuantization(
        scale: scale, inverseScale: inverseScale, zeroPoint: zeroPoint, lowest: lowest,
        highest: 255 - unused)
      guard parameters.isValid else { throw .buffer(tower, index: index, .quantization) }
      quantization = parameters
    default: throw .buffer(tower, index: index, .elementType(found: type))
    }
  }
}

/// Reads the words of one instruction in order.
private struct OperandCursor {
  var cursor: Cursor
  let tower: Tower
  let index: Int
  var operand = 0

  mutating func word() throws(ModelError) -> UInt32 {
    operand += 1
    return try cursor.u32()
  }

  mutating func required() throws(ModelError) -> Int {
    let value = try word()
    guard let number = Int(exactly: value) else { throw parameter(value) }
    return number
  }

  mutating func optional() throws(ModelError) -> Int? {
    let value = try word()
    if value == Layout.absent { return nil }
    guard let number = Int(exactly: value) else { throw parameter(value) }
    return number
  }

  mutating func float() throws(ModelError) -> Float { Float(bitPattern: try word()) }

  mutating func flag() throws(ModelError) -> Bool {
    let value = try word()
    guard value <= 1 else { throw parameter(value) }
    return value == 1
  }

  mutating func activation() throws(ModelError) -> Activation {
    let value = try word()
    guard let function = Activation(rawValue: value) else { throw parameter(value) }
    return function
  }

  mutating func columns() throws(ModelError) -> HeadColumns {
    HeadColumns(buffer: try required(), column: try required())
  }

  func parameter(_ value: UInt32) -> ModelError {
    .instruction(tower, index: index, .parameter(operand: operand, found: value))
  }
}

extension Instruction {
  /// Reads the words of one instruction.
  init(_ cursor: inout Cursor, _ tower: Tower, index: Int) throws(ModelError) {
    let code = try cursor.u16()
    let words = Int(try cursor.u16())
    guard let opCode = OpCode(rawValue: code) else {
      throw .instruction(tower, index: index, .unknownOpCode(found: code))
    }
    let further = words - opCode.wordCount
    let isList = opCode.repeatedWordCount > 0
    guard further == 0 || isList && further > 0 && further % opCode.repeatedWordCount == 0 else {
      throw .instruction(
        tower, index: index, .wordCount(expected: opCode.wordCount, found: words))
    }
    var operands = OperandCursor(cursor: cursor, tower: tower, index: index)
    self = try Instruction(
      opCode, &operands, further: isList ? further / opCode.repeatedWordCount : 0)
    cursor = operands.cursor
  }

  private init(
    _ opCode: OpCode, _ operands: inout OperandCursor, further: Int
  ) throws(ModelError) {
    switch opCode {
    case .patchUnfold:
      self = .patchUnfold(
        PatchUnfold(output: try operands.required(), patchSize: try operands.required()))
    case .linear: self = .linear(try Linear(&operands))
    case .linearTokens:
      var linear = try Linear(&operands)
      linear.rowScale = try operands.required()
      self = .linear(linear)
    case .quantizeTokens:
      self = .quantizeTokens(
        input: try operands.required(), output: try operands.required(),
        scales: try operands.required())
    case .routeTokens: self = .routeTokens(try RouteTokens(&operands))
    case .expertLinear: self = .expertLinear(try ExpertLinear(&operands, experts: 1 + further))
    case .combineExperts:
      self = .combineExperts(
        CombineExperts(
          input: try operands.required(), places: try operands.required(),
          gates: try operands.required(), output: try operands.required(),
          residual: try operands.optional()))
    case .layerNorm:
      self = .layerNorm(
        LayerNorm(
          input: try operands.required(), output: try operands.required(),
          weight: try operands.required(), bias: try operands.required(),
          epsilon: try operands.float()))
    case .attention:
      self = .attention(try Attention(&operands))
    case .integerAttention:
      var attention = try Attention(&operands)
      attention.isInteger = true
      self = .attention(attention)
    case .proportionalAttention:
      var attention = try Attention(&operands)
      attention.sizes = try operands.required()
      self = .attention(attention)
    case .tokenEmbedding:
      self = .tokenEmbedding(
        TokenEmbedding(
          output: try operands.required(), table: try operands.required(),
          scale: try operands.optional(), position: try operands.required()))
    case .assembleTokens:
      self = .assembleTokens(
        AssembleTokens(
          input: try operands.required(), output: try operands.required(),
          classRow: try operands.required(), position: try operands.required()))
    case .pool:
      self = .pool(input: try operands.required(), output: try operands.required())
    case .l2Normalize:
      self = .l2Normalize(input: try operands.required(), output: try operands.required())
    case .quantize:
      self = .quantize(input: try operands.required(), output: try operands.required())
    case .add:
      self = .add(
        left: try operands.required(), right: try operands.required(),
        output: try operands.required())
    case .mergeTokens:
      self = .mergeTokens(
        MergeTokens(
          input: try operands.required(), key: try operands.columns(),
          sizes: try operands.optional(), output: try operands.required(),
          outputSizes: try operands.required(), headCount: try operands.required(),
          headWidth: try operands.required()))
    case .dropTokens:
      self = .dropTokens(
        DropTokens(
          input: try operands.required(), query: try operands.columns(),
          key: try operands.columns(), output: try operands.required(),
          headCount: try operands.required(), headWidth: try operands.required(),
          scoreScale: try operands.float(), leading: try operands.required(),
          columns: try operands.required(), spacing: try operands.required()))
    }
  }

  /// The instruction as it stands in a file, the first word included.
  var words: [UInt32] {
    let operands = operandWords
    return [UInt32(opCode.rawValue) | UInt32(operands.count + 1) << 16] + operands
  }

  private var operandWords: [UInt32] {
    switch self {
    case .patchUnfold(let op): [UInt32(op.output), UInt32(op.patchSize)]
    case .linear(let op):
      [
        UInt32(op.input), UInt32(op.output), UInt32(op.weight), word(op.scale),
        word(op.correction), word(op.bias), word(op.residual), op.activation.rawValue,
      ] + (op.rowScale.map { [UInt32($0)] } ?? [])
    case .layerNorm(let op):
      [
        UInt32(op.input), UInt32(op.output), UInt32(op.weight), UInt32(op.bias),
        op.epsilon.bitPattern,
      ]
    case .attention(let op):
      [
        UInt32(op.query.buffer), UInt32(op.query.column), UInt32(op.key.buffer),
        UInt32(op.key.column), UInt32(op.value.buffer), UInt32(op.value.column),
        UInt32(op.output), UInt32(op.headCount), UInt32(op.headWidth), op.scoreScale.bitPattern,
        op.isCausal ? 1 : 0,
      ] + (op.sizes.map { [UInt32($0)] } ?? [])
    case .tokenEmbedding(let op):
      [UInt32(op.output), UInt32(op.table), word(op.scale), UInt32(op.position)]
    case .assembleTokens(let op):
      [UInt32(op.input), UInt32(op.output), UInt32(op.classRow), UInt32(op.position)]
    case .pool(let input, let output), .l2Normalize(let input, let output),
      .quantize(let input, let output):
      [UInt32(input), UInt32(output)]
    case .quantizeTokens(let input, let output, let scales):
      [UInt32(input), UInt32(output), UInt32(scales)]
    case .add(let left, let right, let output): [UInt32(left), UInt32(right), UInt32(output)]
    case .mergeTokens(let op):
      [
        UInt32(op.input), UInt32(op.key.buffer), UInt32(op.key.column), word(op.sizes),
        UInt32(op.output), UInt32(op.outputSizes), UInt32(op.headCount), UInt32(op.headWidth),
      ]
    case .dropTokens(let op):
      [
        UInt32(op.input), UInt32(op.query.buffer), UInt32(op.query.column),
        UInt32(op.key.buffer), UInt32(op.key.column), UInt32(op.output), UInt32(op.headCount),
        UInt32(op.headWidth), op.scoreScale.bitPattern, UInt32(op.leading), UInt32(op.columns),
        UInt32(op.spacing),
      ]
    case .routeTokens(let op):
      [
        UInt32(op.logits), UInt32(op.places), UInt32(op.gates), UInt32(op.order), UInt32(op.topK),
        UInt32(op.capacity), op.isNormalized ? 1 : 0,
      ]
    case .expertLinear(let op):
      [
        UInt32(op.input), UInt32(op.order), UInt32(op.output), op.activation.rawValue,
        op.isOrdered ? 1 : 0, word(op.rowScale),
      ]
        + op.experts.flatMap { expert in
          [UInt32(expert.weight), word(expert.scale), word(expert.correction), word(expert.bias)]
        }
    case .combineExperts(let op):
      [
        UInt32(op.input), UInt32(op.places), UInt32(op.gates), UInt32(op.output),
        word(op.residual),
      ]
    }
  }

  private func word(_ operand: Int?) -> UInt32 { operand.map { UInt32($0) } ?? Layout.absent }
}

extension Linear {
  fileprivate init(_ operands: inout OperandCursor) throws(ModelError) {
    self.init(
      input: try operands.required(), output: try operands.required(),
      weight: try operands.required(), scale: try operands.optional(),
      correction: try operands.optional(), bias: try operands.optional(),
      residual: try operands.optional())
    activation = try operands.activation()
  }
}

extension RouteTokens {
  fileprivate init(_ operands: inout OperandCursor) throws(ModelError) {
    self.init(
      logits: try operands.required(), places: try operands.required(),
      gates: try operands.required(), order: try operands.required(),
      topK: try operands.required(), capacity: try operands.required(),
      isNormalized: try operands.flag())
  }
}

extension ExpertLinear {
  fileprivate init(_ operands: inout OperandCursor, experts count: Int) throws(ModelError) {
    self.init(
      input: try operands.required(), order: try operands.required(),
      output: try operands.required(), activation: try operands.activation(),
      isOrdered: try operands.flag(), rowScale: try operands.optional(), experts: [])
    experts.reserveCapacity(count)
    for _ in 0..<count {
      experts.append(
        Expert(
          weight: try operands.required(), scale: try operands.optional(),
          correction: try operands.optional(), bias: try operands.optional()))
    }
  }
}

extension Attention {
  fileprivate init(_ operands: inout OperandCursor) throws(ModelError) {
    query = try operands.columns()
    key = try operands.columns()
    value = try operands.columns()
    output = try operands.required()
    headCount = try operands.required()
    headWidth = try operands.required()
    scoreScale = try operands.float()
    isCausal = try operands.flag()
    isInteger = false
  }
}
