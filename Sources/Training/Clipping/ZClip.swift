import TensorCore

/// Clipping of norms that stand out by their z-score against running statistics.
///
/// After a warm-up, which gives mean `mu` and variance of the norms, a norm `n` with
/// `z = (n - mu) / (sigma + 1e-6)` above the limit `c` is taken to `mu + c sigma / (z / c)`: the
/// farther it stands out, the closer to the mean. `mu = a mu + (1 - a) n`, and then the variance in
/// the same way about the new mean, follow the norm after that. A fixed largest norm applies to what
/// comes out and does not enter the statistics.
///
/// - Source: Kumar et al., "ZClip: Adaptive Spike Mitigation for LLM Pre-Training", 2025,
///   arXiv:2504.02507.
package final class ZClip: GradientClipping {
  /// The constants of the method.
  package struct Options: Hashable, Sendable, Codable {
    /// Norms that are only collected.
    package var warmUpSteps = 25
    /// The part of mean and variance that a step keeps.
    package var decay = 0.97
    /// The z-score beyond which a norm is a spike.
    package var zLimit = 2.5
    /// The largest norm in any case; nil for none.
    package var largestNorm: Double? = 1

    /// The paper's constants.
    package init() {}

    /// The paper's constants but for the largest norm.
    package init(largestNorm: Double?) { self.largestNorm = largestNorm }
  }

  /// The constants of the method.
  package let options: Options
  /// The mean of the norms; 0 during the warm-up.
  package private(set) var mean = 0.0
  /// The variance of the norms; 0 during the warm-up.
  package private(set) var variance = 0.0
  private var warmUp: [Double] = []
  private var isWarm: Bool { warmUp.count >= options.warmUpSteps }

  /// Makes the method.
  package init(options: Options = Options()) { self.options = options }

  /// Asks for a factor that takes a spike close to the mean norm.
  package func clip(_ gradients: ParameterBlock) -> ClippingReport {
    let norm = gradients.norm
    guard norm.isFinite else { return .rejecting(norm) }
    var clipped = norm
    if isWarm {
      clipped = withoutSpike(norm)
      mean = options.decay * mean + (1 - options.decay) * clipped
      let deviation = clipped - mean
      variance = options.decay * variance + (1 - options.decay) * deviation * deviation
    } else {
      warmUp.append(norm)
      if isWarm { endWarmUp() }
    }
    if let largest = options.largestNorm { clipped = min(clipped, largest) }
    return .scaling(norm, by: norm > 0 ? min(1, clipped / norm) : 1)
  }

  private func withoutSpike(_ norm: Double) -> Double {
    let deviation = variance.squareRoot()
    let z = (norm - mean) / (deviation + 1e-6)
    guard z > options.zLimit else { return norm }
    return min(norm, mean + options.zLimit * deviation / (z / options.zLimit))
  }

  private func endWarmUp() {
    let count = Double(warmUp.count)
    mean = warmUp.reduce(0, +) / count
    variance = warmUp.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / count
  }

  /// The norms of the warm-up and the mean and variance, float64.
  package var state: [NamedTensor] {
    [
      ("warm_up", Tensor(shape: [warmUp.count], warmUp)),
      ("statistics", Tensor(shape: [2], [mean, variance])),
    ]
  }

  /// Continues from `state`.
  package func restore(_ state: [NamedTensor]) throws(TrainingStateError) {
    var saved = try SavedTensors(state)
    let norms = try saved.take("warm_up", .float64, nil).elements(of: Double.self)
    let statistics = try saved.take("statistics", .float64, [2]).elements(of: Double.self)
    try saved.finish()
    guard norms.allSatisfy(\.isFinite), norms.count <= options.warmUpSteps else {
      throw .invalid(name: "warm_up", reason: "is not a list of this warm-up's norms")
    }
    guard statistics.allSatisfy({ $0.isFinite && $0 >= 0 }) else {
      throw .invalid(name: "statistics", reason: "are no mean and variance of norms")
    }
    warmUp = norms
    (mean, variance) = (statistics[0], statistics[1])
  }
}
