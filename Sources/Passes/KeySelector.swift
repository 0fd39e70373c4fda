/// Finds the key of a rank among many 32-bit keys that arrive in pieces, twice in the same order.
///
/// Constant memory: the first round counts the upper halves of the keys, the second the lower
/// halves of those that share the wanted upper half.
package struct KeySelector {
  /// What separates the lowest keys from the others.
  package struct Threshold: Equatable, Sendable {
    /// The key at the border.
    package let key: UInt32
    /// How many keys equal to ``key`` belong to the lowest, the first in order.
    package let tiedCount: Int

    /// A border at `key`.
    package init(key: UInt32, tiedCount: Int) {
      self.key = key
      self.tiedCount = tiedCount
    }
  }

  private var upper = [Int](repeating: 0, count: 1 << 16)
  private var lower = [Int](repeating: 0, count: 1 << 16)
  private var prefix: Int?
  private var remaining: Int
  private let lowestCount: Int

  /// Looks for the border of the `lowestCount` lowest keys.
  ///
  /// - Precondition: `lowestCount` is positive and at most the number of keys.
  package init(lowestCount: Int) {
    self.lowestCount = lowestCount
    remaining = lowestCount
  }

  /// Takes keys in.
  package mutating func add(_ keys: some Sequence<UInt32>) {
    if let prefix {
      for key in keys where Int(key >> 16) == prefix { lower[Int(key & 0xFFFF)] += 1 }
    } else {
      for key in keys { upper[Int(key >> 16)] += 1 }
    }
  }

  /// Ends the first round.
  package mutating func beginSecondRound() {
    remaining = lowestCount
    for (index, count) in upper.enumerated() {
      if remaining <= count {
        prefix = index
        return
      }
      remaining -= count
    }
  }

  /// The border, after the second round.
  package var threshold: Threshold? {
    guard let prefix else { return nil }
    var left = remaining
    for (index, count) in lower.enumerated() {
      if left <= count {
        return Threshold(key: UInt32(prefix << 16 | index), tiedCount: left)
      }
      left -= count
    }
    return nil
  }
}
