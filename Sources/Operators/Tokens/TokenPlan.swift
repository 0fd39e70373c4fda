import CKernels

/// Lends memory for the plan of one item of which `kept` rows are left and `merged` tokens go.
func withTokenPlan(kept: Int, merged: Int, _ body: (clip_token_plan) -> Void) {
  withUnsafeTemporaryAllocation(of: Int32.self, capacity: kept + 2 * merged + 1) { indices in
    withScratch(of: Float.self, merged) { shares in
      guard let start = indices.baseAddress else { return }
      body(
        clip_token_plan(
          sources: start, merged: start + kept, rows: start + kept + merged, shares: shares))
    }
  }
}
