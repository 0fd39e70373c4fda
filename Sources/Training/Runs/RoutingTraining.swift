import GraphIR
import Operators
import TensorCore

/// What keeps the experts of mixtures equally busy, their routers calm and experts from learning by
/// heart, while they are trained.
///
/// - Source: Fedus et al., "Switch Transformers", JMLR 2022, arXiv:2101.03961, for the balance; Zoph
///   et al., "ST-MoE", 2022, arXiv:2202.08906, for the routers' logits.
package struct RoutingTraining: Sendable, Hashable {
  /// What the load-balancing loss of each tower is multiplied by; 0 for none.
  package var balance = 0.01
  /// What the router z-loss of each tower is multiplied by; 0 for none.
  package var routerZ = 0.001
  /// How probable it is that a number between the two products of an expert is dropped in a step.
  package var dropout = 0.0

  /// The defaults of the command line.
  package init() {}

  /// `graph` with dropout in the experts whose weights `isExpert` names.
  func applied(
    to graph: Graph, where isExpert: (String) -> Bool
  ) throws(GraphError) -> Graph {
    guard dropout > 0 else { return graph }
    return try graph.droppingOut(dropout, seed: TrainingName.dropoutSeed, where: isExpert)
  }

  /// The inputs of a graph that was ``applied(to:where:)``.
  func inputs(atStep step: Int, seed: UInt64) -> [String: Tensor] {
    guard dropout > 0 else { return [:] }
    return [TrainingName.dropoutSeed: StepSeed.dropout.tensor(seed: seed, step: step)]
  }
}

/// The mixtures of experts of a graph that is trained, and how evenly they are used.
struct RoutedLayers {
  /// The losses that join the objective.
  let options: RoutingTraining
  /// The name of each mixture and how many experts it has.
  let layers: [(name: String, expertCount: Int)]
  /// The share of the choices that each expert of each layer got in the last step.
  private(set) var loads: [[Double]] = []

  init(_ graph: Graph, _ options: RoutingTraining) {
    self.options = options
    layers = graph.expertLayers.map { ($0.name, $0.expertCount) }
  }

  /// The values that ``observe(_:)`` is told.
  var observed: [String] { layers.map { Self.loadName($0.name) } }

  private static func loadName(_ layer: String) -> String { "\(layer).load" }

  /// Adds the weighted losses, the mean over the layers of each tower, and the loads.
  ///
  /// - Returns: A scalar; nil where there are no mixtures or both weights are zero.
  func penalty(_ builder: inout GraphBuilder) throws(GraphError) -> Value? {
    let ids = builder.graph.value(named: "input_ids")
    let rule = builder.graph.endTokenRule
    var mask: Value?
    var sums: [String: (count: Int, value: Value)] = [:]
    for layer in builder.graph.expertLayers {
      let extents = builder.graph.tensorType(of: layer.logits).extents.dropLast()
      var counted: Value?
      // Behind the end of a text nothing that routing does matters.
      if let ids, let rule, Array(extents) == builder.graph.tensorType(of: ids).extents {
        if mask == nil { mask = try builder.add(TextMask(rule: rule), ids) }
        counted = mask
      }
      try addLoad(of: layer, counted, &builder)
      guard let value = try loss(of: layer, counted, &builder) else { continue }
      let tower = String(layer.name.prefix { $0 != "." })
      guard let sum = sums[tower] else {
        sums[tower] = (1, value)
        continue
      }
      sums[tower] = (sum.count + 1, try builder.sum(sum.value, value))
    }
    var total: Value?
    for (_, sum) in sums.sorted(by: { $0.key < $1.key }) {
      let mean = try builder.scaled(sum.value, by: 1 / Float(sum.count))
      total = if let total { try builder.sum(total, mean) } else { mean }
    }
    return total
  }

  private func loss(
    of layer: ExpertLayer, _ mask: Value?, _ builder: inout GraphBuilder
  ) throws(GraphError) -> Value? {
    var terms: [Value] = []
    if options.balance > 0 {
      let loss = try builder.loadBalancingLoss(
        logits: layer.logits, assignment: layer.assignment, mask: mask)
      terms.append(try builder.scaled(loss, by: Float(options.balance)))
    }
    if options.routerZ > 0 {
      let loss = try builder.routerZLoss(logits: layer.logits, mask: mask)
      terms.append(try builder.scaled(loss, by: Float(options.routerZ)))
    }
    guard let first = terms.first else { return nil }
    return terms.count == 1 ? first : try builder.sum(first, terms[1])
  }

  /// Adds how many choices each expert got.
  private func addLoad(
    of layer: ExpertLayer, _ mask: Value?, _ builder: inout GraphBuilder
  ) throws(GraphError) {
    var chosen = try builder.add(ExpertMask(experts: layer.expertCount), layer.assignment)
    if let mask {
      chosen = try builder.product(chosen, try builder.add(Broadcast(over: .last), mask, chosen))
    }
    _ = try builder.graph.addNode(Self.loadName(layer.name), Sum(over: .leading), [chosen])
  }

  /// Takes in the counts of ``observed``.
  mutating func observe(_ counts: ArraySlice<Float>) {
    var rest = counts
    loads = layers.map { layer in
      let own = rest.prefix(layer.expertCount).map { Double($0) }
      rest = rest.dropFirst(layer.expertCount)
      let total = own.reduce(0, +)
      return own.map { total > 0 ? $0 / total : .nan }
    }
  }

  /// The largest load of a layer over its mean, the worst layer's; and each expert's share.
  var measures: [(label: String, value: Double)] {
    guard !loads.isEmpty else { return [] }
    let worst = loads.map { ($0.max() ?? .nan) * Double($0.count) }.max() ?? .nan
    var measures: [(label: String, value: Double)] = [("imbalance", worst)]
    for (layer, shares) in zip(layers, loads) {
      for (expert, share) in shares.enumerated() {
        measures.append(("\(layer.name).experts.\(expert).load", share))
      }
    }
    return measures
  }
}
