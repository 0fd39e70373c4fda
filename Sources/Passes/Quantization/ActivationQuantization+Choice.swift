import TensorCore

extension ActivationHistogram {
  /// The mean squared error of rounding the counted values to the codes of `grid`.
  ///
  /// Each interval counts with its middle; values that are exactly zero have no error.
  package func meanSquaredError(of grid: ActivationQuantization) -> Double {
    var sum = 0.0
    for (index, number) in counts.enumerated() where number > 0 {
      let center = center(index)
      let error = center - Double(grid.simulated(Float(center)))
      sum += error * error * Double(number)
    }
    return sum / Double(Swift.max(count, 1))
  }

  /// The mean of the squared values.
  package var meanSquare: Double {
    var sum = 0.0
    for (index, number) in counts.enumerated() where number > 0 {
      sum += center(index) * center(index) * Double(number)
    }
    return sum / Double(Swift.max(count, 1))
  }

  /// The codes for values distributed as the counted ones.
  ///
  /// - Parameters:
  ///   - bitCount: bits of a code, 2 to 8.
  ///   - rule: how the range is chosen.
  ///   - percentile: for ``ClippingRule/percentile``, the share of the values' magnitudes, in
  ///     percent, that the range holds.
  /// - Returns: Of the grids that fit the rule, symmetric or affine, that of lowest error.
  package func quantization(
    bitCount: Int = 8, clipping rule: ClippingRule, percentile: Double = 99.99
  ) -> ActivationQuantization {
    let codes = CodeRange(bitCount: bitCount)
    guard minimum <= maximum, width > 0 else {
      return codes.grid(step: 1, zeroPoint: 0)
    }
    let (low, high) = (Double(Swift.min(minimum, 0)), Double(Swift.max(maximum, 0)))
    switch rule {
    case .max: return best(of: codes.grids(low, high))
    case .percentile:
      let bound = magnitude(percentile)
      return best(of: codes.grids(Swift.max(low, -bound), Swift.min(high, bound)))
    case .octav: return GridSearch(self, codes).best()
    }
  }

  /// The upper edge of the interval in which the magnitude of rank `percentile` percent lies.
  package func magnitude(_ percentile: Double) -> Double {
    let total = counts.reduce(0, +)
    guard total > 0 else { return 0 }
    var left = ClippingScalar.rank(of: percentile, count: total) + 1
    for place in 0..<Self.sideCount {
      left -= counts[Self.sideCount + place] + counts[Self.sideCount - 1 - place]
      if left <= 0 { return Double(place + 1) * width }
    }
    return Double(Self.sideCount) * width
  }

  /// The one of `grids` with the lowest error, the first of equals.
  func best(of grids: [ActivationQuantization]) -> ActivationQuantization {
    var best = grids[0]
    var lowest = meanSquaredError(of: best)
    for grid in grids.dropFirst() {
      let error = meanSquaredError(of: grid)
      if error < lowest { (best, lowest) = (grid, error) }
    }
    return best
  }
}

/// The codes that an activation of some bits can have.
struct CodeRange {
  /// The highest code.
  let highest: Int
  /// The zero point of a symmetric grid, which leaves code 0 unused.
  let middle: Int

  init(bitCount: Int) {
    highest = (1 << bitCount) - 1
    middle = 1 << (bitCount - 1)
  }

  /// The grid of a step and a zero point.
  func grid(step: Double, zeroPoint: Int, lowest: Int = 0) -> ActivationQuantization {
    // Never so small that the inverse overflows.
    ActivationQuantization(
      scale: max(Float(step), 1e-12), zeroPoint: UInt8(zeroPoint), lowest: UInt8(lowest),
      highest: UInt8(highest))
  }

  /// The affine and the symmetric grid that reach from `low` to `high`.
  func grids(_ low: Double, _ high: Double) -> [ActivationQuantization] {
    let step = max((high - low) / Double(highest), 1e-12)
    let zero = min(max((-low / step).rounded(), 0), Double(highest))
    var grids = [grid(step: step, zeroPoint: Int(zero))]
    if low < 0, high > 0 {
      grids.append(
        grid(
          step: max(-low, high) / Double(highest - middle), zeroPoint: middle, lowest: 1))
    }
    return grids
  }
}

/// Finds the affine grid of lowest squared error: OCTAV's objective with two clipped sides.
///
/// For each zero point the model of the error, uniform noise inside and the exact error outside, is
/// convex in the step and is minimized from cumulated sums; around the best few, the true error of
/// the quantizer decides.
private struct GridSearch {
  private let histogram: ActivationHistogram
  private let codes: CodeRange
  private let width: Double
  private var cumulated: [(count: Double, sum: Double, square: Double)] = [(0, 0, 0)]

  init(_ histogram: ActivationHistogram, _ codes: CodeRange) {
    self.histogram = histogram
    self.codes = codes
    width = histogram.width
    cumulated.reserveCapacity(histogram.counts.count + 1)
    for (index, count) in histogram.counts.enumerated() {
      let (last, value) = (cumulated[index], histogram.center(index))
      cumulated.append(
        (
          last.count + Double(count), last.sum + Double(count) * value,
          last.square + Double(count) * value * value
        ))
    }
  }

  func best() -> ActivationQuantization {
    var candidates: [(error: Double, zeroPoint: Int, lowest: Int, step: Double)] = []
    for zeroPoint in 0...codes.highest {
      let (error, step) = bestStep(zeroPoint: zeroPoint, lowest: 0)
      candidates.append((error, zeroPoint, 0, step))
    }
    let (error, step) = bestStep(zeroPoint: codes.middle, lowest: 1)
    candidates.append((error, codes.middle, 1, step))
    candidates.sort { ($0.error, $0.zeroPoint, $0.lowest) < ($1.error, $1.zeroPoint, $1.lowest) }
    var grids: [ActivationQuantization] = []
    for candidate in candidates.prefix(6) {
      for percent in stride(from: 94, through: 106, by: 1) {
        grids.append(
          codes.grid(
            step: candidate.step * Double(percent) / 100, zeroPoint: candidate.zeroPoint,
            lowest: candidate.lowest))
      }
    }
    return histogram.best(of: grids)
  }

  /// The step of lowest modelled error for a zero point, by golden section.
  private func bestStep(zeroPoint: Int, lowest: Int) -> (error: Double, step: Double) {
    let low = Double(min(histogram.minimum, 0))
    let high = Double(max(histogram.maximum, 0))
    let below = max(Double(zeroPoint - lowest), 0.5)
    let above = max(Double(codes.highest - zeroPoint), 0.5)
    var (left, right) = (0.0, max(-low / below, high / above))
    let ratio = 0.618_033_988_749_894_8
    var (a, b) = (right - ratio * (right - left), left + ratio * (right - left))
    var errorA = modelledError(a, zeroPoint, lowest)
    var errorB = modelledError(b, zeroPoint, lowest)
    for _ in 0..<36 {
      if errorA <= errorB {
        (right, b, errorB) = (b, a, errorA)
        a = right - ratio * (right - left)
        errorA = modelledError(a, zeroPoint, lowest)
      } else {
        (left, a, errorA) = (a, b, errorB)
        b = left + ratio * (right - left)
        errorB = modelledError(b, zeroPoint, lowest)
      }
    }
    return errorA <= errorB ? (errorA, a) : (errorB, b)
  }

  /// `step² / 12` for every value inside, the squared distance for every value outside.
  private func modelledError(_ step: Double, _ zeroPoint: Int, _ lowest: Int) -> Double {
    let bottom = Double(lowest - zeroPoint) * step
    let top = Double(codes.highest - zeroPoint) * step
    let (first, last) = (place(bottom), place(top))
    let (start, end, whole) = (cumulated[first], cumulated[last], cumulated[cumulated.count - 1])
    let inside = (end.count - start.count) * step * step / 12
    let under = start.square - 2 * bottom * start.sum + bottom * bottom * start.count
    let count = whole.count - end.count
    let over = whole.square - end.square - 2 * top * (whole.sum - end.sum) + top * top * count
    return inside + max(under, 0) + max(over, 0)
  }

  /// How many intervals have their middle below `value`.
  private func place(_ value: Double) -> Int {
    let place = (value / width + 0.5).rounded(.down) + Double(ActivationHistogram.sideCount)
    return Int(min(max(place, 0), Double(histogram.counts.count)))
  }
}
