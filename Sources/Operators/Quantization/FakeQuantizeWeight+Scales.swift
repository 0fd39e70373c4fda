import TensorCore

extension FakeQuantizeWeight {
  /// Moves each of `scales` to the step of the lowest expected squared error for the elements of
  /// `weight` that share it, starting from what it is.
  ///
  /// Signs stay, and so does a scale whose elements are all zero. Scales of groups are rounded to
  /// float16 where these are as fine. The result does not depend on the number of threads.
  ///
  /// - Parameters:
  ///   - scales: as the operand of this operation; 0 where nothing is known of a scale.
  ///   - weight: the elements of a weight of `shape`.
  ///   - shape: `[rows, ...]`.
  ///   - threadCount: how many threads run.
  package func fitScales(
    _ scales: UnsafeMutableBufferPointer<Float>, to weight: UnsafeBufferPointer<Float>,
    shape: [Int], threadCount: Int
  ) {
    let search = ScaleSearch(codes: codes)
    let mirrored = ScaleSearch(codes: -codes.upperBound...(-codes.lowerBound))
    // Each run has a scale of its own.
    nonisolated(unsafe) let (scales, weight) = (scales, weight)
    let isGrouped = groupSize != nil
    ScaleRuns(of: shape, scaleRank: 1, groupSize: groupSize).forEach(threadCount: threadCount) {
      elements, index in
      let old = scales[index]
      let run = UnsafeBufferPointer(rebasing: weight[elements])
      guard let found = (old < 0 ? mirrored : search).scale(of: run, near: abs(old)) else {
        if old == 0 { scales[index] = 1 }
        return
      }
      let step = isGrouped ? found.roundedToHalf : found
      scales[index] = old < 0 ? -step : step
    }
  }
}

extension Float {
  /// This number with the precision of float16, half to even, if it lies in its normal range.
  package var roundedToHalf: Float {
    guard (0x1p-14...65504).contains(abs(self)) else { return self }
    // 13 of the 23 bits of the fraction go.
    let half = ((bitPattern >> 13) & 1) + 0xFFF
    return Float(bitPattern: (bitPattern + half) & ~0x1FFF)
  }
}
