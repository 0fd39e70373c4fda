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
      case .float16: Double(bytes.loadUnaligned(fromByteOffset: index * 2, as: Float16.self))
      case .bfloat16:
        Double(
          Float(
            bitPattern: UInt32(bytes.loadUnaligned(fromByteOffset: index * 2, as: UInt16.self))
              << 16))
      case .codes: Double(code(index))
      }
    }
  }

  /// Code `index` of those in blocks of 64.
  private func code(_ index: Int) -> Int {
    let block = bytes[(index / 64 * 8 * codeBitCount)...].prefix(8 * codeBitCount)
    func bits(_ plane: ArraySlice<UInt8>, _ width: Int) -> Int {
      let place = index % 64
      let byte = Int(plane[plane.startIndex + place % (8 * width)])
      return (byte >> (place / (8 * width) * width)) % (1 << width)
    }
    var value = 0
    switch codeBitCount {
    case 2: value = bits(block, 2)
    case 3: value = bits(block, 2) + 4 * bits(block.dropFirst(16), 1)
    case 4: value = bits(block, 4)
    case 5: value = bits(block, 4) + 16 * bits(block.dropFirst(32), 1)
    case 6: value = bits(block, 4) + 16 * bits(block.dropFirst(32), 2)
    default:
      value = bits(block, 4) + 16 * bits(block.dropFirst(32), 2) + 64 * bits(block.dropFirst(48), 1)
    }
    return value < 1 << (codeBitCount - 1) ? value : value - (1 << codeBitCount)
  }

  /// Which number an element of a sparse tensor is, -1 where it is not stored; nil in a dense one.
  func sparseElement(_ row: Int, _ column: Int) -> Int? {
    let size = storedType == .float32 ? 4 : 1
    switch layout {
    case .rowMajor, .panels, .pairs: return nil
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
