import TensorCore

/// How often values fell into each of a fixed number of intervals on both sides of zero.
///
/// Memory does not grow with the number of values: when a value lies beyond the range, the range
/// doubles and neighbouring intervals merge. The range is a power of two, so the same values give
/// the same counts in every order and in every division into parts.
package struct ActivationHistogram: Equatable, Sendable {
  private static let sideExponent = 12
  /// Intervals on each side of zero.
  package static let sideCount = 1 << sideExponent

  /// How many finite values that are not zero fell into each interval, from the lowest.
  package private(set) var counts = [Int](repeating: 0, count: 2 * sideCount)
  /// How many values were exactly zero.
  package private(set) var zeroCount = 0
  /// How many values were infinite or not a number.
  package private(set) var unusableCount = 0
  /// The smallest value; positive infinity before the first.
  package private(set) var minimum = Float.infinity
  /// The largest value; negative infinity before the first.
  package private(set) var maximum = -Float.infinity
  /// The range `-2^exponent...2^exponent`, or nil before the first value that is not zero.
  private var exponent: Int?

  /// Makes an empty histogram.
  package init() {}

  /// The number of finite values.
  package var count: Int { counts.reduce(zeroCount, +) }

  /// The width of an interval; 0 before the first value that is not zero.
  package var width: Double {
    exponent.map { Self.power($0) / Double(Self.sideCount) } ?? 0
  }

  /// The middle of interval `index`.
  package func center(_ index: Int) -> Double {
    (Double(index - Self.sideCount) + 0.5) * width
  }

  /// Takes values in.
  package mutating func add(_ values: UnsafeBufferPointer<Float>) {
    var (low, high) = (Float.infinity, -Float.infinity)
    var unusable = 0
    for value in values {
      if value.isFinite {
        low = min(low, value)
        high = max(high, value)
      } else {
        unusable += 1
      }
    }
    unusableCount += unusable
    guard low <= high else { return }
    minimum = min(minimum, low)
    maximum = max(maximum, high)
    let largest = max(high, -low)
    if largest > 0 { widen(to: Self.exponent(covering: largest)) }
    guard let exponent else {
      zeroCount += values.count - unusable
      return
    }
    // A power of two, so the product is exact unless the value is too small to matter.
    let inverse = Self.power(Self.sideExponent - exponent)
    var zeros = 0
    counts.withUnsafeMutableBufferPointer { counts in
      for value in values where value.isFinite {
        if value == 0 {
          zeros += 1
        } else {
          let place = Int((Double(value) * inverse).rounded(.down)) + Self.sideCount
          counts[min(place, counts.count - 1)] += 1
        }
      }
    }
    zeroCount += zeros
  }

  /// Takes in what another histogram has counted.
  package mutating func merge(_ other: ActivationHistogram) {
    var other = other
    if let exponent, other.exponent != nil { other.widen(to: exponent) }
    if let exponent = other.exponent { widen(to: exponent) }
    for index in counts.indices { counts[index] += other.counts[index] }
    zeroCount += other.zeroCount
    unusableCount += other.unusableCount
    minimum = min(minimum, other.minimum)
    maximum = max(maximum, other.maximum)
  }

  /// Doubles the range until it is at least `2^wanted`.
  private mutating func widen(to wanted: Int) {
    guard let current = exponent else {
      exponent = wanted
      return
    }
    guard wanted > current else { return }
    let shift = min(wanted - current, 63)
    var merged = [Int](repeating: 0, count: counts.count)
    for (index, count) in counts.enumerated() where count > 0 {
      // Shifting rounds toward the lower side for negative places too.
      merged[((index - Self.sideCount) >> shift) + Self.sideCount] += count
    }
    counts = merged
    exponent = wanted
  }

  /// The smallest exponent, at least -100, whose power of two exceeds `magnitude`.
  private static func exponent(covering magnitude: Float) -> Int {
    max(Int(Double(magnitude).exponent) + 1, -100)
  }

  /// All there is to know, float64: the range's exponent, the counts of zeros and of what was not
  /// finite, the smallest and the largest value, then the counts.
  package var tensor: Tensor {
    let head = [
      Double(exponent ?? -1000), Double(zeroCount), Double(unusableCount), Double(minimum),
      Double(maximum),
    ]
    return Tensor(shape: [head.count + counts.count], head + counts.map { Double($0) })
  }

  /// The histogram that gave ``tensor``; nil if none can have given it.
  package init?(_ tensor: Tensor) {
    guard tensor.dtype == .float64, tensor.count == 5 + 2 * Self.sideCount else { return nil }
    let numbers = tensor.elements(of: Double.self)
    let whole = numbers[1...2] + numbers[5...]
    guard whole.allSatisfy({ $0 >= 0 && $0 <= 0x1p53 && $0 == $0.rounded() }),
      whole.reduce(0, +) <= 0x1p53
    else { return nil }
    // Before the first value the range is empty.
    let isEmpty = numbers[3] == .infinity && numbers[4] == -.infinity
    guard isEmpty || abs(numbers[3]) <= Double(Float.greatestFiniteMagnitude),
      isEmpty || abs(numbers[4]) <= Double(Float.greatestFiniteMagnitude),
      isEmpty || numbers[3] <= numbers[4]
    else { return nil }
    if numbers[0] != -1000 {
      guard let exponent = Int(exactly: numbers[0]), (-100...129).contains(exponent) else {
        return nil
      }
      self.exponent = exponent
    }
    zeroCount = Int(numbers[1])
    unusableCount = Int(numbers[2])
    minimum = Float(numbers[3])
    maximum = Float(numbers[4])
    counts = numbers[5...].map { Int($0) }
  }

  private static func power(_ exponent: Int) -> Double {
    Double(sign: .plus, exponent: exponent, significand: 1)
  }
}
