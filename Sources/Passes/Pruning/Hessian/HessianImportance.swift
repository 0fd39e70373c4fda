import GraphIR
import TensorCore

/// A unit matters by what the loss's second derivatives say its removal costs.
///
/// `sensitivity(g) = Tr(H_gg) / p_g · |w_g|²` for the `p_g` parameters `w_g` of a unit, over the
/// coupled slices of all tensors: twice the second-order estimate of the rise of the loss when the
/// block of the Hessian is taken as a multiple of the identity.
///
/// - Source: Yu et al., "Hessian-Aware Pruning and Optimal Neural Implant", WACV 2022,
///   arXiv:2101.08940.
package struct HessianImportance: UnitImportance {
  /// What units are ordered by.
  package enum Ordering: String, Codable, Sendable, CaseIterable {
    /// The sensitivity of a unit.
    case sensitivity
    /// The sensitivity for each parameter that goes with the unit.
    case perParameter = "per-parameter"
  }

  /// What becomes of a negative estimate.
  package enum NegativeTraces: String, Codable, Sendable, CaseIterable {
    /// It counts as zero.
    case clamp
    /// It counts as it is, so that the unit goes first: as the paper's code does.
    case keep
  }

  /// The user's choices.
  package struct Options: Codable, Sendable {
    /// How traces are estimated.
    package var traces = HessianTraces.Options()
    /// What units are ordered by.
    package var ordering = Ordering.perParameter
    /// What becomes of a negative estimate.
    package var negativeTraces = NegativeTraces.clamp

    /// The usual choices.
    package init() {}
  }

  /// The choices.
  package let options: Options

  /// What errors call the pass that asks.
  static let passName = "prune"

  /// Makes the criterion.
  package init(_ options: Options = Options()) { self.options = options }

  package func importances(
    of groups: [DependencyGroup], in graph: Graph, context: borrowing PassContext
  ) throws(PassError) -> [[Double]] {
    let estimates = try sensitivities(of: groups, in: graph, context: context)
    let lowest = try options.negativeTraces == .keep ? estimates : clamped(estimates, context)
    guard options.ordering == .perParameter else { return lowest }
    return zip(groups, lowest).map { group, units in
      let cost = Double(max(group.parameterCountPerUnit(in: graph), 1))
      return units.map { $0 / cost }
    }
  }

  /// `Tr(H_gg) / p_g · |w_g|²` of each unit of each of `groups`, negative where the trace is.
  package func sensitivities(
    of groups: [DependencyGroup], in graph: Graph, context: borrowing PassContext
  ) throws(PassError) -> [[Double]] {
    guard let lend = context.pairs else { throw .needsData(pass: "hap") }
    let pairs: PairSet
    do { pairs = try lend() } catch { throw .calibration(error) }
    let estimator = try HessianEstimator(
      groups: groups, in: graph, pairs: pairs, options: options.traces, context: context)
    let traces = try estimator.run(in: context)
    let means = options.traces.shrinks ? traces.shrunkenMeans : traces.means
    let squares = try MagnitudeImportance().importances(of: groups, in: graph, context: context)
    return groups.indices.map { index in
      let count = Double(max(groups[index].parameterCountPerUnit(in: graph), 1))
      // A dead unit has no square, hence no sensitivity, whatever its trace.
      return zip(means[index], squares[index]).map { $0 / count * $1 }
    }
  }

  private func clamped(
    _ estimates: [[Double]], _ context: borrowing PassContext
  ) throws(PassError) -> [[Double]] {
    let all = estimates.joined()
    let negative = all.count { $0 < 0 }
    if negative * 100 > all.count {
      context.report(
        .warning(
          "\(negative) of \(all.count) units have a negative trace and count as without effect; "
            + "the distillation loss has none, and more probes or images leave fewer"))
    }
    return estimates.map { $0.map { max($0, 0) } }
  }
}
