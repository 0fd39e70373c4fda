import CKernels

/// The right factor of a product in bfloat16, in the panels of pairs that `f32_bf16w_gemm` reads.
struct RoundedFactor {
  /// Rows.
  let k: Int
  /// Columns.
  let n: Int
  private let pairs: UnsafeMutablePointer<UInt16>

  private var panelCount: Int { (n + 15) / 16 }

  private static func elementCount(k: Int, n: Int) -> Int {
    (n + 15) / 16 * 16 * ((k + 1) / 2 * 2)
  }

  /// Lends the factors made of `matrices`, each `[k, n]`, on `threadCount` threads.
  static func with(
    _ matrices: [MatrixView], k: Int, n: Int, threadCount: Int, _ body: ([RoundedFactor]) -> Void
  ) {
    let size = elementCount(k: k, n: n)
    withScratch(of: UInt16.self, matrices.count * size) { pairs in
      let factors = matrices.indices.map { RoundedFactor(k: k, n: n, pairs: pairs + $0 * size) }
      let panelCount = (n + 15) / 16
      forEachRange(of: matrices.count * panelCount, threadCount: threadCount) { range in
        for index in range {
          let panel = index % panelCount
          factors[index / panelCount].fill(panel..<(panel + 1), from: matrices[index / panelCount])
        }
      }
      body(factors)
    }
  }

  private func fill(_ panels: Range<Int>, from matrix: MatrixView) {
    guard let start = matrix.elements.baseAddress else { return }
    guard matrix.isTransposed else {
      return fill(panels, from: start, stride: matrix.stride)
    }
    withScratch(of: Float.self, 16 * k) { columns in
      for panel in panels {
        let width = min(16, n - 16 * panel)
        Kernels.training.f32_transposed_copy(
          start + 16 * panel * matrix.stride, matrix.stride, width, k, columns, 16)
        let part = RoundedFactor(
          k: k, n: width, pairs: pairs + panel * Self.elementCount(k: k, n: 16))
        part.fill(0..<1, from: columns, stride: 16)
      }
    }
  }

  /// Rounds rows that are `stride` apart.
  private func fill(_ panels: Range<Int>, from rows: UnsafePointer<Float>, stride: Int) {
    Kernels.training.f32_pack_pairs(
      rows, stride, k, n, clip_range(begin: panels.lowerBound, end: panels.upperBound), pairs)
  }

  /// Bytes of scratch for a product with so many rows.
  static func scratchByteCount(rows: Int, k: Int) -> Int {
    clip_f32_bf16w_scratch_byte_count(rows, k)
  }

  /// `c = a b + bias`, or `c += a b`, for rows of `a` that are `stride` apart, on one thread, with
  /// scratch of ``scratchByteCount(rows:k:)`` bytes.
  func multiply(
    _ a: UnsafePointer<Float>, stride: Int, rows: Range<Int>, panels: Range<Int>? = nil,
    bias: UnsafePointer<Float>? = nil, accumulates: Bool = false,
    into c: UnsafeMutablePointer<Float>, stride width: Int,
    scratch: UnsafeMutableRawPointer
  ) {
    let panels = panels ?? 0..<panelCount
    var arguments = clip_f32_bf16w_gemm_arguments(
      activations: a, activations_stride: stride, weights: pairs, output_count: n, input_count: k,
      epilogue: clip_epilogue(
        bias: bias, activation: CLIP_ACTIVATION_NONE,
        residual: accumulates ? UnsafePointer(c) : nil,
        residual_stride: width, output: Kernels.floats(c, stride: width)))
    Kernels.best.f32_bf16w_gemm(
      &arguments, clip_range(begin: rows.lowerBound, end: rows.upperBound),
      clip_range(begin: panels.lowerBound, end: panels.upperBound), scratch)
  }

  /// Rows of both factors, rows of the result, and its panels that a thread works on at a time where
  /// the left factor is transposed: together they stay in the second-level cache.
  private static let (depth, height, panelLimit) = (512, 128, 24)

  /// `c = aᵀ b`, or `c += aᵀ b`, for `a` `[k, m]` and `b` `[k, n]`: the rows and columns of `c` in
  /// `rows` and `panels`, on one thread.
  static func multiplyTransposed(
    _ a: MatrixView, _ b: MatrixView, k: Int, n: Int, rows: Range<Int>, panels: Range<Int>,
    accumulates: Bool, into c: UnsafeMutablePointer<Float>
  ) {
    guard let left = a.elements.baseAddress, let right = b.elements.baseAddress else { return }
    withBlockScratch { turned, pairs, scratch in
      for panel in stride(from: panels.lowerBound, to: panels.upperBound, by: panelLimit) {
        let column = 16 * panel
        let width = min(n, 16 * min(panels.upperBound, panel + panelLimit)) - column
        for start in stride(from: 0, to: k, by: depth) {
          let factor = RoundedFactor(k: min(depth, k - start), n: width, pairs: pairs)
          factor.fill(
            0..<factor.panelCount, from: right + start * b.stride + column, stride: b.stride)
          for row in stride(from: rows.lowerBound, to: rows.upperBound, by: height) {
            let count = min(height, rows.upperBound - row)
            Kernels.training.f32_transposed_copy(
              left + start * a.stride + row, a.stride, factor.k, count, turned, factor.k)
            factor.multiply(
              turned, stride: factor.k, rows: 0..<count, accumulates: accumulates || start > 0,
              into: c + row * n + column, stride: n, scratch: scratch)
          }
        }
      }
    }
  }

  /// Lends room for a block of the left factor, of the right one, and for their product.
  private static func withBlockScratch(
    _ body: (
      UnsafeMutablePointer<Float>, UnsafeMutablePointer<UInt16>, UnsafeMutablePointer<UInt8>
    ) -> Void
  ) {
    let scratchByteCount = scratchByteCount(rows: height, k: depth)
    withScratch(of: Float.self, height * depth) { turned in
      withScratch(of: UInt16.self, depth * panelLimit * 16) { pairs in
        withScratch(of: UInt8.self, scratchByteCount) { body(turned, pairs, $0) }
      }
    }
  }
}

extension Matrix {
  /// `c = a b + bias`, or `c += a b`, for `a` `[m, k]`, `b` `[k, n]` and row-major `c` `[m, n]`, where
  /// the elements of `a` and `b` are rounded to bfloat16 and products are added up in float32.
  ///
  /// Give a bias or accumulate; a transposed `a` takes a `b` that is not, and no bias. The bits depend
  /// on the counts alone.
  static func multiplyRounded(
    m: Int, n: Int, k: Int, _ a: MatrixView, _ b: MatrixView,
    bias: UnsafeBufferPointer<Float>? = nil, accumulates: Bool = false,
    into c: UnsafeMutableBufferPointer<Float>, threadCount: Int
  ) {
    guard m > 0, n > 0, let target = c.baseAddress else { return }
    precondition(c.count >= m * n, "the result does not fit its place")
    precondition(bias == nil || !accumulates, "a bias is added to a new result")
    precondition(!a.isTransposed || (!b.isTransposed && bias == nil), "a product of another kind")
    guard k > 0, let left = a.elements.baseAddress else {
      for row in 0..<m where !accumulates {
        for column in 0..<n { target[row * n + column] = bias?[column] ?? 0 }
      }
      return
    }
    // Whole panels on every thread.
    let panel = 16
    let panelCount = (n + panel - 1) / panel
    let threads = m * n * k < 1 << 18 ? 1 : threadCount
    /// Works on parts of the longer side of the result.
    func divide(_ body: (_ rows: Range<Int>, _ panels: Range<Int>) -> Void) {
      let splitsRows = m >= n
      let count = splitsRows ? (m + panel - 1) / panel : panelCount
      forEachRange(of: count, threadCount: threads) { range in
        guard splitsRows else { return body(0..<m, range) }
        body((range.lowerBound * panel)..<min(range.upperBound * panel, m), 0..<panelCount)
      }
    }
    if a.isTransposed {
      return divide { rows, panels in
        RoundedFactor.multiplyTransposed(
          a, b, k: k, n: n, rows: rows, panels: panels, accumulates: accumulates,
          into: target)
      }
    }
    RoundedFactor.with([b], k: k, n: n, threadCount: threads) { factors in
      divide { rows, panels in
        let size = RoundedFactor.scratchByteCount(rows: rows.count, k: k)
        withScratch(of: UInt8.self, size) { scratch in
          factors[0].multiply(
            left, stride: a.stride, rows: rows, panels: panels, bias: bias?.baseAddress,
            accumulates: accumulates, into: target, stride: n, scratch: scratch)
        }
      }
    }
  }
}
