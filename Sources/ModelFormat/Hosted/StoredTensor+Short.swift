extension StoredTensor {
  /// Codes of `bitCount` bits, 2 to 8, two's complement; `groupSize` columns share a scale, or, where
  /// it is 0, a row.
  ///
  /// - Precondition: the layout is row-major or panels.
  public static func codes(
    _ codes: [Int8], rows: Int, columns: Int, bitCount: Int, groupSize: Int = 0,
    _ layout: TensorLayout
  ) -> StoredTensor {
    precondition(codes.count == rows * columns, "codes have the shape given")
    let whole =
      layout == .panels
      ? panels(codes, rows: rows, columns: columns).bytes : codes.map { UInt8(bitPattern: $0) }
    guard bitCount < 8 else {
      return StoredTensor(
        storedType: .int8, layout: layout, rows: rows, columns: columns, groupSize: groupSize,
        bytes: whole)
    }
    let size = Layout.blockCount
    let rowCount = layout == .panels ? 1 : rows
    let width = whole.count / max(rowCount, 1)
    var bytes: [UInt8] = []
    bytes.reserveCapacity((width + size - 1) / size * rowCount * 8 * bitCount)
    var block = [UInt8](repeating: 0, count: size)
    for row in 0..<rowCount {
      for first in stride(from: 0, to: width, by: size) {
        for index in 0..<size {
          block[index] = first + index < width ? whole[row * width + first + index] : 0
        }
        append(block, bitCount, to: &bytes)
      }
    }
    return StoredTensor(
      storedType: .codes, layout: layout, rows: rows, columns: columns, codeBitCount: bitCount,
      groupSize: groupSize, bytes: bytes)
  }

  /// Appends the bits of 64 codes: four of each, then two, then one, as far as there are so many.
  private static func append(_ block: [UInt8], _ bitCount: Int, to bytes: inout [UInt8]) {
    var shift: UInt8 = 0
    for width in [4, 2, 1] where bitCount & width != 0 {
      let count = 8 * width
      let mask = UInt8(1 << width - 1)
      for index in 0..<count {
        var byte: UInt8 = 0
        for place in 0..<(8 / width) {
          byte |= (block[index + place * count] >> shift & mask) << UInt8(place * width)
        }
        bytes.append(byte)
      }
      shift += UInt8(width)
    }
  }

  /// Row-major weights `[rows, columns]`, which bfloat16 holds, as panels of pairs
  /// `[rows / 16][columns / 2][16][2]`.
  public static func pairs(_ weights: [Float], rows: Int, columns: Int) -> StoredTensor {
    precondition(weights.count == rows * columns, "weights have the shape given")
    let pairCount = (columns + 1) / 2
    var packed = [UInt16](repeating: 0, count: (rows + 15) / 16 * pairCount * 32)
    for row in 0..<rows {
      let start = row / 16 * pairCount * 32 + row % 16 * 2
      for column in 0..<columns {
        let bits = weights[row * columns + column].bitPattern
        precondition(bits & 0xFFFF == 0, "weights are bfloat16")
        packed[start + column / 2 * 32 + column % 2] = UInt16(truncatingIfNeeded: bits >> 16)
      }
    }
    return StoredTensor(
      storedType: .bfloat16, layout: .pairs, rows: rows, columns: columns,
      bytes: packed.withUnsafeBytes { Array($0) })
  }

  /// Row-major floats in the shortest type that has all of them exactly: float16, bfloat16 or
  /// float32.
  ///
  /// - Precondition: the layout is row-major or panels.
  public static func floats(
    _ elements: [Float], rows: Int = 1, columns: Int, _ layout: TensorLayout = .rowMajor
  ) -> StoredTensor {
    let full =
      layout == .panels
      ? panels(elements, rows: rows, columns: columns)
      : float32(elements, rows: rows, columns: columns)
    let isHalf = elements.allSatisfy {
      $0.isFinite && Float(Float16($0)).bitPattern == $0.bitPattern
    }
    guard isHalf || elements.allSatisfy({ $0.bitPattern & 0xFFFF == 0 && $0.isFinite }) else {
      return full
    }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(full.bytes.count / 2)
    full.bytes.withUnsafeBytes { floats in
      for value in floats.assumingMemoryBound(to: Float.self) {
        bytes.append(
          isHalf ? Float16(value).bitPattern : UInt16(truncatingIfNeeded: value.bitPattern >> 16))
      }
    }
    return StoredTensor(
      storedType: isHalf ? .float16 : .bfloat16, layout: layout, rows: rows, columns: columns,
      bytes: bytes)
  }
}
