/// A seeded generator of 64-bit numbers with the same sequence on every machine.
///
/// - Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
package struct SplitMix64: RandomNumberGenerator, Sendable {
  /// What the state grows by from one number to the next.
  package static let increment: UInt64 = 0x9E37_79B9_7F4A_7C15

  private var state: UInt64

  /// Starts the sequence of `seed`.
  package init(seed: UInt64) { state = seed }

  /// The next number, uniform over all 64-bit values.
  package mutating func next() -> UInt64 {
    state &+= Self.increment
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// The next number, uniform in `0..<1`.
  package mutating func nextUniform() -> Double {
    Double(next() >> 11) * 0x1p-53
  }

  /// The next index, uniform in `0..<count`.
  ///
  /// - Precondition: `count` is positive.
  package mutating func nextIndex(below count: Int) -> Int {
    Int(next().multipliedFullWidth(by: UInt64(count)).high)
  }

  /// The next number of the standard normal distribution.
  package mutating func nextNormal() -> Double {
    // The sum of twelve uniforms keeps the sequence independent of a math library's rounding.
    var sum = -6.0
    for _ in 0..<12 { sum += nextUniform() }
    return sum
  }
}
