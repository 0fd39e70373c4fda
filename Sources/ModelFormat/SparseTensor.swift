/// How many of each so many neighbouring columns a tensor stores.
public struct SparsityPattern: Hashable, Sendable {
  /// Columns of a group that are stored, at least 1 and fewer than there are.
  public var keptCount: Int
  /// Columns of a group, 2 to 8.
  public var groupCount: Int

  /// Keeps `keptCount` of every `groupCount` columns.
  public init(keptCount: Int, groupCount: Int) {
    self.keptCount = keptCount
    self.groupCount = groupCount
  }

  /// Whether both numbers are in their ranges.
  public var isValid: Bool {
    (2...8).contains(groupCount) && keptCount >= 1 && keptCount < groupCount
  }

  /// How many choices of columns there are.
  public var choiceCount: Int {
    var count = 1
    for index in 0..<keptCount { count = count * (groupCount - index) / (index + 1) }
    return count
  }

  /// Bits of the number of a choice.
  public var choiceBitCount: Int {
    Int.bitWidth - (choiceCount - 1).leadingZeroBitCount
  }

  /// The columns of choice number `index`, a bit each: choices ascend as binary numbers do.
  ///
  /// - Returns: 0 where there are not so many.
  public func columns(ofChoice index: Int) -> UInt8 {
    var left = index
    for mask in 1..<(1 << groupCount) where UInt8(mask).nonzeroBitCount == keptCount {
      if left == 0 { return UInt8(mask) }
      left -= 1
    }
    return 0
  }

  /// The number of the choice of `columns`.
  ///
  /// - Precondition: as many bits are set as columns are stored.
  public func choice(of columns: UInt8) -> Int {
    (1..<Int(columns)).count { UInt8($0).nonzeroBitCount == keptCount }
  }
}

/// Where the parts of a tensor lie that stores its nonzero elements only.
public struct SparseLayout: Equatable, Sendable {
  /// Bytes of the bits of one row: those of its elements or the numbers of its choices.
  public let rowByteCount: Int
  /// Where the values start, in bytes from the first row's bits, which stand in front.
  public let valuesOffset: Int

  /// The parts of a tensor of `rows` by `columns`; nil where they overflow.
  public init?(rows: Int, columns: Int, pattern: SparsityPattern?) {
    if let pattern {
      let groups = (columns + pattern.groupCount - 1) / pattern.groupCount
      rowByteCount = (groups * pattern.choiceBitCount + 7) / 8
    } else {
      rowByteCount = (columns + 63) / 64 * 8
    }
    let (bits, overflow) = rows.multipliedReportingOverflow(by: rowByteCount)
    guard !overflow, bits <= Int.max - 64 else { return nil }
    valuesOffset = aligned(bits)
  }
}

extension TensorRecord {
  /// Whether only the elements that are not zero are stored.
  public var isSparse: Bool { layout.isSparse }

  /// Where the parts lie of a tensor that is sparse.
  public var sparseLayout: SparseLayout? {
    isSparse ? SparseLayout(rows: rows, columns: columns, pattern: pattern) : nil
  }

  /// Stored values; all elements of a dense tensor, padding included.
  public var valueCount: Int {
    (byteCount - (sparseLayout?.valuesOffset ?? 0)) / storedType.byteCount
  }

  /// Bytes as dense panels, or nil where they overflow.
  public var panelByteCount: Int? {
    TensorRecord.byteCount(of: storedType, .panels, rows: rows, columns: columns)
  }

  /// The bytes that the shape and the pattern ask for, and whether more values may follow.
  static func sparseByteCount(
    of type: StoredType, rows: Int, columns: Int, pattern: SparsityPattern?
  ) -> (least: Int, isExact: Bool)? {
    guard let layout = SparseLayout(rows: rows, columns: columns, pattern: pattern) else {
      return nil
    }
    guard let pattern else { return (layout.valuesOffset, false) }
    let groups = (columns + pattern.groupCount - 1) / pattern.groupCount
    let (values, overflow) = rows.multipliedReportingOverflow(by: groups * pattern.keptCount)
    let (bytes, byteOverflow) = values.multipliedReportingOverflow(by: type.byteCount)
    guard !overflow, !byteOverflow, bytes <= Int.max - 64 - layout.valuesOffset else { return nil }
    return (layout.valuesOffset + bytes, true)
  }
}

extension ModelReader {
  /// Holds the bits of a sparse tensor against its shape and its number of values, so that whoever
  /// follows them stays within the tensor.
  ///
  /// - Complexity: O(bits), the values are not read.
  static func verifySparse(
    _ index: Int, _ record: TensorRecord, _ bytes: UnsafeRawBufferPointer
  ) throws(ModelError) {
    guard let layout = record.sparseLayout else { return }
    for offset in (record.rows * layout.rowByteCount)..<layout.valuesOffset
    where bytes[offset] != 0 {
      throw .tensor(index: index, .sparsePadding(offset: offset))
    }
    if let pattern = record.pattern {
      try verifyChoices(index, record, layout, pattern, bytes)
    } else {
      try verifyBits(index, record, layout, bytes)
    }
  }

  private static func verifyBits(
    _ index: Int, _ record: TensorRecord, _ layout: SparseLayout, _ bytes: UnsafeRawBufferPointer
  ) throws(ModelError) {
    let words = layout.rowByteCount / 8
    let rest = record.columns % 64
    var count = 0
    for row in 0..<record.rows {
      let start = row * layout.rowByteCount
      var last: UInt64 = 0
      for word in 0..<words {
        last = UInt64(
          littleEndian: bytes.loadUnaligned(fromByteOffset: start + word * 8, as: UInt64.self))
        count += last.nonzeroBitCount
      }
      guard rest == 0 || last >> UInt64(rest) == 0 else {
        throw .tensor(index: index, .sparsePadding(offset: start + layout.rowByteCount - 8))
      }
    }
    guard count == record.valueCount else {
      throw .tensor(
        index: index, .sparseValueCount(expected: record.valueCount, found: count))
    }
  }

  private static func verifyChoices(
    _ index: Int, _ record: TensorRecord, _ layout: SparseLayout, _ pattern: SparsityPattern,
    _ bytes: UnsafeRawBufferPointer
  ) throws(ModelError) {
    let groups = (record.columns + pattern.groupCount - 1) / pattern.groupCount
    let (size, count) = (pattern.choiceBitCount, pattern.choiceCount)
    for row in 0..<record.rows {
      let start = row * layout.rowByteCount
      var reader = BitReader(bytes, at: start)
      for _ in 0..<groups where reader.next(size) >= count {
        throw .tensor(index: index, .sparseChoice(row: row))
      }
      let rest = layout.rowByteCount * 8 - groups * size
      guard rest == 0 || reader.next(rest) == 0 else {
        throw .tensor(index: index, .sparsePadding(offset: start + layout.rowByteCount - 1))
      }
    }
  }
}

/// Reads numbers of a few bits each, from the low end of each byte up.
public struct BitReader {
  private let bytes: UnsafeRawBufferPointer
  private var offset: Int
  private var held: UInt32 = 0
  private var heldCount = 0

  /// Starts at the low bit of byte `offset`.
  public init(_ bytes: UnsafeRawBufferPointer, at offset: Int) {
    self.bytes = bytes
    self.offset = offset
  }

  /// The next number of `count` bits, at most 8; there must be so many.
  public mutating func next(_ count: Int) -> Int {
    if heldCount < count {
      held |= UInt32(bytes[offset]) << UInt32(heldCount)
      heldCount += 8
      offset += 1
    }
    let value = held & ((1 << UInt32(count)) - 1)
    held >>= UInt32(count)
    heldCount -= count
    return Int(value)
  }
}
