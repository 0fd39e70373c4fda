extension ModelReader {
  /// Looks at every number of every tensor: floats are finite, int8 codes are not -128, and what
  /// pads a panel is zero; and at the labels' embeddings, which have the norm 1.
  ///
  /// Running a file does not rely on it; a file that fails it gives no sensible embeddings.
  ///
  /// - Throws: ``ModelError/tensor(index:_:)`` for the first number that is wrong,
  ///   ``ModelError/label(index:_:)`` for the first label.
  /// - Complexity: O(bytes of the weights and labels), no allocation.
  public func verifyContents() throws(ModelError) {
    try labels?.verifyContents()
    for (index, record) in tensors.enumerated() {
      let values = data(ofTensor: index).dropFirst(record.sparseLayout?.valuesOffset ?? 0)
      let data = UnsafeRawBufferPointer(rebasing: values)
      switch record.storedType {
      case .float32:
        for element in 0..<(data.count / 4) {
          let value = data.load(fromByteOffset: element * 4, as: Float.self)
          guard value.isFinite else {
            throw .tensor(index: index, .notFinite(element: element))
          }
        }
      case .float16, .bfloat16:
        let exponent: UInt16 = record.storedType == .float16 ? 0x7C00 : 0x7F80
        for element in 0..<(data.count / 2) {
          let word = data.load(fromByteOffset: element * 2, as: UInt16.self)
          guard UInt16(littleEndian: word) & exponent != exponent else {
            throw .tensor(index: index, .notFinite(element: element))
          }
        }
      case .int8:
        for element in 0..<data.count where data[element] == 0x80 {
          throw .tensor(index: index, .code(element: element))
        }
      case .int32, .uint8, .codes: break
      }
      if record.storedType == .codes {
        try verifyCodePadding(index, record, data)
      } else if record.layout == .panels || record.layout == .pairs {
        try verifyPadding(index, record, data)
      }
    }
  }

  private func verifyCodePadding(
    _ index: Int, _ record: TensorRecord, _ data: UnsafeRawBufferPointer
  ) throws(ModelError) {
    let (size, bits) = (Layout.blockCount, record.codeBitCount)
    let blockCount = data.count / (size / 8 * bits)
    let isPanels = record.layout == .panels
    let perRow =
      isPanels
      ? (record.columns + Layout.int8GroupCount - 1) / Layout.int8GroupCount
      : (record.columns + size - 1) / size
    for block in 0..<blockCount {
      let (line, place) = block.quotientAndRemainder(dividingBy: perRow)
      let isLast = place == perRow - 1 || (isPanels && line == blockCount / perRow - 1)
      guard isLast else { continue }
      let bytes = UnsafeRawBufferPointer(
        rebasing: data[(block * size / 8 * bits)..<((block + 1) * size / 8 * bits)])
      for code in 0..<size {
        let row = isPanels ? line * Layout.panelRowCount + code / Layout.int8GroupCount : line
        let column =
          isPanels
          ? place * Layout.int8GroupCount + code % Layout.int8GroupCount : place * size + code
        let isUsed = row < record.rows && column < record.columns
        guard isUsed || ModelReader.codeBits(bytes, code, bits) == 0 else {
          throw .tensor(index: index, .panelPadding(offset: block * size / 8 * bits))
        }
      }
    }
  }

  /// The bits of one code of a block.
  private static func codeBits(_ block: UnsafeRawBufferPointer, _ code: Int, _ bits: Int) -> Int {
    var (value, shift, start) = (0, 0, 0)
    var width = 4
    while width > 0 {
      if bits & width != 0 {
        let (place, byte) = code.quotientAndRemainder(dividingBy: 8 * width)
        value |= (Int(block[start + byte]) >> (place * width) & (1 << width - 1)) << shift
        start += 8 * width
        shift += width
      }
      width /= 2
    }
    return value
  }

  private func verifyPadding(
    _ index: Int, _ record: TensorRecord, _ data: UnsafeRawBufferPointer
  ) throws(ModelError) {
    let group = record.layout.groupCount(of: record.storedType)
    let size = record.storedType.byteCount
    let groupCount = (record.columns + group - 1) / group
    let panelCount = (record.rows + Layout.panelRowCount - 1) / Layout.panelRowCount
    let usedRows = record.rows - (panelCount - 1) * Layout.panelRowCount
    let usedInGroup = record.columns - (groupCount - 1) * group
    for block in 0..<(panelCount * groupCount) {
      let isLastPanel = block / groupCount == panelCount - 1
      let isLastGroup = block % groupCount == groupCount - 1
      guard isLastPanel || isLastGroup else { continue }
      for row in 0..<Layout.panelRowCount {
        let isRowUsed = !isLastPanel || row < usedRows
        let first = isRowUsed ? (isLastGroup ? usedInGroup : group) : 0
        let start = (block * Layout.panelRowCount + row) * group
        for offset in ((start + first) * size)..<((start + group) * size)
        where data[offset] != 0 {
          throw .tensor(index: index, .panelPadding(offset: offset))
        }
      }
    }
  }
}
