/// Some rows of a value, evenly taken from all that went by, and the range of each channel over all.
///
/// The same rows in the same order give the same sample.
package struct RowSample: Equatable, Sendable {
  /// At most so many rows are kept, and never less than half of that once as many went by.
  package static let capacity = 2048

  /// The channels of a row.
  package let width: Int
  /// The rows that are kept, `[count, width]`.
  package private(set) var elements: [Float] = []
  /// The smallest value of each channel; positive infinity before the first row.
  package private(set) var minima: [Float]
  /// The largest value of each channel; negative infinity before the first row.
  package private(set) var maxima: [Float]
  /// Every so many rows one is kept.
  private var stride = 1
  private var seen = 0

  /// A sample of no rows yet.
  package init(width: Int) {
    self.width = width
    minima = [Float](repeating: .infinity, count: width)
    maxima = [Float](repeating: -.infinity, count: width)
  }

  /// A sample that was taken earlier.
  ///
  /// - Precondition: `elements` are rows of as many channels as `minima` and `maxima` have.
  package init(elements: [Float], minima: [Float], maxima: [Float]) {
    precondition(minima.count == maxima.count && !minima.isEmpty)
    precondition(elements.count % minima.count == 0)
    width = minima.count
    self.elements = elements
    self.minima = minima
    self.maxima = maxima
  }

  /// How many rows are kept.
  package var count: Int { elements.count / max(width, 1) }

  /// Takes in rows, `[n, width]`.
  package mutating func add(_ rows: UnsafeBufferPointer<Float>) {
    guard width > 0 else { return }
    for row in 0..<(rows.count / width) {
      let values = UnsafeBufferPointer(rebasing: rows[(row * width)..<((row + 1) * width)])
      for channel in 0..<width {
        minima[channel] = min(minima[channel], values[channel])
        maxima[channel] = max(maxima[channel], values[channel])
      }
      if seen % stride == 0 {
        if count == Self.capacity { thin() }
        if seen % stride == 0 { elements += values }
      }
      seen += 1
    }
  }

  /// Drops every other row, so that those left are evenly spaced again.
  private mutating func thin() {
    var kept: [Float] = []
    kept.reserveCapacity(Self.capacity * width)
    for row in Swift.stride(from: 0, to: count, by: 2) {
      kept += elements[(row * width)..<((row + 1) * width)]
    }
    elements = kept
    stride *= 2
  }

  /// The largest magnitude of each channel.
  package var magnitudes: [Float] {
    zip(minima, maxima).map { low, high in low <= high ? max(-low, high, 0) : 0 }
  }

  /// The sample with each channel divided by its element of `divisors`, all positive.
  package func dividing(by divisors: [Float]) -> RowSample {
    var result = self
    for index in result.elements.indices { result.elements[index] /= divisors[index % width] }
    for channel in 0..<width {
      result.minima[channel] /= divisors[channel]
      result.maxima[channel] /= divisors[channel]
    }
    return result
  }

  /// A histogram of the rows that are kept and of the ends of the range of all.
  package var histogram: ActivationHistogram {
    var histogram = ActivationHistogram()
    elements.withUnsafeBufferPointer { histogram.add($0) }
    for ends in [minima, maxima] where ends.allSatisfy(\.isFinite) {
      ends.withUnsafeBufferPointer { histogram.add($0) }
    }
    return histogram
  }

  /// The sample with `count` rows at most, evenly taken, and the ranges of all.
  package func thinned(to count: Int) -> RowSample {
    guard self.count > count, count > 0 else { return self }
    var result = self
    result.elements = (0..<count).flatMap { place in
      let start = place * self.count / count * width
      return elements[start..<(start + width)]
    }
    return result
  }

  /// About `wanted` of the rows, evenly taken, `[n, width]`.
  package func rows(about wanted: Int) -> [Float] {
    let step = max(1, count / max(wanted, 1))
    guard step > 1 else { return elements }
    return Swift.stride(from: 0, to: count, by: step).flatMap { row in
      elements[(row * width)..<((row + 1) * width)]
    }
  }
}
