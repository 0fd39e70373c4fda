/// What stands for the gradient of rounding and clipping, which has none.
///
/// With the clipped range as bounds, gradients of what lies within pass whole; the estimators differ
/// in what lies beyond.
///
/// - Source: Sakr et al., "Optimal Clipping and Magnitude-aware Differentiation for Improved
///   Quantization-aware Training", ICML 2022, arXiv:2206.06501, section 4.
package enum GradientEstimator: String, Codable, Hashable, Sendable, CaseIterable {
  /// Clipped elements learn as well: the straight-through estimator of Bengio et al.,
  /// arXiv:1308.3432.
  case straightThrough = "ste"
  /// Clipped elements learn nothing: the derivative of clipping.
  case piecewiseLinear = "pwl"
  /// Clipped elements learn with `bound / element` of the gradient: magnitude-aware differentiation.
  case magnitudeAware = "mad"
}
