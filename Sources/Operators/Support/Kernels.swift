import CKernels

/// The C kernels of the best set that this processor has.
package enum Kernels {
  /// Asking a processor what it has takes longer than a small product, so it is asked once.
  private static let index = clip_kernel_sets_best()

  /// The set.
  static var best: clip_kernel_set { clip_kernel_sets_at(index).pointee }

  /// The kernels of training for the same processor.
  package static var training: clip_training_kernel_set {
    clip_training_kernel_sets_at(index).pointee
  }

  /// An output of floats with rows `stride` apart.
  static func floats(_ address: UnsafeMutablePointer<Float>, stride: Int) -> clip_output {
    var output = clip_output()
    output.f32 = address
    output.f32_stride = stride
    return output
  }

  /// Writes the activation function of every element of `source` to `target`.
  static func activate(
    _ source: UnsafeBufferPointer<Float>, _ target: UnsafeMutableBufferPointer<Float>,
    _ activation: clip_activation, threadCount: Int
  ) {
    guard let input = source.baseAddress, let output = target.baseAddress else { return }
    let kernel = best.f32_activate
    forEachRange(of: source.count, threadCount: threadCount, minimumCount: 1 << 15) { range in
      kernel(input + range.lowerBound, range.count, activation, output + range.lowerBound)
    }
  }

  /// Adds what `body` adds to `count` zeros for each range of `rows`, a range for each thread.
  ///
  /// The order of the additions depends on the counts alone.
  static func accumulate(
    rows: Int, threadCount: Int, into target: UnsafeMutableBufferPointer<Float>,
    _ body: (clip_range, UnsafeMutablePointer<Float>) -> Void
  ) {
    guard let start = target.baseAddress else { return }
    target.update(repeating: 0)
    let parts = max(1, min(threadCount, rows / 64))
    guard parts > 1 else { return body(clip_range(begin: 0, end: rows), start) }
    withUnsafeTemporaryAllocation(of: Float.self, capacity: parts * target.count) { partial in
      partial.initialize(repeating: 0)
      guard let sums = partial.baseAddress else { return }
      forEachRange(of: parts, threadCount: parts) { range in
        for part in range {
          body(clip_range_part(rows, parts, part), sums + part * target.count)
        }
      }
      for part in 0..<parts {
        for index in target.indices { target[index] += partial[part * target.count + index] }
      }
    }
  }
}
