extension ModelReader {
  /// Looks at every number of every tensor: floats are finite, int8 codes are not -128, and what
  /// pads a panel is zero.
  ///
  /// Running a file does not rely on it; a file that fails it gives no sensible embeddings.
  ///
  /// - Throws: ``ModelError/tensor(index:_:)`` for the first number that is wrong.
  /// - Complexity: O(bytes of the weights), no allocation.
  public func verifyContents() throws(ModelError) {
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
      case .int8:
        for element in 0..<data.count where data[element] == 0x80 {
          throw .tensor(index: index, .code(element: element))
        }
      case .int32, .uint8: break
      }
      if record.layout == .panels { try verifyPadding(index, record, data) }
    }
  }

  private func verifyPadding(
    _ index: Int, _ record: TensorRecord, _ data: UnsafeRawBufferPointer
  ) throws(ModelError) {
    let isInteger = record.storedType == .int8
    let group = isInteger ? Layout.int8GroupCount : 1
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
