import Operators

/// The lower triangular `L` of a symmetric positive definite `A = L Lᵀ`, in float64.
///
/// The same matrix gives the same bits whatever the thread count.
package struct CholeskyFactor: Sendable {
  /// Rows and columns.
  package let count: Int
  /// `L`, row-major, zero above the diagonal.
  package let lower: [Double]

  private static let block = 48

  /// Factors row-major `matrix`, of which the lower triangle is read; nil when it is not positive
  /// definite in float64.
  package init?(_ matrix: [Double], count: Int, threadCount: Int = 1) {
    precondition(matrix.count == count * count, "a square matrix")
    var work = matrix
    let isDefinite = work.withUnsafeMutableBufferPointer { work -> Bool in
      guard let a = work.baseAddress else { return true }
      for start in stride(from: 0, to: count, by: Self.block) {
        let end = min(start + Self.block, count)
        forEachRange(of: count - start, threadCount: threadCount, minimumCount: 16) { range in
          let row = a + (start + range.lowerBound) * count
          DotTiles.subtract(
            row + start, count, row, count, a + start * count, count, m: range.count,
            n: end - start, k: start)
        }
        guard Self.factorDiagonal(a, count, start..<end) else { return false }
        forEachRange(of: count - end, threadCount: threadCount, minimumCount: 16) { range in
          for row in range { Self.solve(a + (end + row) * count, a, count, start..<end) }
        }
      }
      for row in 0..<count {
        for column in (row + 1)..<max(count, row + 1) { a[row * count + column] = 0 }
      }
      return true
    }
    guard isDefinite else { return nil }
    self.count = count
    lower = work
  }

  /// `L⁻ᵀ`, upper triangular, row-major.
  package func inverseTransposed(threadCount: Int = 1) -> [Double] {
    let count = count
    var result = [Double](repeating: 0, count: count * count)
    result.withUnsafeMutableBufferPointer { result in
      lower.withUnsafeBufferPointer { lower in
        guard let t = result.baseAddress, let l = lower.baseAddress else { return }
        for row in 0..<count { t[row * count + row] = 1 }
        for start in stride(from: 0, to: count, by: Self.block) {
          let end = min(start + Self.block, count)
          // Row j of the result is zero before column j, so only blocks up to this one matter.
          forEachRange(of: start / Self.block + 1, threadCount: threadCount) { range in
            for part in range {
              let first = part * Self.block
              let last = min(first + Self.block, end)
              DotTiles.subtract(
                t + first * count + start, count, t + first * count + first, count,
                l + start * count + first, count, m: last - first, n: end - start,
                k: start - first)
              for row in first..<last { Self.solve(t + row * count, l, count, start..<end) }
            }
          }
        }
      }
    }
    return result
  }

  /// `A⁻¹`, row-major.
  package func inverse(threadCount: Int = 1) -> [Double] {
    let count = count
    let root = inverseTransposed(threadCount: threadCount)
    var result = [Double](repeating: 0, count: count * count)
    result.withUnsafeMutableBufferPointer { result in
      root.withUnsafeBufferPointer { root in
        guard let c = result.baseAddress, let t = root.baseAddress else { return }
        let parts = (count + Self.block - 1) / Self.block
        forEachRange(of: parts, threadCount: threadCount) { range in
          for part in range {
            let first = part * Self.block
            let last = min(first + Self.block, count)
            DotTiles.subtract(
              c + first * count, count, t + first * count + first, count, t + first, count,
              m: last - first, n: last, k: count - first)
          }
        }
        for row in 0..<count {
          for column in 0...row {
            let value = -c[row * count + column]
            c[row * count + column] = value
            c[column * count + row] = value
          }
        }
      }
    }
    return result
  }

  /// The upper triangular `U` with `matrix⁻¹ = Uᵀ U`, row-major in float32; nil when `matrix` is not
  /// positive definite.
  ///
  /// The square of its element `j` on the diagonal is element `(j, j)` of the inverse of `matrix`
  /// without its first `j` rows and columns.
  package static func upperRoot(
    ofInverse matrix: [Double], count: Int, threadCount: Int = 1
  ) -> [Float]? {
    // With rows and columns reversed, the factor of the inverse is the inverse of the factor.
    let reversed = [Double](matrix.reversed())
    guard let factor = CholeskyFactor(reversed, count: count, threadCount: threadCount) else {
      return nil
    }
    let root = factor.inverseTransposed(threadCount: threadCount)
    var upper = [Float](repeating: 0, count: count * count)
    for row in 0..<count {
      for column in row..<count {
        upper[row * count + column] =
          Float(root[(count - 1 - column) * count + count - 1 - row])
      }
    }
    return upper
  }

  /// Replaces `x` by `L⁻¹ x`.
  package func forward(_ x: inout [Double]) {
    precondition(x.count == count, "\(count) elements")
    for row in 0..<count {
      var sum = x[row]
      for k in 0..<row { sum -= lower[row * count + k] * x[k] }
      x[row] = sum / lower[row * count + row]
    }
  }

  /// Replaces `x` by `A⁻¹ x`.
  package func solve(_ x: inout [Double]) {
    forward(&x)
    for row in (0..<count).reversed() {
      x[row] /= lower[row * count + row]
      for k in 0..<row { x[k] -= lower[row * count + k] * x[row] }
    }
  }

  private static func factorDiagonal(
    _ a: UnsafeMutablePointer<Double>, _ count: Int, _ range: Range<Int>
  ) -> Bool {
    for row in range {
      for column in range.lowerBound...row {
        var sum = a[row * count + column]
        for k in range.lowerBound..<column { sum -= a[row * count + k] * a[column * count + k] }
        if row == column {
          guard sum > 0, sum.isFinite else { return false }
          a[row * count + row] = sum.squareRoot()
        } else {
          a[row * count + column] = sum / a[column * count + column]
        }
      }
    }
    return true
  }

  /// Solves `x Lᵀ = row` within the columns `range` of one row.
  private static func solve(
    _ row: UnsafeMutablePointer<Double>, _ lower: UnsafePointer<Double>, _ count: Int,
    _ range: Range<Int>
  ) {
    for column in range {
      let other = lower + column * count
      var sum = row[column]
      for k in range.lowerBound..<column { sum -= row[k] * other[k] }
      row[column] = sum / other[column]
    }
  }
}

/// Sums of products of the rows of two row-major float64 matrices.
enum DotTiles {
  private static let depth = 256

  /// `c[i, j] -= Σ a[i, k] b[j, k]`; the order of the additions depends on `k` alone.
  static func subtract(
    _ c: UnsafeMutablePointer<Double>, _ cStride: Int, _ a: UnsafePointer<Double>, _ aStride: Int,
    _ b: UnsafePointer<Double>, _ bStride: Int, m: Int, n: Int, k: Int
  ) {
    for first in stride(from: 0, to: k, by: depth) {
      let length = min(depth, k - first)
      for i in stride(from: 0, to: m, by: 2) {
        let rows = min(2, m - i)
        for j in stride(from: 0, to: n, by: 4) {
          let left = a + i * aStride + first
          let right = b + j * bStride + first
          let target = c + i * cStride + j
          if rows == 2, n - j >= 4 {
            tile(target, cStride, left, aStride, right, bStride, length)
          } else {
            for row in 0..<rows {
              for column in 0..<min(4, n - j) {
                target[row * cStride + column] -= dot(
                  left + row * aStride, right + column * bStride, length)
              }
            }
          }
        }
      }
    }
  }

  private static func pair(_ pointer: UnsafePointer<Double>, _ index: Int) -> SIMD2<Double> {
    UnsafeRawPointer(pointer + index).loadUnaligned(as: SIMD2<Double>.self)
  }

  private static func dot(
    _ a: UnsafePointer<Double>, _ b: UnsafePointer<Double>, _ length: Int
  ) -> Double {
    var sums = SIMD2<Double>.zero
    let even = length & ~1
    for k in stride(from: 0, to: even, by: 2) { sums += pair(a, k) * pair(b, k) }
    let sum = sums.x + sums.y
    return even < length ? sum + a[even] * b[even] : sum
  }

  private static func tile(
    _ c: UnsafeMutablePointer<Double>, _ cStride: Int, _ a: UnsafePointer<Double>, _ aStride: Int,
    _ b: UnsafePointer<Double>, _ bStride: Int, _ length: Int
  ) {
    let (b1, b2, b3, a1) = (b + bStride, b + 2 * bStride, b + 3 * bStride, a + aStride)
    let zero = SIMD2<Double>.zero
    var (s00, s01, s02, s03) = (zero, zero, zero, zero)
    var (s10, s11, s12, s13) = (zero, zero, zero, zero)
    let even = length & ~1
    for k in stride(from: 0, to: even, by: 2) {
      let (x0, x1) = (pair(a, k), pair(a1, k))
      let (y0, y1, y2, y3) = (pair(b, k), pair(b1, k), pair(b2, k), pair(b3, k))
      s00 += x0 * y0
      s01 += x0 * y1
      s02 += x0 * y2
      s03 += x0 * y3
      s10 += x1 * y0
      s11 += x1 * y1
      s12 += x1 * y2
      s13 += x1 * y3
    }
    func finish(_ column: Int, _ top: SIMD2<Double>, _ bottom: SIMD2<Double>) {
      var (upper, lower) = (top.x + top.y, bottom.x + bottom.y)
      if even < length {
        let other = b[column * bStride + even]
        upper += a[even] * other
        lower += a1[even] * other
      }
      c[column] -= upper
      c[cStride + column] -= lower
    }
    finish(0, s00, s10)
    finish(1, s01, s11)
    finish(2, s02, s12)
    finish(3, s03, s13)
  }
}
