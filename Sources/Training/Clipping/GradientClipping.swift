import CKernels
import Operators
import TensorCore

/// What a clipping method measured and asks for.
package struct ClippingReport: Hashable, Sendable {
  /// The Euclidean norm of the gradient before the method saw it; not finite where the gradient is not.
  package var norm: Double
  /// The norm of the gradient that the optimizer gets, after `gradientFactor`.
  package var clippedNorm: Double
  /// What the gradients are still to be multiplied with, the optimizer's `gradientFactor`.
  ///
  /// 0 for a gradient that is not finite: such a step has to be skipped.
  package var gradientFactor: Float
  /// Whether the optimizer's moments are to be reset before this step.
  package var resetsMoments = false

  /// Whether every gradient is a finite number.
  package var isFinite: Bool { norm.isFinite }

  /// The report on a gradient of norm `norm` that is to be multiplied with `factor`.
  static func scaling(_ norm: Double, by factor: Double) -> ClippingReport {
    ClippingReport(norm: norm, clippedNorm: norm * factor, gradientFactor: Float(factor))
  }

  /// The report on a gradient that is not finite.
  static func rejecting(_ norm: Double) -> ClippingReport {
    ClippingReport(norm: norm, clippedNorm: norm, gradientFactor: 0)
  }
}

/// A method that keeps outliers among gradients from throwing a run off its course.
///
/// It acts between the backward pass and the optimizer. A gradient that is not finite is reported,
/// and neither it nor the method's state is changed.
package protocol GradientClipping: TrainingState {
  /// Looks at `gradients`, changes them where it works entry by entry, and says what to do next.
  func clip(_ gradients: ParameterBlock) -> ClippingReport
}

/// No clipping, only the norm.
package final class NoClipping: GradientClipping {
  /// Makes the method.
  package init() {}

  /// Measures the norm.
  package func clip(_ gradients: ParameterBlock) -> ClippingReport {
    let norm = gradients.norm
    return norm.isFinite ? .scaling(norm, by: 1) : .rejecting(norm)
  }

  /// Nothing.
  package var state: [NamedTensor] { [] }

  /// Accepts only an empty state.
  package func restore(_ state: [NamedTensor]) throws(TrainingStateError) {
    try SavedTensors(state).finish()
  }
}

/// Clipping by the norm of the whole gradient: `g *= min(1, c / (|g| + 1e-6))`.
///
/// - Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks",
///   ICML 2013, arXiv:1211.5063.
package final class GlobalNormClipping: GradientClipping {
  /// The largest norm, positive.
  package let threshold: Double

  /// Makes the method.
  package init(threshold: Double) { self.threshold = threshold }

  /// Asks for a factor that takes the norm below the threshold.
  package func clip(_ gradients: ParameterBlock) -> ClippingReport {
    let norm = gradients.norm
    guard norm.isFinite else { return .rejecting(norm) }
    return .scaling(norm, by: min(1, threshold / (norm + 1e-6)))
  }

  /// Nothing.
  package var state: [NamedTensor] { [] }

  /// Accepts only an empty state.
  package func restore(_ state: [NamedTensor]) throws(TrainingStateError) {
    try SavedTensors(state).finish()
  }
}

extension ParameterBlock {
  /// The Euclidean norm of all elements, summed in float64.
  package var norm: Double { sumOfSquares(UnsafeBufferPointer(elements)).squareRoot() }

  /// The Euclidean norm of every entry, summed in float64.
  package var entryNorms: [Double] {
    entries.map { sumOfSquares(UnsafeBufferPointer(slice($0))).squareRoot() }
  }
}

extension [Double] {
  /// The Euclidean norm of a whole whose parts have these norms.
  var combinedNorm: Double { reduce(0) { $0 + $1 * $1 }.squareRoot() }
}

/// The sum of the squares of `elements` in a fixed order.
func sumOfSquares(_ elements: UnsafeBufferPointer<Float>) -> Double {
  guard let start = elements.baseAddress else { return 0 }
  return Kernels.training.f32_square_sum(start, elements.count)
}

/// Multiplies every element with `factor`.
func scale(_ elements: UnsafeMutableBufferPointer<Float>, by factor: Float) {
  for index in 0..<elements.count { elements[index] *= factor }
}

/// The largest magnitude among `elements`, which are finite.
func largestMagnitude(_ elements: UnsafeBufferPointer<Float>) -> Float {
  var largest: Float = 0
  for index in 0..<elements.count { largest = max(largest, abs(elements[index])) }
  return largest
}
