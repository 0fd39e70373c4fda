import TensorCore

/// Clipping of every entry against the running norm of its own gradients.
///
/// During the warm-up the whole gradient is clipped to a fixed norm, and the running norm of an
/// entry is the smallest seen. After it `h = min(1, limit * running / |g|)`, `g *= h`, and
/// `running = b running + (1 - b) |g|` with the clipped gradient.
///
/// A gradient of exact zeros says nothing about an entry's scale: it leaves the running norm alone,
/// and an entry that never had another one is not clipped when its first gradient comes.
///
/// - Source: Wang et al., "AdaGC: Improving Training Stability for Large Language Model Pretraining",
///   2025, arXiv:2502.11034.
package final class AdaGC: GradientClipping {
  /// The constants of the method.
  package struct Options: Hashable, Sendable, Codable {
    /// Steps that clip the whole gradient.
    package var warmUpSteps = 100
    /// The largest norm of the whole gradient during the warm-up.
    package var warmUpNorm = 1.0
    /// What a norm may be, in units of the running norm.
    package var relativeLimit = 1.05
    /// The part of the running norm that a step keeps.
    package var decay = 0.98

    /// The paper's constants.
    package init() {}
  }

  /// The constants of the method.
  package let options: Options
  /// Steps so far.
  package private(set) var stepCount = 0
  /// The running norm of every entry; 0 where no gradient came yet.
  package private(set) var runningNorms: [Double]

  /// Makes the method for gradients of `layout`.
  package init(layout: ParameterLayout, options: Options = Options()) {
    self.options = options
    runningNorms = Array(repeating: 0, count: layout.entries.count)
  }

  /// Clips each entry after the warm-up; during it asks for a factor for all.
  ///
  /// - Precondition: the gradients have the layout that the method was made for.
  package func clip(_ gradients: ParameterBlock) -> ClippingReport {
    precondition(gradients.entries.count == runningNorms.count, "gradients of another layout")
    let norms = gradients.entryNorms
    let norm = norms.combinedNorm
    guard norm.isFinite else { return .rejecting(norm) }
    stepCount += 1
    if stepCount <= options.warmUpSteps {
      let factor = min(1, options.warmUpNorm / (norm + 1e-6))
      for (index, entryNorm) in norms.enumerated() where entryNorm > 0 {
        let clipped = entryNorm * factor
        let running = runningNorms[index]
        runningNorms[index] = running > 0 ? min(running, clipped) : clipped
      }
      return .scaling(norm, by: factor)
    }
    var clippedNorms = norms
    for (entry, entryNorm) in zip(gradients.entries, norms) where entryNorm > 0 {
      let running = runningNorms[entry.index]
      guard running > 0 else {
        runningNorms[entry.index] = entryNorm
        continue
      }
      let factor = min(1, options.relativeLimit * running / entryNorm)
      if factor < 1 { scale(gradients.slice(entry), by: Float(factor)) }
      clippedNorms[entry.index] = factor * entryNorm
      runningNorms[entry.index] =
        options.decay * running + (1 - options.decay) * factor * entryNorm
    }
    return ClippingReport(norm: norm, clippedNorm: clippedNorms.combinedNorm, gradientFactor: 1)
  }

  /// The step count and the running norms, float64.
  package var state: [NamedTensor] {
    [
      countTensor("step", stepCount),
      ("running_norms", Tensor(shape: [runningNorms.count], runningNorms)),
    ]
  }

  /// Continues from `state`.
  package func restore(_ state: [NamedTensor]) throws(TrainingStateError) {
    var saved = try SavedTensors(state)
    let count = try saved.takeCount("step")
    let norms = try saved.take("running_norms", .float64, [runningNorms.count])
      .elements(of: Double.self)
    try saved.finish()
    guard norms.allSatisfy({ $0.isFinite && $0 >= 0 }) else {
      throw .invalid(name: "running_norms", reason: "are not norms")
    }
    stepCount = count
    runningNorms = norms
  }
}
