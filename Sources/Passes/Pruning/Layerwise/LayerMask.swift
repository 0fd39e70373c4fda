import TensorCore

/// Chooses the elements of one layer that go, to the exact count.
enum LayerMask {
  /// Hides the `count` lowest of `keys` in `mask`; equal keys: the lower index goes first.
  static func hideLowest(
    _ count: Int, of keys: [UInt32], in mask: inout [UInt8], at places: (Int) -> Int
  ) {
    guard count > 0 else { return }
    var selector = KeySelector(lowestCount: min(count, keys.count))
    selector.add(keys)
    selector.beginSecondRound()
    selector.add(keys)
    guard let border = selector.threshold else { return }
    var tied = border.tiedCount
    for index in keys.indices {
      if keys[index] < border.key {
        mask[places(index)] = 0
      } else if keys[index] == border.key, tied > 0 {
        tied -= 1
        mask[places(index)] = 0
      }
    }
  }

  /// The place of a score in an order that integers have too; what is masked comes first.
  static func key(_ score: Float, isMasked: Bool) -> UInt32 {
    // Nonnegative floats have the order of their bits; one is added to leave 0 to the masked.
    isMasked ? 0 : score.magnitude.bitPattern + 1
  }

  /// How many of row `row` go where `wanted` of all rows do: as evenly as can be, in sum exact.
  static func count(ofRow row: Int, of rows: Int, wanted: Int) -> Int {
    wanted * (row + 1) / rows - wanted * row / rows
  }

  /// `mask` as a tensor, zeros staying where `old` has some.
  static func tensor(_ mask: [UInt8], shape: [Int]) -> Tensor { Tensor(shape: shape, mask) }
}
