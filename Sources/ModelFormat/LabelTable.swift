/// The classes that a file knows by name, with their embeddings: what it classifies by itself with.
///
/// Names and embeddings are used where they lie in the file.
public struct LabelTable {
  /// How many labels there are, one at least.
  public let count: Int
  /// The embeddings, `[count, embedding width]`, each row of norm 1, at a multiple of 64.
  public let embeddings: UnsafeBufferPointer<Float>
  /// Where each name ends, behind its zero byte; counted from the first byte of `names`.
  private let ends: UnsafeRawBufferPointer
  private let names: UnsafeRawBufferPointer

  /// Reads the section: counts, where names end, names, embeddings.
  init(_ cursor: inout Cursor, embeddingWidth: Int) throws(ModelError) {
    count = try cursor.count(.labelCount, in: 1...Limit.labelCount)
    let nameByteCount = try cursor.count(
      .labelByteCount, in: (2 * count)...((Limit.labelByteCount + 1) * count))
    for _ in 0..<2 { try cursor.zero() }
    ends = try cursor.take(4 * count)
    names = try cursor.take(nameByteCount)
    try LabelTable.check(names, ends, count: count)
    let padding = cursor.offset
    let rest = try cursor.take(aligned(cursor.position) - cursor.position)
    try SectionTable.requireZero(rest, 0..<rest.count, at: padding)
    // Below 2^34, which 32-bit machines cannot count.
    let byteCount = UInt64(count) * UInt64(embeddingWidth) * 4
    guard let size = Int(exactly: byteCount) else {
      throw .truncatedSection(.labels, offset: cursor.fileOffset + cursor.bytes.count)
    }
    let bytes = try cursor.take(size)
    try cursor.finish()
    embeddings = bytes.assumingMemoryBound(to: Float.self)
  }

  /// Refuses names that are empty, too long, no text or without their zero byte.
  private static func check(
    _ names: UnsafeRawBufferPointer, _ ends: UnsafeRawBufferPointer, count: Int
  ) throws(ModelError) {
    var start = 0
    for index in 0..<count {
      let end = LabelTable.end(index, ends)
      guard end > UInt32(start), end <= UInt32(names.count) else {
        throw .label(index: index, .end(found: end))
      }
      let last = Int(end) - 1
      guard (1...Limit.labelByteCount).contains(last - start) else {
        throw .label(index: index, .byteCount(found: last - start))
      }
      guard names[last] == 0 else { throw .label(index: index, .unterminated) }
      guard UTF8Text.isValid(UnsafeRawBufferPointer(rebasing: names[start..<last])) else {
        throw .label(index: index, .notText)
      }
      start = Int(end)
    }
    guard start == names.count else {
      throw .label(index: count - 1, .end(found: UInt32(start)))
    }
  }

  private static func end(_ index: Int, _ ends: UnsafeRawBufferPointer) -> UInt32 {
    UInt32(littleEndian: ends.loadUnaligned(fromByteOffset: 4 * index, as: UInt32.self))
  }

  /// The UTF-8 bytes of a label's name in the file; the byte behind them is zero.
  ///
  /// - Precondition: `index` is below ``count``.
  public func nameBytes(_ index: Int) -> UnsafeRawBufferPointer {
    precondition(index >= 0 && index < count, "no such label")
    let start = index == 0 ? 0 : Int(LabelTable.end(index - 1, ends))
    let end = Int(LabelTable.end(index, ends)) - 1
    return UnsafeRawBufferPointer(rebasing: names[start..<end])
  }

  /// Looks at every number: rows are finite and of norm 1 to a ten-thousandth.
  ///
  /// - Throws: ``ModelError/label(index:_:)`` for the first row that is not.
  func verifyContents() throws(ModelError) {
    let width = embeddings.count / count
    for index in 0..<count {
      var sum = 0.0
      for column in 0..<width {
        let value = Double(embeddings[index * width + column])
        sum += value * value
      }
      // Not a number fails every comparison.
      guard sum.squareRoot() > 0.9999, sum.squareRoot() < 1.0001 else {
        throw .label(index: index, .norm)
      }
    }
  }
}

/// It views memory that nobody writes.
extension LabelTable: @unchecked Sendable {}

/// What can be wrong with a label.
public enum LabelFault: Equatable, Sendable {
  /// A name ends before it begins or past the names, or the last one before they end.
  case end(found: UInt32)
  /// A name is empty or too long.
  case byteCount(found: Int)
  /// No zero byte stands behind the name.
  case unterminated
  /// The name is not valid UTF-8, or holds a zero byte.
  case notText
  /// The embedding has not the norm 1 or is not finite, found by
  /// ``ModelReader/verifyContents()``.
  case norm
}

/// The rules of UTF-8 for bytes from a file.
enum UTF8Text {
  /// Whether `bytes` are well-formed UTF-8 without a zero byte.
  ///
  /// - Source: The Unicode Standard 16.0, table 3-7.
  static func isValid(_ bytes: UnsafeRawBufferPointer) -> Bool {
    var index = 0
    while index < bytes.count {
      let first = bytes[index]
      let continuations: Int
      var second: ClosedRange<UInt8> = 0x80...0xBF
      switch first {
      case 0x01...0x7F: continuations = 0
      case 0xC2...0xDF: continuations = 1
      case 0xE0: (continuations, second) = (2, 0xA0...0xBF)
      case 0xED: (continuations, second) = (2, 0x80...0x9F)
      case 0xE1...0xEF: continuations = 2
      case 0xF0: (continuations, second) = (3, 0x90...0xBF)
      case 0xF1...0xF3: continuations = 3
      case 0xF4: (continuations, second) = (3, 0x80...0x8F)
      default: return false
      }
      guard bytes.count - index > continuations else { return false }
      for offset in 0..<continuations {
        let allowed = offset == 0 ? second : 0x80...0xBF
        guard allowed.contains(bytes[index + 1 + offset]) else { return false }
      }
      index += 1 + continuations
    }
    return true
  }
}
