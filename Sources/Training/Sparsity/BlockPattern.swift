/// `N:M` sparsity: of every block of `M` neighbours, `N` stay.
package struct BlockPattern: Hashable, Sendable, CustomStringConvertible {
  /// How many of a block stay.
  package let kept: Int
  /// The length of a block.
  package let block: Int

  /// Describes a pattern.
  ///
  /// - Precondition: `0 < kept <= block`.
  package init(kept: Int, of block: Int) {
    precondition(kept > 0 && kept <= block)
    self.kept = kept
    self.block = block
  }

  package var description: String { "\(kept):\(block)" }

  /// Marks with one the `kept` elements of the largest magnitude in every block, the rest with zero.
  ///
  /// Equal magnitudes: the lower index stays. What `hidden` marks with zero goes before all else and
  /// is never marked with one.
  ///
  /// - Precondition: the block length divides the count of elements, none of which is NaN, and all
  ///   buffers have the same count.
  package func mark(
    _ elements: UnsafeBufferPointer<Float>, hidden: UnsafeBufferPointer<UInt8>?,
    into mask: UnsafeMutableBufferPointer<UInt8>
  ) {
    precondition(elements.count % block == 0 && mask.count == elements.count)
    var keys = [Float](repeating: 0, count: block)
    for start in stride(from: 0, to: elements.count, by: block) {
      for place in 0..<block {
        let isHidden = hidden.map { $0[start + place] == 0 } ?? false
        keys[place] = isHidden ? -1 : abs(elements[start + place])
      }
      // Counting what is larger needs no memory and is quickest for the blocks of practice.
      if block <= 32 {
        for place in 0..<block {
          var larger = 0
          for other in 0..<block {
            let isAbove = other < place ? keys[other] >= keys[place] : keys[other] > keys[place]
            larger += isAbove ? 1 : 0
          }
          mask[start + place] = larger < kept && keys[place] >= 0 ? 1 : 0
        }
      } else {
        let order = (0..<block).sorted {
          keys[$0] == keys[$1] ? $0 < $1 : keys[$0] > keys[$1]
        }
        for (rank, place) in order.enumerated() {
          mask[start + place] = rank < kept && keys[place] >= 0 ? 1 : 0
        }
      }
    }
  }
}

extension BlockPattern {
  /// The patterns of equally long frames that halve what is left of a block down to this one:
  /// `M-1:M, M/2:M, M/4:M, ..., N:M`.
  ///
  /// - Source: as ``MaskLeak``, "structure decay, stepwise".
  package var stepwiseFrames: [BlockPattern] {
    var frames: [BlockPattern] = []
    if block - 1 > kept { frames.append(BlockPattern(kept: block - 1, of: block)) }
    var left = block / 2
    while left > kept {
      if left < block - 1 { frames.append(BlockPattern(kept: left, of: block)) }
      left /= 2
    }
    return frames + [self]
  }

  /// The patterns of four equally long frames whose blocks shrink: `8N:8M, 4N:4M, 2N:2M, N:M`.
  ///
  /// - Source: as ``MaskLeak``, "structure decay, geometric".
  package var geometricFrames: [BlockPattern] {
    [8, 4, 2, 1].map { BlockPattern(kept: $0 * kept, of: $0 * block) }
  }

  /// This pattern where its block divides `width`, else the one of a block half as long that does.
  package func fitting(_ width: Int) -> BlockPattern {
    var pattern = self
    while width % pattern.block != 0, pattern.kept % 2 == 0, pattern.block % 2 == 0 {
      pattern = BlockPattern(kept: pattern.kept / 2, of: pattern.block / 2)
    }
    return pattern
  }
}
