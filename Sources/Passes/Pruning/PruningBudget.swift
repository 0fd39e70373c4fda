import GraphIR
import Operators
import TensorCore

/// How much of the pruned towers goes.
package enum PruningBudget: Hashable, Sendable {
  /// The share of what the structure names, from 0 to below 1.
  case sparsity(Double)
  /// The parameters that the towers are left with, tables that are looked up aside.
  case parameters(Int)
  /// The multiply-accumulates that one image and one text of full length are left with.
  case multiplyAccumulates(Int)
}

/// What a budget is counted in.
package enum PruningCost: Sendable {
  /// Parameters, tables that are looked up aside.
  case parameters
  /// Multiply-accumulates of one image and one text of full length.
  case multiplyAccumulates

  /// What `towers` of `graph` cost.
  package func total(of graph: Graph, towers: [Tower]) -> Int {
    switch self {
    case .parameters: graph.parameterCount(of: towers)
    case .multiplyAccumulates:
      towers.reduce(0) { $0 + graph.multiplyAccumulateCount(output: $1.outputName) }
    }
  }

  /// What goes with one unit of each of `groups`, at the present extents.
  package func perUnit(
    of groups: [DependencyGroup], in graph: Graph, towers: [Tower]
  ) throws(GraphError) -> [Int] {
    switch self {
    case .parameters: return groups.map { $0.parameterCountPerUnit(in: graph) }
    case .multiplyAccumulates:
      let whole = total(of: graph, towers: towers)
      var costs: [Int] = []
      for group in groups {
        let smaller = try graph.removing([UnitRemoval(group: group, units: [0])])
        costs.append(whole - total(of: smaller, towers: towers))
      }
      return costs
    }
  }
}
