extension ProgramVerifier {
  /// Checks an instruction that merges tokens.
  mutating func check(_ op: MergeTokens) throws(ModelError) {
    let source = try readFloat(op.input)
    let width = try headColumnCount(op.headCount, op.headWidth, operand: 7)
    let key = try readFloat(op.key, width: width, operand: 3)
    let tokens = try tokenCount(source, op.input)
    try require(key.rows == source.rows, .bufferRows(buffer: op.key.buffer))
    if let sizes = op.sizes { try checkSizes(sizes, tokens: tokens) }
    let kept = try keptCount(op.output)
    try require(
      kept <= tokens && tokens - kept <= (tokens - 1) / 2, .bufferRows(buffer: op.output))
    try writeFloat(op.output, rows: .perItem(kept), columns: source.columns)
    try writeFloat(op.outputSizes, rows: .perItem(1), columns: kept)
  }

  /// Checks an instruction that drops tokens.
  mutating func check(_ op: DropTokens) throws(ModelError) {
    let source = try readFloat(op.input)
    let width = try headColumnCount(op.headCount, op.headWidth, operand: 7)
    let query = try readFloat(op.query, width: width, operand: 3)
    let key = try readFloat(op.key, width: width, operand: 5)
    let tokens = try tokenCount(source, op.input)
    try require(query.rows == source.rows, .bufferRows(buffer: op.query.buffer))
    try require(key.rows == source.rows, .bufferRows(buffer: op.key.buffer))
    try require(
      op.scoreScale.isFinite, .parameter(operand: 9, found: op.scoreScale.bitPattern))
    try require(
      op.leading >= 1 && op.leading <= tokens,
      .parameter(operand: 10, found: UInt32(op.leading)))
    try require(
      op.columns <= Limit.rowCount, .parameter(operand: 11, found: UInt32(op.columns)))
    try require(
      op.spacing >= 1 && op.spacing <= Limit.rowCount,
      .parameter(operand: 12, found: UInt32(op.spacing)))
    let kept = try keptCount(op.output)
    try require(
      kept <= tokens && op.certainCount(of: tokens) <= kept, .bufferRows(buffer: op.output))
    try writeFloat(op.output, rows: .perItem(kept), columns: source.columns)
  }

  /// Checks that `sizes` says how many tokens each of `tokens` stands for.
  mutating func checkSizes(_ sizes: Int, tokens: Int) throws(ModelError) {
    let value = try readFloat(sizes)
    try require(value.rows == .perItem(1), .bufferRows(buffer: sizes))
    try require(
      value.columns == tokens,
      .bufferColumns(buffer: sizes, expected: tokens, found: value.columns))
  }

  /// The rows for each image of a value; only images have so many tokens that some may go.
  private func tokenCount(_ value: Buffer, _ buffer: Int) throws(ModelError) -> Int {
    try require(tower == .image, .wrongTower)
    guard case .perItem(let rows) = value.rows else { throw fault(.bufferRows(buffer: buffer)) }
    return rows
  }

  /// The rows for each image of a value that is still to be written.
  private func keptCount(_ buffer: Int) throws(ModelError) -> Int {
    try require(program.buffers.indices.contains(buffer), .noSuchBuffer(found: UInt32(buffer)))
    guard case .perItem(let rows) = program.buffers[buffer].rows else {
      throw fault(.bufferRows(buffer: buffer))
    }
    return rows
  }
}
