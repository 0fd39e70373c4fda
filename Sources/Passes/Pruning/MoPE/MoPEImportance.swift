import GraphIR
import TensorCore

/// Units matter by how much worse a model tells images and texts apart without them.
///
/// Heads are taken out one by one. Neurons are sorted by the squared gradient of their masks, cut
/// into groups of equal size, and taken out a group at a time; what a group is worth is shared out
/// among its neurons in proportion to the squares, so that groups are ranked by what was measured
/// and neurons within one by the gradient.
///
/// - Source: Lin et al., "MoPE-CLIP: Structured Pruning for Efficient Vision-Language Models with
///   Module-wise Pruning Error Metric", CVPR 2024, arXiv:2403.07839.
package struct MoPEImportance: UnitImportance, LayerImportance {
  /// What declines when a module is taken out.
  package enum Metric: String, Codable, Sendable, CaseIterable {
    /// Right answers less a tenth of the loss.
    case value
    /// The negated loss.
    case loss
    /// Agreement with the whole model, the negated divergence of its probabilities.
    case agreement
  }

  /// The user's choices.
  package struct Options: Codable, Sendable {
    /// What declines.
    package var metric = Metric.agreement
    /// Into how many groups the neurons of a layer are cut.
    package var neuronGroups = 12
    /// Whether a decline counts for each parameter that goes, and not for each unit.
    package var isPerParameter = true

    /// The defaults.
    package init() {}
  }

  private let options: Options

  /// Makes the criterion.
  package init(options: Options = Options()) { self.options = options }

  package func importances(
    of groups: [DependencyGroup], in graph: Graph, context: borrowing PassContext
  ) throws(PassError) -> [[Double]] {
    let scorer = try PairScorer(
      try context.requiredPairs(), of: graph, threadCount: context.threadCount)
    let proxies = try FirstOrderImportance.importances(
      .fisher, of: groups, scorer, context: context)
    var modules: [PrunedModule] = []
    var places: [(group: Int, units: [Int])] = []
    for (index, group) in groups.enumerated() {
      let tower = try Self.tower(of: group, in: graph)
      for (number, units) in chunks(group, proxies[index]).enumerated() {
        let name = "\(group.name) \(group.kind.rawValue) \(number) of \(options.neuronGroups)"
        places.append((index, units))
        modules.append(
          PrunedModule(
            name: name, tower: tower, removals: [UnitRemoval(group: group, units: Set(units))]))
      }
    }
    let scores = try MoPESweep(scorer).scores(without: modules, context: context)
    var importances = groups.map { [Double](repeating: 0, count: $0.unitCount) }
    for (place, score) in zip(places, scores) {
      var decline = decline(from: scorer.dense, to: score)
      if options.isPerParameter {
        let cost = groups[place.group].parameterCountPerUnit(in: graph)
        decline /= Double(max(cost, 1))
      }
      let shares = Self.shares(place.units.map { proxies[place.group][$0] }, isLoss: decline > 0)
      for (unit, share) in zip(place.units, shares) {
        importances[place.group][unit] = decline.isInfinite ? decline : decline * share
      }
    }
    return importances
  }

  package func importances(
    ofLayers layers: [PrunableLayer], in graph: Graph, context: borrowing PassContext
  ) throws(PassError) -> [Double] {
    let scorer = try PairScorer(
      try context.requiredPairs(), of: graph, threadCount: context.threadCount)
    let modules = layers.map {
      PrunedModule(name: "layer \($0.name)", tower: $0.tower, removals: $0.removals)
    }
    let scores = try MoPESweep(scorer).scores(without: modules, context: context)
    return zip(layers, scores).map { layer, score in
      let decline = decline(from: scorer.dense, to: score)
      guard options.isPerParameter else { return decline }
      let cost = layer.groups.reduce(0) {
        $0 + $1.unitCount * $1.parameterCountPerUnit(in: graph)
      }
      return decline / Double(max(cost, 1))
    }
  }

  /// The units that are taken out together.
  private func chunks(_ group: DependencyGroup, _ proxies: [Double]) -> [[Int]] {
    guard group.kind == .neurons else { return (0..<group.unitCount).map { [$0] } }
    let order = proxies.indices.sorted { (proxies[$0], $0) < (proxies[$1], $1) }
    let count = min(max(options.neuronGroups, 1), order.count)
    return (0..<count).map { part in
      Array(order[(order.count * part / count)..<(order.count * (part + 1) / count)])
    }
  }

  /// What a module is worth; without a number, it is not to be touched.
  private func decline(from dense: PairScore, to score: PairScore) -> Double {
    let decline =
      switch options.metric {
      case .value: dense.value - score.value
      case .loss: score.loss - dense.loss
      case .agreement: score.divergence
      }
    return decline.isNaN ? .infinity : decline
  }

  /// How what a group is worth falls to its units: factors whose sum is one; what is gained without
  /// the group falls to those that matter least.
  private static func shares(_ proxies: [Double], isLoss: Bool) -> [Double] {
    let largest = proxies.max() ?? 0
    let smallest = proxies.min() ?? 0
    guard largest.isFinite else { return proxies.map { _ in 1 / Double(proxies.count) } }
    let weights = isLoss ? proxies : proxies.map { largest + smallest - $0 }
    let sum = weights.reduce(0, +)
    guard sum > 0 else { return proxies.map { _ in 1 / Double(proxies.count) } }
    return weights.map { $0 / sum }
  }

  private static func tower(
    of group: DependencyGroup, in graph: Graph
  ) throws(PassError) -> Tower {
    for tower in Tower.allCases {
      let members = graph.values(of: tower)
      if group.members.allSatisfy({ members.contains($0.parameter) }) { return tower }
    }
    throw .unsuitable(pass: "mope", "\(group.name) belongs to both towers")
  }
}
