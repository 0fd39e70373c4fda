import TensorCore

/// Gradient dropout regularity: the more a task's gradient contradicts that of staying as before, the
/// likelier it is dropped.
///
/// With the task's gradient `a` and that of the divergence from the frozen model `b`, an element is
/// kept with probability `P = (1 + sign(a) (a + b) / (|a| + |b| + 1e-8)) / 2`; what is used is
/// `((1 - l) + l 1[P > U]) a` for uniform `U`.
///
/// - Source: Zheng et al., "Regularized Mask Tuning: Uncovering Hidden Knowledge in Pre-trained
///   Vision-Language Models", ICCV 2023, arXiv:2307.15049, after Chen et al., "Just Pick a Sign",
///   NeurIPS 2020, arXiv:2010.06808.
package enum GradientDropout {
  /// The probability that a task's gradient is kept beside that of the divergence.
  package static func keepProbability(task: Double, divergence: Double) -> Double {
    let sign = task > 0 ? 1.0 : task < 0 ? -1.0 : 0
    return 0.5 * (1 + sign * (task + divergence) / (abs(task) + abs(divergence) + 1e-8))
  }

  /// The gradient that is used.
  ///
  /// - Parameters:
  ///   - task: the task's gradient.
  ///   - divergence: the gradient of the divergence from the frozen model.
  ///   - level: `l`, from 0, nothing is dropped, to 1.
  ///   - uniform: a number of `0..<1` by chance.
  /// - Returns: `task`, or what is left of it.
  package static func used(
    task: Float, divergence: Float, level: Float, uniform: Double
  ) -> Float {
    let keep = keepProbability(task: Double(task), divergence: Double(divergence)) > uniform
    return keep ? task : (1 - level) * task
  }
}
