/// The magnitude beyond which a quantizer clips, found from the elements it will quantize.
///
/// Elements that are zero never count: every grid holds zero exactly, so they cost nothing, and a
/// pruned tensor is clipped by what is left of it.
///
/// - Source: Sakr et al., "Optimal Clipping and Magnitude-aware Differentiation for Improved
///   Quantization-aware Training", ICML 2022, arXiv:2206.06501. Differs: the noise constant is that
///   of the integer grid in use, and the sums run over a tail that contains the solution.
package enum ClippingScalar {
  /// The scalar that minimizes the expected squared error of a uniform quantizer.
  ///
  /// Newton–Raphson on `c s² n_in + Σ_out (|x| - s)²`; where two iterates alternate around an
  /// element, the exact solution over the sorted elements.
  ///
  /// - Parameters:
  ///   - elements: any layout.
  ///   - stepCount: the largest code: 127 for symmetric 8-bit codes, 255 for unsigned ones.
  ///   - isSigned: whether elements below zero have codes; otherwise they count as zero.
  /// - Returns: A value in `0...max|elements|`, 0 only if no element counts; nil if an element is
  ///   not finite.
  /// - Complexity: O(`count` · iterations) at worst, about two passes over common weights.
  package static func octav(
    _ elements: UnsafeBufferPointer<Float>, stepCount: Int, isSigned: Bool = true
  ) -> Double? {
    guard let moments = Moments(elements, isSigned: isSigned) else { return nil }
    guard moments.count > 0 else { return 0 }
    let noise = noiseConstant(stepCount: stepCount)
    // The solution lies far in the tail, where few elements are; a start below it keeps it in reach.
    let start = moments.rootMeanSquare * (1.15 + 0.2 * max(0, log2Floor(stepCount)))
    if start.isFinite, start > 0 {
      let tail = gather(elements, from: start, isSigned: isSigned)
      let below = Double(moments.count - tail.count)
      let excess = tail.reduce(0) { $0 + ($1 - start) }
      if noise * start * below < excess {
        return solve(Samples(tail), total: Double(moments.count), above: start, noise: noise)
      }
    }
    let all = gather(elements, from: 0, isSigned: isSigned)
    return solve(Samples(all), total: Double(moments.count), above: 0, noise: noise)
  }

  /// The scalar that minimizes the expected squared error over weighted magnitudes.
  ///
  /// - Parameters:
  ///   - magnitudes: positive, in any order.
  ///   - counts: how often each occurs; positive.
  ///   - stepCount: the largest code.
  /// - Returns: A value in `0...max(magnitudes)`; 0 only if there is none.
  package static func octav(magnitudes: [Double], counts: [Double], stepCount: Int) -> Double {
    let samples = Samples(values: magnitudes, counts: counts)
    let total = counts.reduce(0, +)
    guard total > 0 else { return 0 }
    return solve(samples, total: total, above: 0, noise: noiseConstant(stepCount: stepCount))
  }

  /// The same scalar by its definition, over the sorted magnitudes.
  ///
  /// - Complexity: O(n log n) for n magnitudes.
  package static func exact(magnitudes: [Double], counts: [Double], stepCount: Int) -> Double {
    exact(
      Samples(values: magnitudes, counts: counts), total: counts.reduce(0, +),
      noise: noiseConstant(stepCount: stepCount))
  }

  /// The largest magnitude, or nil if an element is not finite.
  package static func maximum(
    _ elements: UnsafeBufferPointer<Float>, isSigned: Bool = true
  ) -> Double? {
    Moments(elements, isSigned: isSigned).map(\.largest)
  }

  /// The magnitude that `percentile` percent of the nonzero elements do not exceed.
  ///
  /// - Returns: The element of rank `ceil(percentile / 100 · count)`, 0 if no element counts, nil
  ///   if an element is not finite.
  package static func percentile(
    _ percentile: Double, of elements: UnsafeBufferPointer<Float>, isSigned: Bool = true
  ) -> Double? {
    guard let moments = Moments(elements, isSigned: isSigned) else { return nil }
    guard moments.count > 0 else { return 0 }
    var magnitudes: [Float] = []
    magnitudes.reserveCapacity(moments.count)
    for element in elements {
      let magnitude = isSigned ? abs(element) : element
      if magnitude > 0 { magnitudes.append(magnitude) }
    }
    return Double(
      OrderStatistic.select(&magnitudes, rank: rank(of: percentile, count: magnitudes.count)))
  }

  /// The rank, from 0, of the element that `percentile` percent of `count` do not exceed.
  package static func rank(of percentile: Double, count: Int) -> Int {
    let wanted = (percentile / 100 * Double(count)).rounded(.up)
    return min(max(Int(wanted) - 1, 0), count - 1)
  }

  /// The variance of the rounding error in units of the squared scalar: `1 / (12 n²)`.
  package static func noiseConstant(stepCount: Int) -> Double {
    1 / (12 * Double(stepCount) * Double(stepCount))
  }

  private static func log2Floor(_ count: Int) -> Double {
    Double(Int.bitWidth - 1 - max(count, 1).leadingZeroBitCount)
  }
}

/// Magnitudes with how often each occurs.
private struct Samples {
  var values: [Double]
  var counts: [Double]

  init(values: [Double], counts: [Double]) {
    self.values = values
    self.counts = counts
  }

  init(_ values: [Double]) {
    self.init(values: values, counts: [Double](repeating: 1, count: values.count))
  }
}

extension ClippingScalar {
  /// Newton's iterates on the derivative, whose root lies above `lower`; `samples` holds every
  /// magnitude from there on and `total` counts all.
  private static func solve(
    _ samples: Samples, total: Double, above lower: Double, noise: Double
  ) -> Double {
    let largest = samples.values.max() ?? 0
    var scalar = lower
    if lower == 0 {
      scalar = zip(samples.values, samples.counts).reduce(0) { $0 + $1.0 * $1.1 } / total
    }
    for _ in 0..<50 {
      var (outside, count) = (0.0, 0.0)
      for index in samples.values.indices where samples.values[index] >= scalar {
        outside += samples.values[index] * samples.counts[index]
        count += samples.counts[index]
      }
      let next = max(lower, outside / (noise * (total - count) + count))
      if abs(next - scalar) <= 1e-13 * scalar { return min(next, largest) }
      scalar = next
    }
    return exact(samples, total: total, noise: noise)
  }

  /// Walks down the sorted magnitudes until the root lies between two of them or on one.
  private static func exact(_ samples: Samples, total: Double, noise: Double) -> Double {
    let order = samples.values.indices.sorted { samples.values[$0] > samples.values[$1] }
    var (sum, outside) = (0.0, 0.0)
    var previous = Double.infinity
    for index in order {
      let value = samples.values[index]
      let scalar = sum / (noise * (total - outside) + outside)
      if scalar >= value { return min(scalar, previous) }
      sum += value * samples.counts[index]
      outside += samples.counts[index]
      if sum / (noise * (total - outside) + outside) >= value { return value }
      previous = value
    }
    return total > 0 ? sum / total : 0
  }

  private static func gather(
    _ elements: UnsafeBufferPointer<Float>, from start: Double, isSigned: Bool
  ) -> [Double] {
    let bound = max(Float(start), Float.leastNonzeroMagnitude)
    var tail: [Double] = []
    for element in elements {
      let magnitude = isSigned ? abs(element) : element
      if magnitude >= bound, Double(magnitude) >= start { tail.append(Double(magnitude)) }
    }
    return tail
  }
}

/// What one pass over the elements tells: how many count, how large they are.
private struct Moments {
  private(set) var count = 0
  private(set) var largest = 0.0
  private(set) var rootMeanSquare = 0.0

  /// Nil if an element is not finite.
  init?(_ elements: UnsafeBufferPointer<Float>, isSigned: Bool) {
    let floor = isSigned ? -Float.infinity : 0
    var squares = 0.0
    var zeros = 0
    var peak = SIMD8<Float>(repeating: 0)
    var check = SIMD8<Float>(repeating: 0)
    var index = 0
    guard let base = elements.baseAddress else { return }
    let bytes = UnsafeRawPointer(base)
    while index + 64 <= elements.count {
      var sum = SIMD8<Float>(repeating: 0)
      var zero = SIMD8<Int32>(repeating: 0)
      for step in 0..<8 {
        let loaded = bytes.loadUnaligned(
          fromByteOffset: (index + step * 8) * 4, as: SIMD8<Float>.self)
        // A value that is not finite, times zero, is not a number, and stays so in a sum.
        check += loaded * 0
        let x = loaded.replacing(with: 0, where: loaded .< floor)
        sum += x * x
        peak.replace(with: x, where: x .> peak)
        peak.replace(with: -x, where: -x .> peak)
        zero.replace(with: zero &+ 1, where: x .== 0)
      }
      squares += Double(sum.sum())
      zeros += Int(zero.wrappedSum())
      index += 64
    }
    var isFinite = check.sum() == 0
    var top = peak.max()
    for element in elements[index...] {
      isFinite = isFinite && element.isFinite
      let x = element < floor ? 0 : element
      squares += Double(x) * Double(x)
      top = max(top, abs(x))
      if x == 0 { zeros += 1 }
    }
    guard isFinite else { return nil }
    count = elements.count - zeros
    largest = Double(top)
    rootMeanSquare = count > 0 ? (squares / Double(count)).squareRoot() : 0
  }
}
