import GraphIR
import TensorCore

/// Units matter by what the gradients of the loss with respect to their masks say.
///
/// - Source: Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019,
///   arXiv:1906.10771. Differs: the gradients are those of small parts of the data, each told apart
///   by itself, since the loss of one pair alone says nothing.
package struct FirstOrderImportance: UnitImportance {
  /// What is taken of the gradients.
  package enum Kind: String, Codable, Sendable, CaseIterable {
    /// Their magnitude: the change of the loss to first order.
    case taylor
    /// Their square: the diagonal of Fisher's information.
    case fisher
  }

  private let kind: Kind

  /// Makes the criterion.
  package init(_ kind: Kind = .fisher) { self.kind = kind }

  package func importances(
    of groups: [DependencyGroup], in graph: Graph, context: borrowing PassContext
  ) throws(PassError) -> [[Double]] {
    let scorer = try PairScorer(
      try context.requiredPairs(), of: graph, threadCount: context.threadCount)
    return try Self.importances(kind, of: groups, scorer, context: context)
  }

  /// The importances for a set that is encoded already, kept in the records of `context`.
  static func importances(
    _ kind: Kind, of groups: [DependencyGroup], _ scorer: PairScorer,
    context: borrowing PassContext
  ) throws(PassError) -> [[Double]] {
    let key = "\(kind.rawValue) \(scorer.graph.fingerprint)"
    let keys = groups.map { "\(key) \($0.name) \($0.kind.rawValue)" }
    let records = context.records
    let kept = keys.compactMap { records?.values(for: $0) }
    if kept.count == groups.count, zip(kept, groups).allSatisfy({ $0.count == $1.unitCount }) {
      return kept
    }
    let gradients = try UnitGradients(
      of: groups, scorer, context: context)
    let values = kind == .fisher ? gradients.squares() : gradients.magnitudes()
    let found = values.map { $0.map { $0.isNaN ? .infinity : $0 } }
    for (key, values) in zip(keys, found) {
      do { try records?.keep(values, for: key) } catch { throw .calibration(error) }
    }
    return found
  }
}

extension PassContext {
  /// The images and texts of the user's data.
  func requiredPairs() throws(PassError) -> PairSet {
    guard let pairs else { throw .needsData(pass: "mope") }
    do { return try pairs() } catch { throw .calibration(error) }
  }
}
