import GraphIR
import TensorCore

/// Takes whole units out of dependency groups until no more than a target is left.
package struct StructuredPruning: Sendable {
  /// The pass in whose name errors speak.
  package let pass: String
  /// The kinds of groups that lose units.
  package let kinds: [DependencyGroup.Kind]
  /// What ``target`` is counted in.
  package let cost: PruningCost
  /// What the towers shall cost in the end.
  package let target: Int
  /// Over what units are compared.
  package let scope: PruningScope
  /// The towers that lose units.
  package let towers: [Tower]
  /// In how many steps of equal size the units go, each with importances of its own: scores taken
  /// one unit at a time say nothing of what units are worth once others have gone.
  package var roundCount = 1

  /// Plans a removal.
  package init(
    pass: String, kinds: [DependencyGroup.Kind], cost: PruningCost = .parameters, target: Int,
    scope: PruningScope, towers: [Tower]
  ) {
    self.pass = pass
    self.kinds = kinds
    self.cost = cost
    self.target = target
    self.scope = scope
    self.towers = towers
  }

  /// The share of its units that a group keeps where the target allows it.
  private static let keptShare = 0.05

  /// The groups of `graph` that may lose units.
  package func groups(of graph: Graph) -> [DependencyGroup] {
    let wanted = graph.values(of: towers)
    return graph.dependencyGroups().filter { group in
      kinds.contains(group.kind) && group.members.allSatisfy { wanted.contains($0.parameter) }
    }
  }

  /// The graph without the units of lowest importance, and without branches that become empty.
  ///
  /// Where layers need not end to meet the target, each keeps at least a twentieth of the units it
  /// has before.
  ///
  /// - Throws: ``PassError`` when all units together are less than what has to go.
  package func apply(
    to graph: Graph, by importance: any UnitImportance,
    compensation: (any UnitCompensation)? = nil, in context: borrowing PassContext
  ) throws(PassError) -> Graph {
    let before = cost.total(of: graph, towers: towers)
    let floors = try floors(of: graph, context)
    var graph = graph
    for round in 1...max(roundCount, 1) {
      let wanted = before - (before - target) * round / max(roundCount, 1)
      let budget = cost.total(of: graph, towers: towers) - wanted
      guard budget > 0 else { continue }
      let removals = try removals(of: budget, from: graph, floors, by: importance, in: context)
      if let compensation {
        graph = try compensation.compensated(graph, removing: removals, in: context)
      }
      do { graph = try graph.removing(removals) } catch { throw .graph(pass: pass, error) }
      graph = try FoldEmptyBranches().run(on: graph, in: context)
      if roundCount > 1 {
        let left = cost.total(of: graph, towers: towers)
        context.report(.note("round \(round) of \(roundCount): \(left) of \(before) are left"))
      }
    }
    return graph
  }

  /// How many units each group, by name and kind, must keep.
  private func floors(
    of graph: Graph, _ context: borrowing PassContext
  ) throws(PassError) -> [GroupKey: Int] {
    let groups = groups(of: graph)
    let before = cost.total(of: graph, towers: towers)
    guard !groups.isEmpty || target >= before else {
      let names = kinds.map(\.rawValue).joined(separator: " or ")
      throw .unsuitable(pass: pass, "the model has no \(names) left to take out")
    }
    let costs = try unitCosts(groups, graph)
    func removable(_ kept: [Int]) -> Int {
      groups.indices.reduce(0) { $0 + (groups[$1].unitCount - kept[$1]) * costs[$1] }
    }
    var kept = groups.map { group in
      // A channel of the residual stream is read everywhere: a tower cannot do without any.
      max(Int((Self.keptShare * Double(group.unitCount)).rounded(.up)), 1)
    }
    if removable(kept) < before - target {
      kept = groups.map { $0.kind == .width ? 1 : 0 }
      guard removable(kept) >= before - target else {
        let most = Double(removable(kept)) / Double(max(before, 1))
        throw .option(
          name: "sparsity",
          expected: "at most \((most * 1000).rounded(.down) / 1000), all that is in "
            + kinds.map(\.rawValue).joined(separator: " and "),
          found: "\((Double(before - target) / Double(max(before, 1)) * 1e4).rounded() / 1e4)")
      }
      context.report(.warning("the target leaves some layers without any unit"))
    }
    return Dictionary(zip(groups.map(GroupKey.init), kept)) { first, _ in first }
  }

  private func removals(
    of budget: Int, from graph: Graph, _ floors: [GroupKey: Int],
    by importance: any UnitImportance, in context: borrowing PassContext
  ) throws(PassError) -> [UnitRemoval] {
    let groups = groups(of: graph)
    let importances = try importance.importances(of: groups, in: graph, context: context)
    context.report(.result(UnitScores(groups, importances)))
    let selection = UnitSelection(
      importances: importances, costs: try unitCosts(groups, graph), scope: scope)
    let chosen = selection.lowest(
      budget: budget, keeping: groups.map { floors[GroupKey($0)] ?? 0 })
    return zip(groups, chosen).map { UnitRemoval(group: $0, units: $1) }
  }

  private func unitCosts(_ groups: [DependencyGroup], _ graph: Graph) throws(PassError) -> [Int] {
    do { return try cost.perUnit(of: groups, in: graph, towers: towers) } catch {
      throw .graph(pass: pass, error)
    }
  }
}

/// What stays of a group while its units go.
private struct GroupKey: Hashable {
  let name: String
  let kind: DependencyGroup.Kind

  init(_ group: DependencyGroup) {
    name = group.name
    kind = group.kind
  }
}

/// What a criterion said of every unit: for pictures of where a model is sensitive.
package struct UnitScores: Codable, Sendable {
  /// The units of one group.
  package struct Row: Codable, Sendable {
    /// The group's name.
    package let layer: String
    /// `heads`, `neurons` or `width`.
    package let kind: String
    /// The importance of each unit.
    package let importances: [Double]
  }

  /// A row for each group.
  package let rows: [Row]

  init(_ groups: [DependencyGroup], _ importances: [[Double]]) {
    rows = zip(groups, importances).map {
      Row(layer: $0.name, kind: $0.kind.rawValue, importances: $1)
    }
  }
}
