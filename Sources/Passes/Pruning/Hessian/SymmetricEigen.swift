/// Eigenvectors of small symmetric matrices, in float64.
package enum SymmetricEigen {
  /// The `rank` largest eigenvalues of row-major `matrix`, descending, and their vectors as rows.
  ///
  /// Orthogonal iteration with a few vectors to spare, then the Jacobi method on what is left.
  ///
  /// - Precondition: `matrix` has `count²` elements and no negative eigenvalue of note.
  package static func leading(
    _ matrix: [Double], count: Int, rank: Int
  ) -> (values: [Double], vectors: [[Double]]) {
    let width = min(count, rank + 8)
    var basis: [[Double]]
    if width * 2 >= count {
      basis = (0..<count).map { row in (0..<count).map { $0 == row ? 1 : 0 } }
    } else {
      var random = SplitMixNormals(state: 0x5EED)
      basis = (0..<width).map { _ in (0..<count).map { _ in random.next() } }
      orthonormalize(&basis)
      for _ in 0..<24 {
        basis = basis.map { multiply(matrix, $0) }
        orthonormalize(&basis)
      }
    }
    let images = basis.map { multiply(matrix, $0) }
    let small = basis.flatMap { row in images.map { dot(row, $0) } }
    let (values, rotations) = jacobi(small, count: basis.count)
    let order = values.indices.sorted { (values[$1], $0) < (values[$0], $1) }.prefix(rank)
    let vectors = order.map { index -> [Double] in
      var vector = [Double](repeating: 0, count: count)
      for (place, row) in basis.enumerated() {
        let factor = rotations[place * basis.count + index]
        for k in 0..<count { vector[k] += factor * row[k] }
      }
      return vector
    }
    return (order.map { values[$0] }, vectors)
  }

  /// All eigenvalues of row-major `matrix` and their vectors as columns, by cyclic rotations.
  ///
  /// - Source: Golub and Van Loan, "Matrix Computations", section 8.5.
  static func jacobi(_ matrix: [Double], count n: Int) -> (values: [Double], vectors: [Double]) {
    var a = matrix
    var v = [Double](repeating: 0, count: n * n)
    for k in 0..<n { v[k * n + k] = 1 }
    let whole = a.reduce(0) { $0 + $1 * $1 }
    for _ in 0..<30 {
      var rest = 0.0
      for p in 0..<n {
        for q in (p + 1)..<max(n, p + 1) { rest += a[p * n + q] * a[p * n + q] }
      }
      guard rest > 1e-26 * whole else { break }
      for p in 0..<n {
        for q in (p + 1)..<max(n, p + 1) where a[p * n + q] != 0 { rotate(&a, &v, n, p, q) }
      }
    }
    return ((0..<n).map { a[$0 * n + $0] }, v)
  }

  private static func rotate(_ a: inout [Double], _ v: inout [Double], _ n: Int, _ p: Int, _ q: Int)
  {
    let slope = (a[q * n + q] - a[p * n + p]) / (2 * a[p * n + q])
    let t = (slope < 0 ? -1 : 1) / (slope.magnitude + (slope * slope + 1).squareRoot())
    let c = 1 / (t * t + 1).squareRoot()
    let s = t * c
    for k in 0..<n {
      let (x, y) = (a[k * n + p], a[k * n + q])
      a[k * n + p] = c * x - s * y
      a[k * n + q] = s * x + c * y
    }
    for k in 0..<n {
      let (x, y) = (a[p * n + k], a[q * n + k])
      a[p * n + k] = c * x - s * y
      a[q * n + k] = s * x + c * y
      let (z, w) = (v[k * n + p], v[k * n + q])
      v[k * n + p] = c * z - s * w
      v[k * n + q] = s * z + c * w
    }
  }

  private static func orthonormalize(_ rows: inout [[Double]]) {
    for index in rows.indices {
      // Twice is enough to lose what rounding left of the rows before.
      for _ in 0..<2 {
        for other in 0..<index {
          let along = dot(rows[index], rows[other])
          for k in rows[index].indices { rows[index][k] -= along * rows[other][k] }
        }
      }
      let length = dot(rows[index], rows[index]).squareRoot()
      let scale = length > 1e-150 ? 1 / length : 0
      for k in rows[index].indices { rows[index][k] *= scale }
    }
  }

  private static func multiply(_ matrix: [Double], _ x: [Double]) -> [Double] {
    let count = x.count
    return matrix.withUnsafeBufferPointer { matrix in
      x.withUnsafeBufferPointer { x in
        (0..<count).map { row in
          var sum = 0.0
          for k in 0..<count { sum += matrix[row * count + k] * x[k] }
          return sum
        }
      }
    }
  }

  private static func dot(_ a: [Double], _ b: [Double]) -> Double {
    var sum = 0.0
    for k in a.indices { sum += a[k] * b[k] }
    return sum
  }
}

/// A fixed sequence of numbers between -1 and 1 to start an iteration from.
private struct SplitMixNormals {
  var state: UInt64

  mutating func next() -> Double {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return Double(Int64(bitPattern: state) >> 11) * 0x1p-52
  }
}
