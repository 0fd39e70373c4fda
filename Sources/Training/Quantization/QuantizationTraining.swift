import Operators

/// How a student is trained whose weights, and maybe activations, are integer codes.
package struct QuantizationTraining: Hashable, Sendable {
  /// Where the ranges of codes come from while weights change.
  package enum ClipUpdate: String, Hashable, Sendable, CaseIterable {
    /// At every step from the weights and from the batch's activations, by least expected error.
    case octav
    /// They stay what they are in the student.
    case fixed
  }

  /// Where ranges come from.
  package var clipUpdate = ClipUpdate.octav
  /// How gradients reach clipped weights.
  package var weightEstimator = GradientEstimator.magnitudeAware
  /// How gradients reach clipped activations.
  package var activationEstimator = GradientEstimator.piecewiseLinear

  /// The paper's choices: magnitude-aware for weights, piecewise linear for activations.
  package init() {}
}
