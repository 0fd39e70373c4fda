/// A row of the tensor table: what a tensor is and where its bytes lie.
public struct TensorRecord: Equatable, Sendable {
  /// How its numbers are stored.
  public var storedType: StoredType
  /// In which order they lie.
  public var layout: TensorLayout
  /// Rows, 1 for a vector.
  public var rows: Int
  /// Columns.
  public var columns: Int
  /// Which columns are stored, with ``TensorLayout/pattern``.
  public var pattern: SparsityPattern?
  /// Where it starts in the weights section, in bytes; a multiple of 64.
  public var offset: Int
  /// Its bytes without the zeros up to the next multiple of 64.
  public var byteCount: Int

  /// Bytes that a dense tensor of this type, layout and shape takes, or nil where they overflow.
  public static func byteCount(
    of type: StoredType, _ layout: TensorLayout, rows: Int, columns: Int
  ) -> Int? {
    var rows = rows
    var columns = columns
    if layout == .panels {
      rows = (rows + Layout.panelRowCount - 1) / Layout.panelRowCount * Layout.panelRowCount
      if type == .int8 {
        columns = (columns + Layout.int8GroupCount - 1) / Layout.int8GroupCount
        columns *= Layout.int8GroupCount
      }
    }
    let (elements, overflow) = rows.multipliedReportingOverflow(by: columns)
    let (bytes, byteOverflow) = elements.multipliedReportingOverflow(by: type.byteCount)
    return overflow || byteOverflow || bytes > Int.max - 64 ? nil : bytes
  }

  /// Reads a row and holds it against the end of the tensor before and the section's length.
  init(
    _ cursor: inout Cursor, index: Int, expectedOffset: Int, weightsByteCount: Int
  ) throws(ModelError) {
    let type = try cursor.u8()
    let layout = try cursor.u8()
    let patternWord = try cursor.u16()
    let rows = try cursor.u32()
    let columns = try cursor.u32()
    let reservedWord = try cursor.u32()
    let offset = try cursor.u64()
    let byteCount = try cursor.u64()
    guard let storedType = StoredType(rawValue: type) else {
      throw .tensor(index: index, .storedType(found: type))
    }
    guard let order = TensorLayout(rawValue: layout),
      order == .rowMajor || storedType == .float32 || (storedType == .int8 && order != .sparse)
    else { throw .tensor(index: index, .layout(found: layout)) }
    guard order == .pattern || patternWord == 0, reservedWord == 0 else {
      throw .tensor(index: index, .reserved)
    }
    let pattern = SparsityPattern(
      keptCount: Int(patternWord & 0xFF), groupCount: Int(patternWord >> 8))
    guard order != .pattern || pattern.isValid else {
      throw .tensor(index: index, .pattern(found: patternWord))
    }
    guard rows >= 1, rows <= UInt32(Limit.tensorRowCount) else {
      throw .tensor(index: index, .rows(found: rows))
    }
    guard columns >= 1, columns <= UInt32(Limit.columnCount) else {
      throw .tensor(index: index, .columns(found: columns))
    }
    guard offset == UInt64(expectedOffset) else {
      throw .tensor(index: index, .offset(expected: UInt64(expectedOffset), found: offset))
    }
    self.storedType = storedType
    self.layout = order
    self.rows = Int(rows)
    self.columns = Int(columns)
    self.pattern = order == .pattern ? pattern : nil
    self.offset = expectedOffset
    self.byteCount = 0
    let expected = try expectedByteCount(index: index, found: byteCount)
    guard expectedOffset <= weightsByteCount,
      aligned(expected) <= weightsByteCount - expectedOffset
    else { throw .tensor(index: index, .pastWeights) }
    self.byteCount = expected
  }

  /// The length that type, layout and shape ask for; of a bitmap the one found, where some number of
  /// values gives it.
  private func expectedByteCount(index: Int, found: UInt64) throws(ModelError) -> Int {
    var expected: Int?
    if isSparse {
      guard
        let (least, isExact) = TensorRecord.sparseByteCount(
          of: storedType, rows: rows, columns: columns, pattern: pattern)
      else { throw .tensor(index: index, .pastWeights) }
      expected = least
      if !isExact, let count = Int(exactly: found), count >= least {
        let (values, rest) = (count - least).quotientAndRemainder(
          dividingBy: storedType.byteCount)
        let (elements, overflow) = rows.multipliedReportingOverflow(by: columns)
        if rest == 0, !overflow, values <= elements, UInt32(exactly: values) != nil {
          expected = count
        }
      }
    } else {
      expected = TensorRecord.byteCount(of: storedType, layout, rows: rows, columns: columns)
    }
    guard let expected else { throw .tensor(index: index, .pastWeights) }
    guard found == UInt64(expected) else {
      throw .tensor(index: index, .byteCount(expected: UInt64(expected), found: found))
    }
    return expected
  }

  /// Gathers a row for writing.
  init(
    storedType: StoredType, layout: TensorLayout, rows: Int, columns: Int,
    pattern: SparsityPattern? = nil, offset: Int, byteCount: Int
  ) {
    self.storedType = storedType
    self.layout = layout
    self.rows = rows
    self.columns = columns
    self.pattern = pattern
    self.offset = offset
    self.byteCount = byteCount
  }
}
