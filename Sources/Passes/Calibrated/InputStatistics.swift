import Operators
import TensorCore

/// Second moments of what a linear layer reads, over all rows of the calibration data.
package final class InputStatistics {
  /// The input channels.
  package let width: Int
  /// The rows that were counted.
  package private(set) var rowCount = 0
  /// Subtracted from every row before it is multiplied: near the means, so that float32 products
  /// of channels whose mean is far from zero do not lose their variance.
  private var shift: [Float] = []
  private var shiftedProducts: [Double]
  private var shiftedSums: [Double]
  private var driftProducts: [Double] = []
  private var driftSums: [Double] = []

  /// So many rows go into one float32 product before it is added in float64.
  private static let chunk = 2048

  /// Counts nothing yet.
  package init(width: Int) {
    self.width = width
    shiftedProducts = [Double](repeating: 0, count: width * width)
    shiftedSums = [Double](repeating: 0, count: width)
  }

  /// Counts `rows`, `[n, width]`, and how far they are from the rows `original` of the same shape.
  package func add(
    _ rows: UnsafeBufferPointer<Float>, original: UnsafeBufferPointer<Float>? = nil,
    threadCount: Int
  ) {
    precondition(width > 0 && rows.count % width == 0, "the rows are not \(width) wide")
    precondition(original == nil || original?.count == rows.count, "as many original rows")
    let count = rows.count / width
    if original != nil, driftSums.isEmpty {
      driftProducts = [Double](repeating: 0, count: width * width)
      driftSums = [Double](repeating: 0, count: width)
    }
    if shift.isEmpty, count > 0 { shift = Self.means(of: rows, width) }
    for start in stride(from: 0, to: count, by: Self.chunk) {
      let range = (start * width)..<(min(start + Self.chunk, count) * width)
      let part = Self.difference(UnsafeBufferPointer(rebasing: rows[range]), shift)
      Self.add(part, part, width, to: &shiftedProducts, threadCount)
      Self.addColumns(of: part, width, to: &shiftedSums)
      guard let original else { continue }
      let drift = range.map { original[$0] - rows[$0] }
      Self.add(drift, part, width, to: &driftProducts, threadCount)
      Self.addColumns(of: drift, width, to: &driftSums)
    }
    rowCount += count
  }

  /// Whether every sum is finite.
  package var isFinite: Bool {
    shiftedSums.allSatisfy(\.isFinite) && driftSums.allSatisfy(\.isFinite)
      && shiftedProducts.allSatisfy(\.isFinite) && driftProducts.allSatisfy(\.isFinite)
  }

  /// Whether original rows were given.
  package var followsOriginal: Bool { !driftSums.isEmpty }

  /// The mean of each channel, `[width]`.
  package var means: [Double] {
    zip(shiftedMeans, shift).map { $0 + Double($1) }
  }

  /// The mean of each channel of `X₀ - X`, for the original inputs `X₀`; empty without them.
  package var driftMeans: [Double] { driftSums.map { $0 * scale } }

  /// The root of the mean square of each channel.
  package var rootMeanSquares: [Double] {
    let means = means
    let shifted = shiftedMeans
    return (0..<width).map { channel in
      let square = shiftedProducts[channel * width + channel] * scale
      let variance = max(square - shifted[channel] * shifted[channel], 0)
      return (variance + means[channel] * means[channel]).squareRoot()
    }
  }

  /// The mean of the products of channels, about their means where `centred`, `[width, width]`,
  /// row-major.
  package func moments(centred: Bool) -> [Double] {
    moved(shiftedProducts, shiftedMeans, centred ? [] : means)
  }

  /// The mean of `(X₀ - X)ᵀ X`, about the means of both where `centred`, for the original inputs
  /// `X₀`, `[width, width]`, row-major.
  package func driftMoments(centred: Bool) -> [Double] {
    moved(driftProducts, driftMeans, centred ? [] : driftMeans, right: centred ? [] : means)
  }

  private var scale: Double { 1 / Double(max(rowCount, 1)) }

  private var shiftedMeans: [Double] { shiftedSums.map { $0 * scale } }

  /// The means of `products` less `left` times the shifted means, and with `added` times `right`.
  private func moved(
    _ products: [Double], _ left: [Double], _ added: [Double], right: [Double]? = nil
  ) -> [Double] {
    let shifted = shiftedMeans
    let right = right ?? added
    var result = products
    result.withUnsafeMutableBufferPointer { result in
      for row in 0..<width {
        for column in 0..<width {
          let place = row * width + column
          result[place] = result[place] * scale - left[row] * shifted[column]
          if !added.isEmpty { result[place] += added[row] * right[column] }
        }
      }
    }
    return result
  }

  private static func means(of rows: UnsafeBufferPointer<Float>, _ width: Int) -> [Float] {
    var sums = [Double](repeating: 0, count: width)
    addColumns(of: Array(rows), width, to: &sums)
    return sums.map { Float($0 * Double(width) / Double(rows.count)) }
  }

  private static func difference(
    _ rows: UnsafeBufferPointer<Float>, _ shift: [Float]
  ) -> [Float] {
    [Float](unsafeUninitializedCapacity: rows.count) { target, count in
      for start in stride(from: 0, to: rows.count, by: shift.count) {
        for column in shift.indices {
          target[start + column] = rows[start + column] - shift[column]
        }
      }
      count = rows.count
    }
  }

  /// Adds `leftᵀ right` to `sums`.
  private static func add(
    _ left: [Float], _ right: [Float], _ width: Int, to sums: inout [Double], _ threadCount: Int
  ) {
    left.withUnsafeBufferPointer { left in
      right.withUnsafeBufferPointer { right in
        withUnsafeTemporaryAllocation(of: Float.self, capacity: width * width) { product in
          Matrix.multiply(
            m: width, n: width, k: left.count / width,
            MatrixView(left, stride: width, isTransposed: true), MatrixView(right, stride: width),
            into: product, threadCount: threadCount)
          sums.withUnsafeMutableBufferPointer { sums in
            for index in sums.indices { sums[index] += Double(product[index]) }
          }
        }
      }
    }
  }

  private static func addColumns(of rows: [Float], _ width: Int, to sums: inout [Double]) {
    rows.withUnsafeBufferPointer { rows in
      sums.withUnsafeMutableBufferPointer { sums in
        for start in stride(from: 0, to: rows.count, by: width) {
          for column in 0..<width { sums[column] += Double(rows[start + column]) }
        }
      }
    }
  }
}
