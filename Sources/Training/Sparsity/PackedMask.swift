import TensorCore

/// Masks in saved states: one bit an element.
package enum PackedMask {
  /// The bits of `mask`, 32 a word, the first element in the lowest bit of the first word.
  package static func words(_ mask: [UInt8]) -> Tensor {
    Tensor(shape: [(mask.count + 31) / 32], of: Int32.self) { words in
      words.update(repeating: 0)
      for index in mask.indices where mask[index] != 0 {
        words[index / 32] |= Int32(bitPattern: 1 << UInt32(index % 32))
      }
    }
  }

  /// The mask of `count` elements that `words` holds.
  package static func mask(_ words: Tensor, count: Int) -> [UInt8] {
    words.withElements(of: Int32.self) { words in
      (0..<count).map { UInt8(UInt32(bitPattern: words[$0 / 32]) >> UInt32($0 % 32) & 1) }
    }
  }

  /// How many words hold `count` elements.
  package static func wordCount(_ count: Int) -> Int { (count + 31) / 32 }
}
