import Glibc

/// How much of a masked weight a forward run still sees as training goes on.
///
/// The model computes with `w (m + (1 - m) b(t))`, and gradients reach masked weights whole: as the
/// leak `b` falls, the flow through masked weights ends little by little.
///
/// - Source: Bambhaniya et al., "Progressive Gradient Flow for Robust N:M Sparsity Training in
///   Transformers", 2024, arXiv:2402.04744.
package enum MaskLeak: Hashable, Sendable {
  /// `b = 0`: plain masks.
  case closed
  /// `b(t) = max(0, 1 - beta t)`.
  case linear(beta: Double)
  /// `b(t) = exp(-beta t)`.
  case exponential(beta: Double)

  /// The leak `time` steps after masking began.
  package func value(at time: Int) -> Double {
    switch self {
    case .closed: 0
    case .linear(let beta): max(0, 1 - beta * Double(time))
    case .exponential(let beta): exp(-beta * Double(time))
    }
  }
}
