import CKernels

/// Lends `count` floats of scratch at a multiple of 64 bytes, their contents undefined.
func withFloatScratch(_ count: Int, _ body: (UnsafeMutablePointer<Float>) -> Void) {
  withUnsafeTemporaryAllocation(
    byteCount: max(count, 1) * MemoryLayout<Float>.stride, alignment: 64
  ) { scratch in
    if let start = scratch.bindMemory(to: Float.self).baseAddress { body(start) }
  }
}

/// Lends memory for the plan of one item of which `kept` rows are left and `merged` tokens go.
func withTokenPlan(kept: Int, merged: Int, _ body: (clip_token_plan) -> Void) {
  withUnsafeTemporaryAllocation(of: Int32.self, capacity: kept + 2 * merged + 1) { indices in
    withFloatScratch(merged) { shares in
      guard let start = indices.baseAddress else { return }
      body(
        clip_token_plan(
          sources: start, merged: start + kept, rows: start + kept + merged, shares: shares))
    }
  }
}
