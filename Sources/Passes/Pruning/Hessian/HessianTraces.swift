import GraphIR
import TensorCore

/// Estimates of the traces of the diagonal blocks of a loss's second derivatives, unit by unit.
///
/// A probe is one random direction on one part of the pairs. Parts take turns, each with a direction
/// of its own: a sweep over all parts estimates the traces over all pairs for the price of a single
/// direction, and with less variance.
///
/// - Source: Yu et al., "Hessian-Aware Pruning and Optimal Neural Implant", WACV 2022,
///   arXiv:2101.08940; Yao et al., "PyHessian", arXiv:1912.07145, for the stopping rule. Differs:
///   parts of the data, each with its own direction.
package struct HessianTraces: Sendable {
  /// What a probe does.
  package enum Probe: String, Codable, Sendable, CaseIterable {
    /// Hutchinson's: `<v_g, (H v)_g>` for random signs `v` over all parameters at once, with an
    /// exact product. Its variance has the products of a unit with all others in it.
    case product
    /// `|B_gᵀ r|²` for random signs `r` and `H = B Bᵀ`, where `B` is the Jacobian of the logits,
    /// transposed, times a root of the second derivatives by the logits: Hutchinson's for the
    /// smaller side of the product. Its variance has a unit's own block alone in it, and it is
    /// never negative. For ``PairLoss/Targets/distillation`` alone, whose Hessian is that product.
    case factor
  }

  /// How traces are estimated.
  package struct Options: Codable, Sendable {
    /// What the distributions of the loss's targets are.
    package var targets = PairLoss.Targets.distillation
    /// What a probe does; nil for the one of less variance that the targets allow.
    package var probe: Probe?
    /// Directions at most.
    package var maximumProbeCount = 64
    /// Directions at least, made up to whole sweeps over the parts.
    package var minimumProbeCount = 16
    /// Images at most.
    package var imageCount = 512
    /// Images of a part at most.
    package var partImageCount = 32
    /// Texts of a part at most, but one for each candidate of its images.
    package var textLimit = 128
    /// The share of the units about to go, near which precision counts; nil where that of the sum
    /// over all units counts.
    package var share: Double?
    /// Whether the traces of a group are drawn to their mean as far as they differ by chance alone.
    package var shrinks = true

    /// The usual choices.
    package init() {}
  }

  /// For each group and unit the mean of the probes.
  package private(set) var means: [[Double]]
  /// For each group and unit the standard error of the mean, zero for a single probe.
  package private(set) var standardErrors: [[Double]]
  /// How many probes there were.
  package private(set) var probeCount = 0
  private var squares: [[Double]]

  /// Begins with no probe.
  package init(unitCounts: [Int]) {
    means = unitCounts.map { [Double](repeating: 0, count: $0) }
    standardErrors = means
    squares = means
  }

  /// Takes in what a probe gave, for each group and unit.
  package mutating func add(_ probe: [[Double]]) {
    probeCount += 1
    let count = Double(probeCount)
    for (group, units) in probe.enumerated() {
      for (unit, trace) in units.enumerated() {
        let step = trace - means[group][unit]
        means[group][unit] += step / count
        squares[group][unit] += step * (trace - means[group][unit])
        let variance = count > 1 ? squares[group][unit] / (count - 1) : 0
        standardErrors[group][unit] = (variance / count).squareRoot()
      }
    }
  }

  /// The sum of all means.
  package var total: Double { means.joined().reduce(0, +) }

  /// The means, in each group drawn to their own mean by the share of their spread that the standard
  /// errors explain.
  ///
  /// - Source: Efron and Morris, "Stein's Estimation Rule and Its Competitors", Journal of the
  ///   American Statistical Association 68, 1973.
  package var shrunkenMeans: [[Double]] {
    zip(means, standardErrors).map { means, errors in
      guard means.count > 1 else { return means }
      let count = Double(means.count)
      let center = means.reduce(0, +) / count
      let spread = means.reduce(0) { $0 + ($1 - center) * ($1 - center) } / (count - 1)
      let noise = errors.reduce(0) { $0 + $1 * $1 } / count
      let kept = spread > noise ? 1 - noise / spread : 0
      return means.map { center + kept * ($0 - center) }
    }
  }

  /// Whether the units near the cut stand still: among the tenth of all units around the place
  /// `share` of their order, the median standard error is below a fifth of the span of the means.
  package func isPrecise(atShare share: Double) -> Bool {
    var units: [(mean: Double, error: Double)] = []
    for (means, errors) in zip(means, standardErrors) { units += zip(means, errors).map { $0 } }
    guard units.count > 1 else { return true }
    units.sort { $0.mean < $1.mean }
    let cut = min(max(Int(share * Double(units.count)), 0), units.count - 1)
    let reach = max(units.count / 20, 1)
    let near = units[max(cut - reach, 0)...min(cut + reach, units.count - 1)]
    let span = (near.last?.mean ?? 0) - (near.first?.mean ?? 0)
    let errors = near.map(\.error).sorted()
    return errors[errors.count / 2] < 0.2 * span
  }
}
