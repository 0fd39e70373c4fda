import ModelFormat
import RuntimeFixtures
import Testing

@Suite struct SparseTensorTests {
  /// Random weights of which `keeps` says which stay.
  private func weights(
    _ rows: Int, _ columns: Int, _ keeps: (Int, Int) -> Bool
  ) -> [Float] {
    var numbers = Numbers(seed: UInt64(rows * 1000 + columns))
    return (0..<(rows * columns)).map { index in
      let value = 1 + numbers.float() / 2
      return keeps(index / columns, index % columns) ? value : 0
    }
  }

  private func layout(_ weights: [Float], _ columns: Int) -> (TensorLayout, SparsityPattern?) {
    let tensor = StoredTensor.weights(
      weights, rows: weights.count / columns, columns: columns, for: .perItem(50))
    return (tensor.layout, tensor.pattern)
  }

  @Test func theShortestLayoutIsTaken() {
    #expect(layout(weights(32, 96) { _, _ in true }, 96) == (.panels, nil))
    var numbers = Numbers(seed: 4)
    let half = weights(32, 96) { _, _ in numbers.integer(below: 100) < 50 }
    #expect(layout(half, 96) == (.bitmap, nil))
    let fifth = weights(32, 96) { _, _ in numbers.integer(below: 100) < 20 }
    #expect(layout(fifth, 96) == (.sparse, nil))
    let pooled = StoredTensor.weights(fifth, rows: 32, columns: 96, for: .perItem(1))
    #expect(
      pooled.layout == .bitmap
        && pooled.bytes
          == StoredTensor.weights(
            fifth, rows: 32, columns: 96, for: .perToken
          ).bytes
    )
    let twoOfFour = weights(32, 96) { row, column in
      let places = [[0, 1], [1, 3], [2, 3], [0, 3]][(row + column / 4 * 7) % 4]
      return places.contains(column % 4)
    }
    #expect(layout(twoOfFour, 96).0 == .pattern)
    #expect(layout(twoOfFour, 96).1 == SparsityPattern(keptCount: 2, groupCount: 4))
    let codes = weights(32, 96) { row, column in (row + column) % 8 == 0 }.map { Int8($0 * 40) }
    let tensor = StoredTensor.weights(codes, rows: 32, columns: 96, for: .perItem(50))
    #expect(tensor.pattern == SparsityPattern(keptCount: 1, groupCount: 8))
    #expect(tensor.bytes.count < 32 * 96 / 5)
    // One zero more than none saves nothing.
    var one = weights(32, 96) { _, _ in true }
    one[5] = 0
    #expect(layout(one, 96) == (.panels, nil))
  }

  @Test func aNegativeZeroIsAValue() {
    var numbers = [Float](repeating: 0, count: 64)
    numbers[9] = -0.0
    let tensor = StoredTensor.bits(numbers, rows: 1, columns: 64, .bitmap)
    #expect(tensor.bytes.count == 64 + 4 && tensor.bytes[1] == 2 && tensor.bytes[67] == 0x80)
  }

  @Test func choicesAreNumberedAsBinaryNumbersAscend() {
    for groupCount in 2...8 {
      for kept in 1..<groupCount {
        let pattern = SparsityPattern(keptCount: kept, groupCount: groupCount)
        let masks = (0..<(1 << groupCount)).filter { $0.nonzeroBitCount == kept }
        #expect(pattern.choiceCount == masks.count)
        #expect(1 << pattern.choiceBitCount >= masks.count)
        #expect(1 << (pattern.choiceBitCount - 1) < masks.count)
        for (number, mask) in masks.enumerated() {
          #expect(pattern.columns(ofChoice: number) == UInt8(mask))
          #expect(pattern.choice(of: UInt8(mask)) == number)
        }
      }
    }
  }

  @Test func theFullCheckLooksAtTheValues() throws {
    let file = try Attack.sparseVictim.parts().writer.serialized()
    let bytes = AlignedBytes(file)
    let reader = try ModelReader(bytes.raw, integrity: .everything)
    for layout in [TensorLayout.bitmap, .sparse, .pattern] {
      let index = try #require(reader.tensors.firstIndex { $0.layout == layout })
      let record = reader.tensors[index]
      let values = try #require(record.sparseLayout).valuesOffset
      #expect(record.valueCount == (record.byteCount - values) / 4)
      var editor = FileEditor(file)
      editor[.weights].put(Float.infinity.bitPattern, at: record.offset + values + 4)
      #expect(error(editor.assembled) == nil)
      #expect(
        error(editor.assembled, .everything)
          == .tensor(index: index, .notFinite(element: 1)))
    }
  }
}
