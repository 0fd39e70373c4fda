/// An element of a product's weights.
public protocol WeightElement: BitwiseCopyable, Sendable {
  /// How files store it.
  static var storedType: StoredType { get }
  /// The element without bits.
  static var zero: Self { get }
  /// Whether all its bits are zero.
  var hasNoBits: Bool { get }
}

extension Float: WeightElement {
  /// IEEE 754 binary32.
  public static var storedType: StoredType { .float32 }
  /// Whether it is a zero of positive sign.
  public var hasNoBits: Bool { bitPattern == 0 }
}

extension Int8: WeightElement {
  /// Two's complement byte.
  public static var storedType: StoredType { .int8 }
  /// Whether it is zero.
  public var hasNoBits: Bool { self == 0 }
}

extension StoredTensor {
  /// Of float32 weights with at least this share of zeros only the others are multiplied.
  ///
  /// - Parameter rows: The rows that meet the weights at a time.
  /// - Returns: From which share on it pays, as measured; `formats/model.md` has the figures.
  public static func sparseProductShare(for rows: RowRule) -> Double {
    switch rows {
    case .perItem(let count): count >= 16 ? 0.68 : 0.94
    case .perToken, .perSlot: 0.74
    }
  }

  /// Row-major weights `[rows, columns]` of a product in the layout of fewest bytes.
  ///
  /// Where most of them are zero, in the one that multiplies `inputRows` fastest. Every layout is
  /// exact.
  public static func weights<Element: WeightElement>(
    _ weights: [Element], rows: Int, columns: Int, for inputRows: RowRule
  ) -> StoredTensor {
    let zeroCount = weights.count(where: \.hasNoBits)
    let dense =
      TensorRecord.byteCount(of: Element.storedType, .panels, rows: rows, columns: columns) ?? 0
    let valueCount = weights.count - zeroCount
    guard zeroCount > 0, UInt32(exactly: weights.count) != nil,
      let bitmap = SparseLayout(rows: rows, columns: columns, pattern: nil)
    else { return panels(any: weights, rows: rows, columns: columns) }
    if Element.storedType == .float32,
      Double(zeroCount) >= sparseProductShare(for: inputRows) * Double(weights.count)
    {
      return bits(weights, rows: rows, columns: columns, .sparse)
    }
    let bitmapByteCount = bitmap.valuesOffset + valueCount * Element.storedType.byteCount
    if let found = bestPattern(weights, rows: rows, columns: columns),
      found.byteCount <= bitmapByteCount, found.byteCount < dense
    {
      return choices(weights, rows: rows, columns: columns, found.pattern)
    }
    guard bitmapByteCount < dense else { return panels(any: weights, rows: rows, columns: columns) }
    return bits(weights, rows: rows, columns: columns, .bitmap)
  }

  private static func panels<Element: WeightElement>(
    any weights: [Element], rows: Int, columns: Int
  ) -> StoredTensor {
    if let floats = weights as? [Float] { return panels(floats, rows: rows, columns: columns) }
    return panels(weights as? [Int8] ?? [], rows: rows, columns: columns)
  }

  /// A bit for each element of `weights` and the values of those with bits.
  public static func bits<Element: WeightElement>(
    _ weights: [Element], rows: Int, columns: Int, _ layout: TensorLayout
  ) -> StoredTensor {
    precondition(weights.count == rows * columns, "weights have the shape given")
    precondition(layout == .bitmap || layout == .sparse, "the layout has a bit for each element")
    var words: [UInt64] = []
    var values: [Element] = []
    for row in 0..<rows {
      for first in stride(from: 0, to: columns, by: 64) {
        var word: UInt64 = 0
        for column in first..<min(first + 64, columns) {
          let value = weights[row * columns + column]
          guard !value.hasNoBits else { continue }
          word |= 1 << UInt64(column - first)
          values.append(value)
        }
        words.append(word)
      }
    }
    var bytes: [UInt8] = []
    for word in words { bytes.append(word) }
    bytes.pad()
    values.withUnsafeBytes { bytes.append(contentsOf: $0) }
    return StoredTensor(
      sparse: layout, of: Element.storedType, rows: rows, columns: columns, pattern: nil,
      bytes: bytes)
  }

  // MARK: Patterns

  /// The pattern with the fewest bytes that has room for every element with bits.
  private static func bestPattern<Element: WeightElement>(
    _ weights: [Element], rows: Int, columns: Int
  ) -> (pattern: SparsityPattern, byteCount: Int)? {
    var best: (pattern: SparsityPattern, byteCount: Int)?
    for groupCount in 2...8 {
      let kept = mostInGroup(weights, rows: rows, columns: columns, groupCount)
      let pattern = SparsityPattern(keptCount: max(kept, 1), groupCount: groupCount)
      guard pattern.isValid,
        let size = TensorRecord.sparseByteCount(
          of: Element.storedType, rows: rows, columns: columns, pattern: pattern)
      else { continue }
      if size.least < best?.byteCount ?? .max { best = (pattern, size.least) }
    }
    return best
  }

  /// The most elements with bits in any group; stops counting where all have them.
  private static func mostInGroup<Element: WeightElement>(
    _ weights: [Element], rows: Int, columns: Int, _ groupCount: Int
  ) -> Int {
    var most = 0
    for row in 0..<rows {
      for first in stride(from: 0, to: columns, by: groupCount) {
        let range = (row * columns + first)..<(row * columns + min(first + groupCount, columns))
        most = max(most, weights[range].count { !$0.hasNoBits })
        if most == groupCount { return most }
      }
    }
    return most
  }

  /// The elements of `weights` that `pattern` has room for, and the numbers of their choices.
  public static func choices<Element: WeightElement>(
    _ weights: [Element], rows: Int, columns: Int, _ pattern: SparsityPattern
  ) -> StoredTensor {
    precondition(weights.count == rows * columns, "weights have the shape given")
    var numbers = [Int](repeating: 0, count: 256)
    for mask in 1..<256 where UInt8(mask).nonzeroBitCount == pattern.keptCount {
      numbers[mask] = pattern.choice(of: UInt8(mask))
    }
    var bytes: [UInt8] = []
    var values: [Element] = []
    for row in 0..<rows {
      var (held, heldCount): (UInt32, Int) = (0, 0)
      for first in stride(from: 0, to: columns, by: pattern.groupCount) {
        let start = row * columns + first
        let places = min(pattern.groupCount, columns - first)
        var mask = 0
        for place in 0..<places where !weights[start + place].hasNoBits { mask |= 1 << place }
        // Room that is left goes to the first of the others.
        for place in 0..<pattern.groupCount where mask.nonzeroBitCount < pattern.keptCount {
          mask |= 1 << place
        }
        for place in 0..<pattern.groupCount where mask >> place & 1 == 1 {
          values.append(place < places ? weights[start + place] : .zero)
        }
        held |= UInt32(numbers[mask]) << UInt32(heldCount)
        heldCount += pattern.choiceBitCount
        while heldCount >= 8 {
          bytes.append(UInt8(truncatingIfNeeded: held))
          held >>= 8
          heldCount -= 8
        }
      }
      if heldCount > 0 { bytes.append(UInt8(truncatingIfNeeded: held)) }
    }
    bytes.pad()
    values.withUnsafeBytes { bytes.append(contentsOf: $0) }
    return StoredTensor(
      sparse: .pattern, of: Element.storedType, rows: rows, columns: columns, pattern: pattern,
      bytes: bytes)
  }
}

extension [UInt8] {
  /// Appends zeros up to a multiple of 64.
  fileprivate mutating func pad() {
    append(contentsOf: repeatElement(0, count: aligned(count) - count))
  }
}
