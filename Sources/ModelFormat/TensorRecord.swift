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
  /// Bits of a code, with ``StoredType/codes`` 2 to 7, with ``StoredType/int8`` 8, otherwise 0.
  public var codeBitCount: Int
  /// Columns that share a scale, a multiple of 4; 0 where a row has one scale or needs none.
  public var groupSize: Int
  /// Where it starts in the weights section, in bytes; a multiple of 64.
  public var offset: Int
  /// Its bytes without the zeros up to the next multiple of 64.
  public var byteCount: Int

  /// Scales of a row.
  public var groupCount: Int {
    groupSize == 0 ? 1 : (columns + groupSize - 1) / groupSize
  }

  /// Whether products turn it into other panels, a few at a time, while they run.
  public var isWidened: Bool {
    layout == .panels && (storedType == .codes || storedType.isShortFloat || groupSize != 0)
  }

  /// Whether products with it need scratch: it is widened, or what it meets is rounded.
  public var isScratched: Bool { isWidened || layout == .pairs }

  /// Bytes that a dense tensor of this type, layout and shape takes, or nil where they overflow;
  /// codes have `codeBitCount` bits each.
  public static func byteCount(
    of type: StoredType, _ layout: TensorLayout, rows: Int, columns: Int, codeBitCount: Int = 8
  ) -> Int? {
    var rows = rows
    var columns = columns
    if layout == .panels || layout == .pairs {
      rows = padded(rows, to: Layout.panelRowCount)
      columns = padded(columns, to: layout.groupCount(of: type))
    } else if type == .codes {
      columns = padded(columns, to: Layout.blockCount)
    }
    let (elements, overflow) = rows.multipliedReportingOverflow(by: columns)
    guard type != .codes else {
      let (bytes, byteOverflow) = (elements / 8).multipliedReportingOverflow(by: codeBitCount)
      return overflow || byteOverflow || bytes > Int.max - 64 ? nil : bytes
    }
    let (bytes, byteOverflow) = elements.multipliedReportingOverflow(by: type.byteCount)
    return overflow || byteOverflow || bytes > Int.max - 64 ? nil : bytes
  }

  private static func padded(_ count: Int, to unit: Int) -> Int {
    (count + unit - 1) / unit * unit
  }

  /// Reads a row and holds it against the end of the tensor before and the section's length.
  init(
    _ cursor: inout Cursor, index: Int, expectedOffset: Int, weightsByteCount: Int
  ) throws(ModelError) {
    let type = try cursor.u8()
    let layout = try cursor.u8()
    let formWord = try cursor.u16()
    let rows = try cursor.u32()
    let columns = try cursor.u32()
    let groupWord = try cursor.u32()
    let offset = try cursor.u64()
    let byteCount = try cursor.u64()
    guard let storedType = StoredType(rawValue: type) else {
      throw .tensor(index: index, .storedType(found: type))
    }
    guard let order = TensorLayout(rawValue: layout),
      storedType.fits(order)
    else { throw .tensor(index: index, .layout(found: layout)) }
    let hasGroups = storedType.isInteger && !order.isSparse
    guard order == .pattern || storedType == .codes || formWord == 0, hasGroups || groupWord == 0
    else { throw .tensor(index: index, .reserved) }
    let pattern = SparsityPattern(
      keptCount: Int(formWord & 0xFF), groupCount: Int(formWord >> 8))
    guard order != .pattern || pattern.isValid else {
      throw .tensor(index: index, .pattern(found: formWord))
    }
    guard storedType != .codes || (2...7).contains(formWord) else {
      throw .tensor(index: index, .codeBits(found: formWord))
    }
    guard rows >= 1, rows <= UInt32(Limit.tensorRowCount) else {
      throw .tensor(index: index, .rows(found: rows))
    }
    guard columns >= 1, columns <= UInt32(Limit.columnCount) else {
      throw .tensor(index: index, .columns(found: columns))
    }
    guard groupWord % UInt32(Layout.int8GroupCount) == 0, groupWord < columns else {
      throw .tensor(index: index, .groupSize(found: groupWord))
    }
    guard offset == UInt64(expectedOffset) else {
      throw .tensor(index: index, .offset(expected: UInt64(expectedOffset), found: offset))
    }
    self.storedType = storedType
    self.layout = order
    self.rows = Int(rows)
    self.columns = Int(columns)
    self.pattern = order == .pattern ? pattern : nil
    codeBitCount = storedType == .codes ? Int(formWord) : storedType == .int8 ? 8 : 0
    groupSize = Int(groupWord)
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
      expected = TensorRecord.byteCount(
        of: storedType, layout, rows: rows, columns: columns, codeBitCount: codeBitCount)
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
    pattern: SparsityPattern? = nil, codeBitCount: Int, groupSize: Int, offset: Int, byteCount: Int
  ) {
    self.storedType = storedType
    self.layout = layout
    self.rows = rows
    self.columns = columns
    self.pattern = pattern
    self.codeBitCount = codeBitCount
    self.groupSize = groupSize
    self.offset = offset
    self.byteCount = byteCount
  }
}
