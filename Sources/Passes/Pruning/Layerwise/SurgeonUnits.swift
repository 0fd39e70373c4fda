import GraphIR
import TensorCore

/// The optimal brain surgeon over whole units: a unit matters by what the outputs of the layer that
/// reads it lose although all other units make up for it as well as they can.
///
/// Units leave a layer one after the other, the cheapest first, and the others are measured anew,
/// so that of two units that stand in for each other only one is cheap.
///
/// - Source: Hassibi and Stork, "Second Order Derivatives for Network Pruning: Optimal Brain
///   Surgeon", NIPS 1992; Kurtić et al., "ZipLM", NeurIPS 2023, arXiv:2302.04089, for units. Differs:
///   costs of layers are compared per parameter that goes.
package struct SurgeonUnits: UnitImportance, UnitCompensation {
  /// The user's choices.
  package struct Options: Codable, Sendable, Equatable {
    /// How layers become problems of least squares.
    package var problem = LayerProblem.Options()
    /// How the layers are visited when weights are changed.
    package var walk = SequentialWalk.Options()
    /// Whether the cost of a layer is a share of the energy of its outputs.
    package var isRelative = false

    /// The defaults.
    package init() { walk.followsOriginal = true }
  }

  private let options: Options
  private let pass: String

  /// Makes the criterion; errors speak in the name of `pass`.
  package init(options: Options = Options(), pass: String = "prune") {
    self.options = options
    self.pass = pass
  }

  package func importances(
    of groups: [DependencyGroup], in graph: Graph, context: borrowing PassContext
  ) throws(PassError) -> [[Double]] {
    var owners: [String: Int] = [:]
    var weights: [Value] = []
    for (index, group) in groups.enumerated() {
      for weight in try readers(of: group, in: graph) {
        owners[graph.name(of: weight)] = index
        weights.append(weight)
      }
    }
    var importances = groups.map { [Double](repeating: 0, count: $0.unitCount) }
    guard !weights.isEmpty else { return importances }
    var walk = options.walk
    walk.isSequential = false
    let threadCount = context.threadCount
    _ = try SequentialWalk(pass: pass, options: walk).run(
      on: graph, weights: weights, in: context
    ) { layer throws(PassError) in
      guard let owner = owners[layer.weightName] else { return nil }
      let group = groups[owner]
      let problem = try LayerProblem(layer, options: options.problem, threadCount: threadCount)
      guard var surgeon = UnitSurgeon(problem, unit: group.unit) else {
        throw .unsuitable(
          pass: pass, "the inputs of \(layer.name) determine too little; more damping is needed")
      }
      var unit = 1 / Double(max(group.parameterCountPerUnit(in: graph), 1))
      if options.isRelative {
        let energy = LayerProblem.energy(
          problem.weight, problem.hessian, columns: problem.columns, threadCount: threadCount)
        unit /= max(energy, .leastNormalMagnitude)
      }
      for (place, cost) in surgeon.costsOfRemovingAll().enumerated() {
        importances[owner][place] += cost * unit
      }
      return nil
    }
    return importances
  }

  package func compensated(
    _ graph: Graph, removing removals: [UnitRemoval], in context: borrowing PassContext
  ) throws(PassError) -> Graph {
    var gone: [String: Set<Int>] = [:]
    var weights: [Value] = []
    for removal in removals where !removal.units.isEmpty {
      for weight in try readers(of: removal.group, in: graph) {
        gone[graph.name(of: weight)] = Set(removal.group.indices(of: removal.units))
        weights.append(weight)
      }
    }
    guard !weights.isEmpty else { return graph }
    let threadCount = context.threadCount
    return try SequentialWalk(pass: pass, options: options.walk).run(
      on: graph, weights: weights, in: context
    ) { layer throws(PassError) in
      guard let columns = gone[layer.weightName] else { return nil }
      guard layer.weight.quantization == nil else {
        throw .parameter(name: layer.weightName, "holds integer codes; obs changes real weights")
      }
      let problem = try LayerProblem(layer, options: options.problem, threadCount: threadCount)
      let solver = MaskedLeastSquares(
        hessian: problem.hessian, columns: problem.columns, threadCount: threadCount)
      guard let mask = problem.mask else {
        return problem.change(weights: solver.solution(problem.target, without: columns), mask: nil)
      }
      let kept = mask.indices.map { columns.contains($0 % problem.columns) ? 0 : mask[$0] }
      let solved = solver.solution(
        target: problem.target, mask: kept, startingAt: problem.target)
      return problem.change(weights: solved, mask: layer.weight.mask)
    }
  }

  /// The weights of the linear layers that read the units of `group`.
  private func readers(
    of group: DependencyGroup, in graph: Graph
  ) throws(PassError) -> [Value] {
    let linear = Set(graph.multipliedWeights)
    let readers = group.members.filter { $0.axis == 1 && linear.contains($0.parameter) }
    guard group.kind != .width, !readers.isEmpty else {
      throw .unsuitable(
        pass: pass, "obs does not measure the \(group.kind.rawValue) of \(group.name)")
    }
    return readers.map(\.parameter)
  }
}
