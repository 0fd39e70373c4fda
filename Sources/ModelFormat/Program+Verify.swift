extension Program {
  /// Checks everything that running the program relies on, so that nothing is checked again.
  ///
  /// Every operand exists; every buffer is written once, before it is read; types and shapes agree
  /// with the instruction and with each other; buffers that share a slot are never live together.
  ///
  /// - Throws: The first fault in order of instructions, then of buffers.
  func verify(_ tower: Tower, _ info: ModelInfo, _ tensors: [TensorRecord]) throws(ModelError) {
    var verifier = ProgramVerifier(self, tower, info, tensors)
    for index in instructions.indices {
      verifier.index = index
      try verifier.check(instructions[index])
    }
    try verifier.checkResult()
    try verifier.checkSlots()
  }
}

/// Walks a program in order and remembers when each buffer is written and read last.
struct ProgramVerifier {
  let program: Program
  let tower: Tower
  let info: ModelInfo
  let tensors: [TensorRecord]
  var index = 0
  var writtenAt: [Int?]
  var lastReadAt: [Int]
  /// What the buffers of indices that were written are for.
  var routes: [Int: Route] = [:]

  init(_ program: Program, _ tower: Tower, _ info: ModelInfo, _ tensors: [TensorRecord]) {
    self.program = program
    self.tower = tower
    self.info = info
    self.tensors = tensors
    writtenAt = [Int?](repeating: nil, count: program.buffers.count)
    lastReadAt = [Int](repeating: -1, count: program.buffers.count)
  }

  func fault(_ fault: InstructionFault) -> ModelError {
    .instruction(tower, index: index, fault)
  }

  func require(_ condition: Bool, _ fault: InstructionFault) throws(ModelError) {
    if !condition { throw self.fault(fault) }
  }

  // MARK: Operands

  /// Marks the buffer, of any type, as read.
  mutating func readAny(_ buffer: Int) throws(ModelError) {
    try require(program.buffers.indices.contains(buffer), .noSuchBuffer(found: UInt32(buffer)))
    try require(writtenAt[buffer] != nil, .readBeforeWritten(buffer: buffer))
    lastReadAt[buffer] = index
  }

  mutating func read(_ buffer: Int) throws(ModelError) -> Buffer {
    try readAny(buffer)
    try require(!program.buffers[buffer].isIndices, .bufferType(buffer: buffer))
    return program.buffers[buffer]
  }

  mutating func readFloat(_ buffer: Int) throws(ModelError) -> Buffer {
    let value = try read(buffer)
    try require(value.quantization == nil, .bufferType(buffer: buffer))
    return value
  }

  mutating func write(
    _ buffer: Int, rows: RowRule, columns: Int
  ) throws(ModelError) -> Buffer {
    let value = try writeAny(buffer, rows: rows, columns: columns)
    try require(!value.isIndices, .bufferType(buffer: buffer))
    return value
  }

  /// Marks the buffer, of any type, as written; called after all reads of the instruction.
  mutating func writeAny(
    _ buffer: Int, rows: RowRule, columns: Int
  ) throws(ModelError) -> Buffer {
    try require(program.buffers.indices.contains(buffer), .noSuchBuffer(found: UInt32(buffer)))
    try require(writtenAt[buffer] == nil, .writtenTwice(buffer: buffer))
    writtenAt[buffer] = index
    let value = program.buffers[buffer]
    try require(value.rows == rows, .bufferRows(buffer: buffer))
    try require(
      value.columns == columns,
      .bufferColumns(buffer: buffer, expected: columns, found: value.columns))
    return value
  }

  mutating func writeFloat(_ buffer: Int, rows: RowRule, columns: Int) throws(ModelError) {
    let value = try write(buffer, rows: rows, columns: columns)
    try require(value.quantization == nil, .bufferType(buffer: buffer))
  }

  func tensor(
    _ tensor: Int, _ type: StoredType, _ layout: TensorLayout = .rowMajor, rows: Int = 1,
    columns: Int
  ) throws(ModelError) {
    try require(tensors.indices.contains(tensor), .noSuchTensor(found: UInt32(tensor)))
    let record = tensors[tensor]
    try require(
      record.storedType == type && record.layout == layout, .tensorType(tensor: tensor))
    try require(
      record.rows == rows && record.columns == columns,
      .tensorShape(tensor: tensor, expectedRows: rows, expectedColumns: columns))
  }

  /// Holds a tensor of floats, of any type, against the shape expected.
  func floats(
    _ tensor: Int, _ layout: TensorLayout = .rowMajor, rows: Int = 1, columns: Int
  ) throws(ModelError) {
    try require(tensors.indices.contains(tensor), .noSuchTensor(found: UInt32(tensor)))
    let type = tensors[tensor].storedType
    try require(type.isFloat, .tensorType(tensor: tensor))
    try self.tensor(tensor, type, layout, rows: rows, columns: columns)
  }

  // MARK: Instructions

  mutating func check(_ instruction: Instruction) throws(ModelError) {
    switch instruction {
    case .patchUnfold(let op): try check(op)
    case .linear(let op): try check(op)
    case .layerNorm(let op): try check(op)
    case .attention(let op): try check(op)
    case .tokenEmbedding(let op): try check(op)
    case .assembleTokens(let op): try check(op)
    case .pool(let input, let output):
      let source = try read(input)
      // Only rows of tokens have one at the pooled position of a text.
      if tower == .text, case .perItem = source.rows { throw fault(.bufferRows(buffer: input)) }
      let target = try write(output, rows: .perItem(1), columns: source.columns)
      try require(target.quantization == source.quantization, .bufferType(buffer: output))
    case .l2Normalize(let input, let output):
      let source = try readFloat(input)
      try writeFloat(output, rows: source.rows, columns: source.columns)
    case .quantize(let input, let output):
      let source = try readFloat(input)
      let target = try write(output, rows: source.rows, columns: source.columns)
      try require(target.quantization != nil, .bufferType(buffer: output))
    case .add(let left, let right, let output):
      let first = try readFloat(left)
      let second = try readFloat(right)
      try require(first.rows == second.rows, .bufferRows(buffer: right))
      try require(
        first.columns == second.columns,
        .bufferColumns(buffer: right, expected: first.columns, found: second.columns))
      try writeFloat(output, rows: first.rows, columns: first.columns)
    case .mergeTokens(let op): try check(op)
    case .dropTokens(let op): try check(op)
    case .quantizeTokens(let input, let output, let scales):
      let source = try readFloat(input)
      let target = try write(output, rows: source.rows, columns: source.columns)
      try require(target.quantization?.isSymmetricUnit ?? false, .bufferType(buffer: output))
      try writeFloat(scales, rows: source.rows, columns: 1)
    case .routeTokens(let op): try check(op)
    case .expertLinear(let op): try check(op)
    case .combineExperts(let op): try check(op)
    }
  }

  mutating func check(_ op: PatchUnfold) throws(ModelError) {
    try require(tower == .image, .wrongTower)
    try require(
      op.patchSize >= 1 && op.patchSize <= min(info.imageHeight, info.imageWidth),
      .parameter(operand: 2, found: UInt32(op.patchSize)))
    let patches = (info.imageHeight / op.patchSize) * (info.imageWidth / op.patchSize)
    let columns = info.imageChannelCount * op.patchSize
    let (area, overflow) = columns.multipliedReportingOverflow(by: op.patchSize)
    try require(!overflow, .parameter(operand: 2, found: UInt32(op.patchSize)))
    _ = try write(op.output, rows: .perItem(patches), columns: area)
  }

  mutating func check(_ op: Linear) throws(ModelError) {
    let source = try read(op.input)
    try checkWeights(op.operands, of: source, operand: 3)
    let weight = tensors[op.weight]
    if let residual = op.residual {
      let other = try readFloat(residual)
      try require(other.rows == source.rows, .bufferRows(buffer: residual))
      try require(
        other.columns == weight.rows,
        .bufferColumns(buffer: residual, expected: weight.rows, found: other.columns))
    }
    try checkRowScale(op.rowScale, of: source, op.input)
    _ = try write(op.output, rows: source.rows, columns: weight.rows)
  }

  mutating func check(_ op: LayerNorm) throws(ModelError) {
    let source = try readFloat(op.input)
    try floats(op.weight, columns: source.columns)
    try floats(op.bias, columns: source.columns)
    try require(
      op.epsilon.isFinite && op.epsilon > 0,
      .parameter(operand: 5, found: op.epsilon.bitPattern))
    _ = try write(op.output, rows: source.rows, columns: source.columns)
  }

  mutating func check(_ op: Attention) throws(ModelError) {
    let width = try headColumnCount(op.headCount, op.headWidth, operand: 8)
    try require(
      op.scoreScale.isFinite, .parameter(operand: 10, found: op.scoreScale.bitPattern))
    let query = try read(op.query, isInteger: op.isInteger, width: width, operand: 2)
    let key = try read(op.key, isInteger: op.isInteger, width: width, operand: 4)
    let value = try read(op.value, isInteger: op.isInteger, width: width, operand: 6)
    try require(
      !op.isInteger || op.headWidth <= Limit.integerHeadWidth,
      .parameter(operand: 9, found: UInt32(op.headWidth)))
    try require(value.rows == key.rows, .bufferRows(buffer: op.value.buffer))
    if case .perSlot = key.rows { throw fault(.bufferRows(buffer: op.key.buffer)) }
    let isPooled = query.rows == .perItem(1) && !(op.isCausal && tower == .image)
    try require(query.rows == key.rows || isPooled, .bufferRows(buffer: op.query.buffer))
    if let sizes = op.sizes {
      guard case .perItem(let tokens) = key.rows else {
        throw fault(.bufferRows(buffer: op.key.buffer))
      }
      try checkSizes(sizes, tokens: tokens)
    }
    _ = try write(op.output, rows: query.rows, columns: width)
  }

  /// The columns of all heads, whose number is operand `operand` and their width the one behind.
  func headColumnCount(
    _ headCount: Int, _ headWidth: Int, operand: Int
  ) throws(ModelError) -> Int {
    try require(
      headCount >= 1 && headCount <= Limit.columnCount,
      .parameter(operand: operand, found: UInt32(headCount)))
    try require(
      headWidth >= 1 && headWidth <= Limit.columnCount / headCount,
      .parameter(operand: operand + 1, found: UInt32(headWidth)))
    return headCount * headWidth
  }

  mutating func readFloat(
    _ columns: HeadColumns, width: Int, operand: Int
  ) throws(ModelError) -> Buffer {
    try read(columns, isInteger: false, width: width, operand: operand)
  }

  mutating func read(
    _ columns: HeadColumns, isInteger: Bool, width: Int, operand: Int
  ) throws(ModelError) -> Buffer {
    let buffer = try read(columns.buffer)
    try require(
      (buffer.quantization != nil) == isInteger, .bufferType(buffer: columns.buffer))
    try require(
      width <= buffer.columns && columns.column <= buffer.columns - width,
      .parameter(operand: operand, found: UInt32(columns.column)))
    return buffer
  }

  mutating func check(_ op: TokenEmbedding) throws(ModelError) {
    try require(tower == .text, .wrongTower)
    try require(tensors.indices.contains(op.table), .noSuchTensor(found: UInt32(op.table)))
    let table = tensors[op.table]
    let isInteger = table.storedType.isInteger
    try require(isInteger || table.storedType.isFloat, .tensorType(tensor: op.table))
    try tensor(
      op.table, table.storedType, rows: info.vocabularyCount, columns: table.columns)
    try require((op.scale != nil) == isInteger, .optionalTensor(operand: 3))
    // Scales for each row of the table; a vocabulary may be larger than a row may be wide.
    if let scale = op.scale { try floats(scale, rows: table.rows, columns: table.groupCount) }
    try require(
      tensors.indices.contains(op.position), .noSuchTensor(found: UInt32(op.position)))
    let positions = max(tensors[op.position].rows, info.contextLength)
    try floats(op.position, rows: positions, columns: table.columns)
    try writeFloat(op.output, rows: .perToken, columns: table.columns)
  }

  mutating func check(_ op: AssembleTokens) throws(ModelError) {
    try require(tower == .image, .wrongTower)
    let source = try readFloat(op.input)
    guard case .perItem(let patches) = source.rows else {
      throw fault(.bufferRows(buffer: op.input))
    }
    try floats(op.classRow, columns: source.columns)
    try floats(op.position, rows: patches + 1, columns: source.columns)
    try writeFloat(op.output, rows: .perItem(patches + 1), columns: source.columns)
  }

  // MARK: The whole

  mutating func checkResult() throws(ModelError) {
    guard let output = program.instructions.last?.output else { throw .wrongResult(tower) }
    let result = program.buffers[output]
    guard result.rows == .perItem(1), result.columns == info.embeddingWidth,
      result.isFloat
    else { throw .wrongResult(tower) }
    // The caller copies the result after the last instruction.
    lastReadAt[output] = program.instructions.count
  }

  /// Follows each slot through time: a buffer may move in after the one before was read last, or
  /// while the instruction reads it in place.
  func checkSlots() throws(ModelError) {
    for buffer in program.buffers.indices where writtenAt[buffer] == nil {
      throw .buffer(tower, index: buffer, .neverWritten)
    }
    var occupant = [Int?](repeating: nil, count: program.slotCount)
    for (index, instruction) in program.instructions.enumerated() {
      for output in instruction.outputs {
        let slot = program.buffers[output].slot
        if let other = occupant[slot] {
          let free = max(lastReadAt[other], writtenAt[other] ?? 0)
          let isInPlace =
            free == index && lastReadAt[other] == index && instruction.mayReplace(other)
            && program.buffers[output].hasSameType(as: program.buffers[other])
          if free >= index && !isInPlace {
            throw .buffer(tower, index: output, .overlaps(other: other))
          }
        }
        occupant[slot] = output
      }
    }
  }
}

extension Instruction {
  /// The buffers that the instruction writes, ``output`` first.
  public var outputs: [Int] {
    switch self {
    case .mergeTokens(let op): [op.output, op.outputSizes]
    case .quantizeTokens(_, let output, let scales): [output, scales]
    case .routeTokens(let op): [op.places, op.gates, op.order]
    default: [output]
    }
  }

  /// The buffer that the instruction writes, the first one where there are two.
  public var output: Int {
    switch self {
    case .patchUnfold(let op): op.output
    case .linear(let op): op.output
    case .layerNorm(let op): op.output
    case .attention(let op): op.output
    case .tokenEmbedding(let op): op.output
    case .assembleTokens(let op): op.output
    case .pool(_, let output), .l2Normalize(_, let output), .quantize(_, let output),
      .add(_, _, let output), .quantizeTokens(_, let output, _):
      output
    case .mergeTokens(let op): op.output
    case .dropTokens(let op): op.output
    case .routeTokens(let op): op.places
    case .expertLinear(let op): op.output
    case .combineExperts(let op): op.output
    }
  }

  /// The buffers that the instruction reads, in order of operands.
  public var inputs: [Int] {
    switch self {
    case .patchUnfold, .tokenEmbedding: []
    case .linear(let op):
      [op.input] + (op.residual.map { [$0] } ?? []) + (op.rowScale.map { [$0] } ?? [])
    case .layerNorm(let op): [op.input]
    case .attention(let op):
      [op.query.buffer, op.key.buffer, op.value.buffer] + (op.sizes.map { [$0] } ?? [])
    case .assembleTokens(let op): [op.input]
    case .pool(let input, _), .l2Normalize(let input, _), .quantize(let input, _),
      .quantizeTokens(let input, _, _):
      [input]
    case .add(let left, let right, _): [left, right]
    case .mergeTokens(let op): [op.input, op.key.buffer] + (op.sizes.map { [$0] } ?? [])
    case .dropTokens(let op): [op.input, op.query.buffer, op.key.buffer]
    case .routeTokens(let op): [op.logits]
    case .expertLinear(let op): [op.input, op.order] + (op.rowScale.map { [$0] } ?? [])
    case .combineExperts(let op):
      [op.input, op.places, op.gates] + (op.residual.map { [$0] } ?? [])
    }
  }

  /// The tensors that kernels read as row-major float32 from beginning to end: what is stored shorter
  /// has to be widened before.
  public var vectors: [Int] {
    switch self {
    case .linear(let op): [op.scale, op.bias].compactMap { $0 }
    case .expertLinear(let op): op.experts.flatMap { [$0.scale, $0.bias].compactMap { $0 } }
    case .layerNorm(let op): [op.weight, op.bias]
    case .tokenEmbedding(let op): [op.position]
    case .assembleTokens(let op): [op.classRow, op.position]
    default: []
    }
  }

  /// Whether the output may be written where `buffer`, of the same type, is read: each element is
  /// read before it is written and by the same task.
  func mayReplace(_ buffer: Int) -> Bool {
    switch self {
    case .linear(let op):
      op.residual == buffer && op.input != buffer && op.rowScale != buffer
    case .layerNorm(let op): op.input == buffer
    case .l2Normalize(let input, _): input == buffer
    case .add(let left, let right, _): left == buffer || right == buffer
    case .combineExperts(let op): op.residual == buffer && op.input != buffer && op.gates != buffer
    default: false
    }
  }
}
