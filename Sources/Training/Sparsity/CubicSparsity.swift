/// How the share of weights that are gone rises over a run: fast at first, then ever slower.
///
/// `s(t) = s_f + (s_i - s_f) (1 - (t - t_0) / n)³` for `t` in `t_0...t_0 + n`, constant outside.
///
/// - Source: Zhu and Gupta, "To prune, or not to prune", ICLR 2018 workshop, arXiv:1710.01878.
package struct CubicSparsity: Hashable, Sendable {
  /// The share before the ramp, `s_i`.
  package let initial: Double
  /// The share after it, `s_f`.
  package let final: Double
  /// The step with which the ramp begins, `t_0`.
  package let start: Int
  /// The steps of the ramp, `n`.
  package let length: Int

  /// Describes a ramp; one without steps is a jump.
  package init(from initial: Double = 0, to final: Double, start: Int, length: Int) {
    self.initial = initial
    self.final = final
    self.start = start
    self.length = length
  }

  /// The share that is gone at `step`.
  package func sparsity(atStep step: Int) -> Double {
    guard step < start + length else { return final }
    let rest = 1 - Double(max(step - start, 0)) / Double(length)
    return final + (initial - final) * rest * rest * rest
  }
}
