import GraphIR
import TensorCore

/// The units of a graph in the order in which pruning takes them.
struct ImplantOrder {
  /// A unit by the place of its group among ``groups`` and its own in that.
  struct Place: Hashable {
    let group: Int
    let unit: Int
  }

  /// The groups of the whole graph.
  let groups: [DependencyGroup]
  /// The units that can go, the first to go first.
  private(set) var places: [Place] = []

  /// Works out who goes first, down to `lowest` of what `plan` counts.
  ///
  /// As in ``StructuredPruning``, importances are taken anew in every round; what lies beyond the
  /// plan's target comes from the last.
  init(
    _ graph: Graph, plan: StructuredPruning, lowest: Int, by importance: any UnitImportance,
    in context: borrowing PassContext
  ) throws(PassError) {
    groups = plan.groups(of: graph)
    let before = plan.cost.total(of: graph, towers: plan.towers)
    var kept = groups.map { Array(0..<$0.unitCount) }
    let floors = groups.map { max(($0.unitCount + 19) / 20, 1) }
    var current = graph
    let count = max(plan.roundCount, 1)
    for round in 1...(count + 1) {
      let isLast = round > count
      let wanted = isLast ? lowest : before - (before - plan.target) * round / count
      let budget = plan.cost.total(of: current, towers: plan.towers) - wanted
      guard budget > 0 else { continue }
      let left = plan.groups(of: current)
      let importances = try importance.importances(of: left, in: current, context: context)
      let costs: [Int]
      do { costs = try plan.cost.perUnit(of: left, in: current, towers: plan.towers) } catch {
        throw .graph(pass: plan.pass, error)
      }
      let numbers = left.map { group in
        groups.firstIndex { $0.name == group.name && $0.kind == group.kind } ?? 0
      }
      let chosen = UnitSelection(importances: importances, costs: costs, scope: plan.scope)
        .lowest(budget: budget, keeping: numbers.map { floors[$0] })
      var found: [(importance: Double, place: Place)] = []
      for (group, units) in chosen.enumerated() {
        let number = numbers[group]
        for unit in units.sorted() {
          found.append((importances[group][unit], Place(group: number, unit: kept[number][unit])))
        }
        kept[number] = kept[number].enumerated().filter { !units.contains($0.offset) }
          .map(\.element)
      }
      found.sort {
        ($0.importance, $0.place.group, $0.place.unit)
          < ($1.importance, $1.place.group, $1.place.unit)
      }
      places += found.map(\.place)
      do {
        current = try current.removing(zip(left, chosen).map { UnitRemoval(group: $0, units: $1) })
      } catch {
        throw .graph(pass: plan.pass, error)
      }
    }
  }
}
