import Glibc

/// The learning rate of every step of a run.
///
/// With `W` warm-up steps of `S`: the rate is `peak * (step + 1) / W` for `step < W`; after that
/// the shape takes it from the peak at step `W` to its end at step `S`.
///
/// - Source: Goyal et al., arXiv:1706.02677 (warm-up); Loshchilov and Hutter, "SGDR: Stochastic
///   Gradient Descent with Warm Restarts", ICLR 2017, arXiv:1608.03983 (cosine, without restarts).
package struct LearningRateSchedule: Hashable, Sendable, Codable {
  /// The course after the warm-up, by its name in commands.
  package enum Shape: String, Hashable, Sendable, Codable, CaseIterable {
    /// The peak throughout.
    case constant
    /// A straight line to 0.
    case linear
    /// Half a period of the cosine, to 0.
    case cosine
  }

  /// The course after the warm-up.
  package var shape: Shape
  /// The highest rate.
  package var peak: Double
  /// Steps of straight growth at the beginning.
  package var warmUpSteps: Int

  /// Describes a schedule.
  package init(_ shape: Shape, peak: Double, warmUpSteps: Int = 0) {
    self.shape = shape
    self.peak = peak
    self.warmUpSteps = warmUpSteps
  }

  /// The rate of `step`, counted from 0, in a run of `total` steps.
  ///
  /// Steps beyond the end of the run have the rate of its end.
  package func rate(at step: Int, of total: Int) -> Double {
    if step < warmUpSteps { return peak * Double(step + 1) / Double(warmUpSteps) }
    let span = total - warmUpSteps
    let progress = span > 0 ? min(1, Double(step - warmUpSteps) / Double(span)) : 1
    switch shape {
    case .constant: return peak
    case .linear: return peak * (1 - progress)
    case .cosine: return peak / 2 * (1 + cos(.pi * progress))
    }
  }
}
