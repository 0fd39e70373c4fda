import Glibc
import TensorCore

/// Clipping of spikes among the elements of an entry, scaling of the entry's norm, and a periodic
/// reset of the optimizer's moments.
///
/// For each entry, with every mean bias-corrected by its step count: `M` is the running mean of
/// `max|g|`; elements beyond it become `g / max|g| * M`. Then with `m` and `v` the running means of
/// `|g|` and `|g|^2`, `g *= (m / (sqrt(v) + epsilon)) / |g|`. All entries thus get norms near 1:
/// the method is meant for optimizers like ``AdamW`` that do not mind the gradient's scale.
///
/// - Source: Huang et al., "Stable-SPAM: How to Train in 4-Bit More Stably than 16-Bit Adam", 2025,
///   arXiv:2502.17055.
package final class StableSPAM: GradientClipping {
  /// The constants of the method.
  package struct Options: Hashable, Sendable, Codable {
    /// The part of the running largest magnitude that a step keeps.
    package var magnitudeDecay = 0.999
    /// The part of the running norm that a step keeps.
    package var normDecay = 0.7
    /// The part of the running squared norm that a step keeps.
    package var squareDecay = 0.9
    /// What keeps the quotient finite.
    package var epsilon = 1e-6
    /// Steps between resets of the optimizer's moments; 0 for none.
    package var resetInterval = 1000

    /// The paper's constants.
    package init() {}
  }

  /// What is remembered about an entry.
  private struct Means {
    var magnitude = 0.0
    var norm = 0.0
    var square = 0.0
  }

  /// The constants of the method.
  package let options: Options
  /// Steps so far.
  package private(set) var stepCount = 0
  private var means: [Means]

  /// Makes the method for gradients of `layout`.
  package init(layout: ParameterLayout, options: Options = Options()) {
    self.options = options
    means = Array(repeating: Means(), count: layout.entries.count)
  }

  /// Clips and scales each entry, and says when the moments are to be reset.
  ///
  /// - Precondition: the gradients have the layout that the method was made for.
  package func clip(_ gradients: ParameterBlock) -> ClippingReport {
    precondition(gradients.entries.count == means.count, "gradients of another layout")
    let norm = gradients.norm
    guard norm.isFinite else { return .rejecting(norm) }
    let isResetDue =
      options.resetInterval > 0 && stepCount > 0 && stepCount % options.resetInterval == 0
    stepCount += 1
    for entry in gradients.entries { stabilize(gradients.slice(entry), &means[entry.index]) }
    return ClippingReport(
      norm: norm, clippedNorm: gradients.norm, gradientFactor: 1, resetsMoments: isResetDue)
  }

  private func stabilize(_ elements: UnsafeMutableBufferPointer<Float>, _ means: inout Means) {
    let largest = largestMagnitude(UnsafeBufferPointer(elements))
    means.magnitude = mixed(means.magnitude, Double(largest), options.magnitudeDecay)
    let limit = corrected(means.magnitude, options.magnitudeDecay)
    if Double(largest) > limit {
      rescaleSpikes(elements, beyond: Float(limit), by: Float(limit / Double(largest)))
    }
    let norm = sumOfSquares(UnsafeBufferPointer(elements)).squareRoot()
    means.norm = mixed(means.norm, norm, options.normDecay)
    means.square = mixed(means.square, norm * norm, options.squareDecay)
    let root = corrected(means.square, options.squareDecay).squareRoot()
    let target = corrected(means.norm, options.normDecay) / (root + options.epsilon)
    // A gradient that has all but vanished must not turn into infinity.
    let factor = min(target / norm, Double(Float.greatestFiniteMagnitude))
    if norm > 0 { scale(elements, by: Float(factor)) }
  }

  private func mixed(_ mean: Double, _ value: Double, _ decay: Double) -> Double {
    decay * mean + (1 - decay) * value
  }

  private func corrected(_ mean: Double, _ decay: Double) -> Double {
    mean / (1 - pow(decay, Double(stepCount)))
  }

  /// The step count and the running means of each entry, float64 `[entries, 3]`.
  package var state: [NamedTensor] {
    let values = means.flatMap { [$0.magnitude, $0.norm, $0.square] }
    return [
      countTensor("step", stepCount), ("means", Tensor(shape: [means.count, 3], values)),
    ]
  }

  /// Continues from `state`.
  package func restore(_ state: [NamedTensor]) throws(TrainingStateError) {
    var saved = try SavedTensors(state)
    let count = try saved.takeCount("step")
    let values = try saved.take("means", .float64, [means.count, 3]).elements(of: Double.self)
    try saved.finish()
    guard values.allSatisfy({ $0.isFinite && $0 >= 0 }) else {
      throw .invalid(name: "means", reason: "are not means of magnitudes")
    }
    stepCount = count
    means = (0..<means.count).map { index in
      let start = 3 * index
      return Means(
        magnitude: values[start], norm: values[start + 1], square: values[start + 2])
    }
  }
}

/// Multiplies the elements whose magnitude is beyond `limit` with `factor`.
func rescaleSpikes(
  _ elements: UnsafeMutableBufferPointer<Float>, beyond limit: Float, by factor: Float
) {
  for index in 0..<elements.count where abs(elements[index]) > limit {
    elements[index] *= factor
  }
}
