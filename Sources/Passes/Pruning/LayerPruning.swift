import GraphIR
import TensorCore

/// A block of a tower: the groups of units whose removal leaves only its residual connection.
package struct PrunableLayer: Sendable {
  /// What the names of the groups begin with.
  package let name: String
  /// Where it stands.
  package let tower: Tower
  /// Its heads and neurons, as many of both as are left.
  package let groups: [DependencyGroup]

  /// The removal of all of it.
  package var removals: [UnitRemoval] {
    groups.map { UnitRemoval(group: $0, units: Set(0..<$0.unitCount)) }
  }

  /// The removal of all of the layer.
  package init(name: String, tower: Tower, groups: [DependencyGroup]) {
    self.name = name
    self.tower = tower
    self.groups = groups
  }
}

/// Says how much whole layers matter.
package protocol LayerImportance: Sendable {
  /// The importance of each of `layers`, none of them NaN, the higher the better kept.
  func importances(
    ofLayers layers: [PrunableLayer], in graph: Graph, context: borrowing PassContext
  ) throws(PassError) -> [Double]
}

/// A layer matters as much as its units together.
package struct SummedImportance: LayerImportance {
  private let units: any UnitImportance

  /// Sums what `units` says.
  package init(_ units: any UnitImportance) { self.units = units }

  package func importances(
    ofLayers layers: [PrunableLayer], in graph: Graph, context: borrowing PassContext
  ) throws(PassError) -> [Double] {
    let all = try units.importances(
      of: layers.flatMap(\.groups), in: graph, context: context)
    var sums: [Double] = []
    var place = 0
    for layer in layers {
      sums.append(all[place..<(place + layer.groups.count)].joined().reduce(0, +))
      place += layer.groups.count
    }
    return sums
  }
}

/// Takes whole layers out, one at a time and each time the one that matters least.
///
/// - Source: greedy removal with scores taken anew, as Lin et al., "MoPE-CLIP", CVPR 2024,
///   arXiv:2403.07839, prune depth after width.
package struct LayerPruning: Sendable {
  /// The pass in whose name errors speak.
  package let pass: String
  /// What ``target`` is counted in.
  package let cost: PruningCost
  /// What the towers shall cost in the end.
  package let target: Int
  /// The towers that lose layers.
  package let towers: [Tower]

  /// Plans a removal.
  package init(pass: String, cost: PruningCost, target: Int, towers: [Tower]) {
    self.pass = pass
    self.cost = cost
    self.target = target
    self.towers = towers
  }

  /// The graph without the layers of lowest importance, whose cost comes as close to the target as
  /// whole layers can.
  ///
  /// Every tower keeps one layer.
  ///
  /// - Throws: ``PassError`` when the layers that may go are less than what has to.
  package func apply(
    to graph: Graph, by importance: any LayerImportance, in context: borrowing PassContext
  ) throws(PassError) -> Graph {
    let before = max(cost.total(of: graph, towers: towers), 1)
    var graph = graph
    while true {
      let left = cost.total(of: graph, towers: towers)
      guard left > target else { return graph }
      let layers = removable(from: graph)
      guard !layers.isEmpty else {
        func share(_ rest: Int) -> Double {
          1 - (Double(rest) / Double(before) * 1e3).rounded() / 1e3
        }
        throw .option(
          name: "sparsity",
          expected: "at most \(share(left)), all layers but one of each tower",
          found: "\(share(target))")
      }
      let importances = try importance.importances(
        ofLayers: layers, in: graph, context: context)
      guard let least = layers.indices.min(by: { (importances[$0], $0) < (importances[$1], $1) })
      else { return graph }
      var smaller: Graph
      do { smaller = try graph.removing(layers[least].removals) } catch {
        throw .graph(pass: pass, error)
      }
      smaller = try FoldEmptyBranches().run(on: smaller, in: context)
      let next = cost.total(of: smaller, towers: towers)
      guard target - next <= left - target else { return graph }
      context.report(.note("\(layers[least].name) goes: \(next) of \(left) are left"))
      graph = smaller
    }
  }

  /// The layers of the towers that have two or more.
  private func removable(from graph: Graph) -> [PrunableLayer] {
    let all = graph.prunableLayers(of: towers)
    return all.filter { layer in all.count { $0.tower == layer.tower } > 1 }
  }
}

extension Graph {
  /// The layers of `towers`, in order.
  package func prunableLayers(of towers: [Tower]) -> [PrunableLayer] {
    var layers: [PrunableLayer] = []
    for tower in towers {
      let wanted = values(of: tower)
      var names: [String] = []
      var groups: [String: [DependencyGroup]] = [:]
      for group in dependencyGroups() where group.kind != .width {
        guard group.members.allSatisfy({ wanted.contains($0.parameter) }) else { continue }
        // Groups are named after what their parameters share: a branch within a layer.
        let name = group.name.split(separator: ".").dropLast().joined(separator: ".")
        if groups[name] == nil { names.append(name) }
        groups[name, default: []].append(group)
      }
      layers += names.map { PrunableLayer(name: $0, tower: tower, groups: groups[$0] ?? []) }
    }
    return layers
  }
}
