import COpenBLAS

/// A row-major matrix that a product reads.
package struct MatrixView {
  /// The first row, as stored.
  let elements: UnsafeBufferPointer<Float>
  /// Elements between the starts of two stored rows.
  let stride: Int
  /// Whether the stored rows are the columns of the matrix.
  let isTransposed: Bool

  /// Views `elements`.
  package init(_ elements: UnsafeBufferPointer<Float>, stride: Int, isTransposed: Bool = false) {
    self.elements = elements
    self.stride = stride
    self.isTransposed = isTransposed
  }

  /// The place of row `row` of the matrix, of column `column` where that is a stored row.
  func offset(row: Int, column: Int) -> Int {
    isTransposed ? column * stride + row : row * stride + column
  }
}

/// Matrix products in float32 by OpenBLAS.
package enum Matrix {
  /// Opens the library, or says why it cannot be opened.
  package static func open() throws(MatrixLibraryError) {
    guard clip_blas_open() == 0 else {
      throw MatrixLibraryError(description: String(cString: clip_blas_error()))
    }
  }

  /// The kernel set that the library uses, such as `SkylakeX`.
  package static var kernelSet: String { String(cString: clip_blas_core()) }

  /// `a bᵀ` for row-major `a` `[m, k]` and `b` `[n, k]`: `[m, n]`.
  package static func productTransposed(
    m: Int, n: Int, k: Int, _ a: [Float], _ b: [Float], threadCount: Int = 1
  ) -> [Float] {
    var c = [Float](repeating: 0, count: m * n)
    a.withUnsafeBufferPointer { a in
      b.withUnsafeBufferPointer { b in
        c.withUnsafeMutableBufferPointer { c in
          multiply(
            m: m, n: n, k: k, MatrixView(a, stride: k),
            MatrixView(b, stride: k, isTransposed: true), into: c, threadCount: threadCount)
        }
      }
    }
    return c
  }

  /// `c = scale a b`, or `c += scale a b`, for `a` `[m, k]`, `b` `[k, n]` and row-major `c` `[m, n]`.
  ///
  /// The library runs on one thread; the rows or columns of `c` are divided here, so that its
  /// threads never compete with ours and the bits depend on the counts alone.
  ///
  /// `stride` elements lie between the starts of two rows of `c`, `n` when it is nil.
  package static func multiply(
    m: Int, n: Int, k: Int, _ a: MatrixView, _ b: MatrixView, scale: Float = 1,
    accumulates: Bool = false, into c: UnsafeMutableBufferPointer<Float>, stride: Int? = nil,
    threadCount: Int
  ) {
    guard m > 0, n > 0, let target = c.baseAddress else { return }
    let width = stride ?? n
    precondition(width >= n && c.count >= (m - 1) * width + n, "the result does not fit its place")
    guard k > 0, let left = a.elements.baseAddress, let right = b.elements.baseAddress else {
      if !accumulates { for row in 0..<m { (target + row * width).update(repeating: 0, count: n) } }
      return
    }
    let threads = m * n * k < 1 << 18 ? 1 : threadCount
    let splitsRows = m >= n
    // Whole panels of the library's kernels on every thread.
    let panel = 16
    let panelCount = ((splitsRows ? m : n) + panel - 1) / panel
    forEachRange(of: panelCount, threadCount: threads) { range in
      let start = range.lowerBound * panel
      let end = min(range.upperBound * panel, splitsRows ? m : n)
      let (row, column) = splitsRows ? (start, 0) : (0, start)
      clip_blas_sgemm(
        a.isTransposed ? 1 : 0, b.isTransposed ? 1 : 0, Int64(splitsRows ? end - start : m),
        Int64(splitsRows ? n : end - start), Int64(k), scale, left + a.offset(row: row, column: 0),
        Int64(a.stride), right + b.offset(row: 0, column: column), Int64(b.stride),
        accumulates ? 1 : 0, target + row * width + column,
        Int64(width))
    }
  }

  /// `c = a b + bias`, or `c += a b`, for `a` `[m, k]`, `b` `[k, n]` and row-major `c` `[m, n]`, whose
  /// factors are rounded to bfloat16 where `isRounded`.
  ///
  /// Give a bias or accumulate; a transposed `a` takes a `b` that is not, and no bias.
  package static func product(
    m: Int, n: Int, k: Int, _ a: MatrixView, _ b: MatrixView,
    bias: UnsafeBufferPointer<Float>? = nil, isRounded: Bool, accumulates: Bool = false,
    into c: UnsafeMutableBufferPointer<Float>, threadCount: Int
  ) {
    if isRounded {
      return multiplyRounded(
        m: m, n: n, k: k, a, b, bias: bias, accumulates: accumulates, into: c,
        threadCount: threadCount)
    }
    if let bias = bias?.baseAddress, let y = c.baseAddress {
      forEachRange(of: m, threadCount: threadCount, minimumCount: 1 << 10) { range in
        for row in range { (y + row * n).update(from: bias, count: n) }
      }
    }
    multiply(
      m: m, n: n, k: k, a, b, accumulates: accumulates || bias != nil, into: c,
      threadCount: threadCount)
  }
}

/// The matrix library is absent.
package struct MatrixLibraryError: Error, CustomStringConvertible {
  package let description: String
}
