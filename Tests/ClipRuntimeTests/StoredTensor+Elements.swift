import ModelFormat

extension StoredTensor {
  /// Number `index` of those that are stored, counted in whole numbers from the first byte.
  func number(_ index: Int) -> Double {
    bytes.withUnsafeBytes { bytes in
      switch storedType {
      case .float32: Double(bytes.loadUnaligned(fromByteOffset: index * 4, as: Float.self))
      case .int32: Double(bytes.loadUnaligned(fromByteOffset: index * 4, as: Int32.self))
      case .int8: Double(Int8(bitPattern: bytes[index]))
      case .uint8: Double(bytes[index])
      }
    }
  }

  /// Which number an element of a sparse tensor is, -1 where it is not stored; nil in a dense one.
  func sparseElement(_ row: Int, _ column: Int) -> Int? {
    let size = storedType == .float32 ? 4 : 1
    switch layout {
    case .rowMajor, .panels: return nil
    case .bitmap, .sparse:
      let rowByteCount = (columns + 63) / 64 * 8
      func bit(_ place: Int) -> Int { Int(bytes[place / 8] >> UInt8(place % 8)) & 1 }
      let place = row * rowByteCount * 8 + column
      guard bit(place) == 1 else { return -1 }
      var index = aligned(rows * rowByteCount) / size
      for byte in bytes[..<(place / 8)] { index += byte.nonzeroBitCount }
      for earlier in (place / 8 * 8)..<place { index += bit(earlier) }
      return index
    case .pattern:
      guard let pattern else { return nil }
      let (kept, groupCount) = (pattern.keptCount, pattern.groupCount)
      let groups = (columns + groupCount - 1) / groupCount
      let choices = (0..<(1 << groupCount)).filter { $0.nonzeroBitCount == kept }
      var bitCount = 0
      while 1 << bitCount < choices.count { bitCount += 1 }
      let rowByteCount = (groups * bitCount + 7) / 8
      let first = row * rowByteCount * 8 + column / groupCount * bitCount
      let number = (0..<bitCount).reduce(0) { sum, bit in
        let place = first + bit
        return sum | (Int(bytes[place / 8] >> UInt8(place % 8)) & 1) << bit
      }
      let stored = (0..<groupCount).filter { choices[number] >> $0 & 1 == 1 }
      guard let within = stored.firstIndex(of: column % groupCount) else { return -1 }
      let values = aligned(rows * rowByteCount) / size
      return values + (row * groups + column / groupCount) * kept + within
    }
  }
}
