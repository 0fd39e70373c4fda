import CKernels
import TensorCore

/// Finds the step between codes with the lowest expected squared error for a grid whose ends lie
/// anywhere about zero: OCTAV with two sides.
///
/// With codes `a...b` about zero, `J(d) = d²/12 #{a d < x < b d, x ≠ 0} + Σ_{x ≥ b d} (x - b d)²
/// + Σ_{x ≤ a d} (x - a d)²`. Newton's iteration with the sets held fixed is
/// `d = (b Σ_above x + a Σ_below x) / (n_inside / 12 + b² n_above + a² n_below)`; for `a = -b` it is the
/// recursion of the paper in `s = b d`, for `a = 0` its form for unsigned values. The derivative rises
/// with `d` and jumps upwards at elements, so that its change of sign is unique: where iterates
/// alternate about one, halving the interval finds it.
///
/// - Source: Sakr et al., arXiv:2206.06501, section 3. Differs: the ends of the grid, and the noise
///   constant that follows from them.
package struct ScaleSearch: Sendable {
  /// What lies within two bounds and beyond them.
  struct Sums {
    var below = 0.0
    var above = 0.0
    var insideCount = 0.0
    var belowCount = 0.0
    var aboveCount = 0.0
  }

  /// The distance of two iterates, in units of the step, at which the search ends.
  static let tolerance = 1e-7
  /// The smallest step.
  static let smallest = 1e-12

  private let lowest: Double
  private let highest: Double

  /// Searches for the step of `codes`, counted from the code of zero.
  package init(codes: ClosedRange<Int>) {
    lowest = Double(codes.lowerBound)
    highest = Double(codes.upperBound)
  }

  /// The step for `elements`.
  ///
  /// The result depends neither on the number of threads nor, within rounding, on `start`.
  ///
  /// - Parameters:
  ///   - elements: any layout.
  ///   - start: a step that may be near, which saves iterations; 0 for none.
  ///   - threadCount: how many threads run.
  /// - Returns: A positive number; nil where no element has a code but zero's, or where one is
  ///   infinite.
  package func scale(
    of elements: UnsafeBufferPointer<Float>, near start: Float, threadCount: Int = 1
  ) -> Float? {
    scale(near: Double(start)) { Self.sums(elements, $0, $1, threadCount: threadCount) }
  }

  /// The step for elements of which `sums` tells what lies within two bounds.
  func scale(near start: Double, _ sums: (_ low: Double, _ high: Double) -> Sums) -> Float? {
    var step = start
    if !(step > 0 && step.isFinite) {
      let all = sums(0, 0)
      let used = (lowest < 0 ? all.belowCount : 0) + (highest > 0 ? all.aboveCount : 0)
      let sum = (lowest < 0 ? -all.below : 0) + (highest > 0 ? all.above : 0)
      // Zeros are counted here, which only moves the start.
      guard used > 0, sum > 0 else { return nil }
      step = 2 * sum / used / max(-lowest, highest)
    }
    var (low, high) = (0.0, Double.infinity)
    for _ in 0..<50 {
      guard let next = next(step, sums) else { return nil }
      if abs(next - step) <= Self.tolerance * step { return Self.stored(next) }
      if next > step { low = step } else { high = step }
      // Iterates that leave the interval, or meet its end again, would go round in a circle.
      guard next > low, next < high else { break }
      step = next
    }
    return bisect(low, high, sums)
  }

  private func bisect(
    _ low: Double, _ high: Double, _ sums: (_ low: Double, _ high: Double) -> Sums
  ) -> Float? {
    var (low, high) = (low, high)
    guard high.isFinite else { return Self.stored(low) }
    for _ in 0..<200 where high - low > Self.tolerance * high && high > Self.smallest {
      let middle = (low + high) / 2
      guard let next = next(middle, sums) else { return nil }
      if abs(next - middle) <= Self.tolerance * middle { return Self.stored(next) }
      if next > middle { low = middle } else { high = middle }
    }
    // Nothing but zeros: the interval has shrunk to them.
    return high > Self.smallest ? Self.stored((low + high) / 2) : nil
  }

  /// The minimum of the objective if what is clipped at `step` stays clipped; nil if that is no number.
  private func next(
    _ step: Double, _ sums: (_ low: Double, _ high: Double) -> Sums
  ) -> Double? {
    let sums = sums(lowest * step, highest * step)
    let slope =
      sums.insideCount / 12 + highest * highest * sums.aboveCount
      + lowest * lowest * sums.belowCount
    let moment =
      (highest > 0 ? highest * sums.above : 0) + (lowest < 0 ? lowest * sums.below : 0)
    let next = slope > 0 ? moment / slope : 0
    return next.isFinite ? next : nil
  }

  private static func stored(_ step: Double) -> Float { Float(max(step, smallest)) }

  /// Sums over blocks of a fixed length, added in their order.
  private static func sums(
    _ elements: UnsafeBufferPointer<Float>, _ low: Double, _ high: Double, threadCount: Int
  ) -> Sums {
    guard let start = elements.baseAddress else { return Sums() }
    let kernel = Kernels.training.f32_clipping_sums
    let bounds = clip_code_range(lowest: Float(low), highest: Float(high))
    let length = 1 << 15
    let blockCount = (elements.count + length - 1) / length
    return withUnsafeTemporaryAllocation(of: clip_clipping_sums.self, capacity: blockCount) {
      parts in
      guard let first = parts.baseAddress else { return Sums() }
      forEachRange(of: blockCount, threadCount: threadCount) { range in
        for block in range {
          let count = min(length, elements.count - block * length)
          kernel(start + block * length, count, bounds, first + block)
        }
      }
      var total = Sums()
      for part in parts {
        total.below += part.below
        total.above += part.above
        total.insideCount += Double(part.inside_count)
        total.belowCount += Double(part.below_count)
        total.aboveCount += Double(part.above_count)
      }
      return total
    }
  }
}
