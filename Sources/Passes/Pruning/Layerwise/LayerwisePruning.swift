import GraphIR
import TensorCore

/// Prunes linear layers one after the other by what they read on calibration data.
package struct LayerwisePruning: Sendable {
  /// What decides and what becomes of the rest.
  package enum Method: String, Codable, Sendable, CaseIterable {
    /// ``Wanda``.
    case wanda
    /// ``SparseGPT``.
    case sparsegpt
    /// ``NetTrim``.
    case netTrim = "net-trim"
  }

  /// The user's choices.
  package struct Options: Codable, Sendable, Equatable {
    /// How the layers are visited.
    package var walk = SequentialWalk.Options()
    /// How a layer becomes a problem of least squares.
    package var problem = LayerProblem.Options()
    /// What SparseGPT does.
    package var sparseGPT = SparseGPT.Options()
    /// What Net-Trim does.
    package var netTrim = NetTrim.Options()

    /// The defaults: layers answer as the original ones do, whatever became of their inputs.
    package init() { walk.followsOriginal = true }
  }

  /// What decides.
  package let method: Method
  /// The user's choices.
  package let options: Options
  /// The pass in whose name errors speak.
  package let pass: String

  /// Plans to prune by `method`.
  package init(method: Method, options: Options = Options(), pass: String = "prune") {
    self.method = method
    self.options = options
    self.pass = pass
  }

  /// The graph with masks over the prunable weights of `tower` and with what `method` makes of the
  /// weights that stay.
  ///
  /// `structure` is `weights` or a pattern; `sparsity` is the share that goes, patterns have their
  /// own; with `scope` `layer` every layer loses the same share, otherwise one threshold over all
  /// layers says how much each loses.
  ///
  /// - Throws: ``PassError`` when data are missing, `structure` is of units, or a layer does not
  ///   allow what is asked.
  package func apply(
    to graph: Graph, structure: PruningStructure, sparsity: Double, scope: PruningScope = .layer,
    tower: TowerSelection, in context: borrowing PassContext
  ) throws(PassError) -> Graph {
    let weights = graph.prunableWeights(of: tower.towers).filter {
      (graph.parameter($0)?.tensor.count ?? 0) > 0
    }
    guard !weights.isEmpty else {
      throw .unsuitable(pass: pass, "the model has no weights between two of its layers")
    }
    for weight in weights where graph.parameter(weight)?.quantization != nil && method != .wanda {
      throw .parameter(
        name: graph.name(of: weight), "holds integer codes; \(method.rawValue) changes real weights"
      )
    }
    let goals = try goals(weights, graph, structure, sparsity, scope, in: context)
    let solver = solver
    let threadCount = context.threadCount
    var rows: [LayerwiseReport.Row] = []
    let pruned = try SequentialWalk(pass: pass, options: walk).run(
      on: graph, weights: weights, in: context
    ) { layer throws(PassError) in
      guard let goal = goals[layer.weightName] else { return nil }
      let problem = try LayerProblem(layer, options: problemOptions, threadCount: threadCount)
      let solution = try solver.solution(of: problem, goal)
      rows.append(.init(layer: layer.weightName, problem, solution))
      let mask = Tensor(shape: layer.weight.tensor.shape, solution.mask)
      guard method != .wanda else {
        var weight = layer.weight
        weight.mask = mask
        return LayerChange(weight: weight)
      }
      return problem.change(weights: solution.weights, mask: mask)
    }
    let report = LayerwiseReport(rows: rows)
    for line in report.lines { context.report(.note(line)) }
    context.report(.result(report))
    return pruned
  }

  private var solver: any LayerMethod {
    switch method {
    case .wanda: Wanda()
    case .sparsegpt: SparseGPT(options: options.sparseGPT)
    case .netTrim: NetTrim(options: options.netTrim)
    }
  }

  /// Wanda takes inputs and biases as they are.
  private var walk: SequentialWalk.Options {
    var walk = options.walk
    if method == .wanda { walk.followsOriginal = false }
    return walk
  }

  private var problemOptions: LayerProblem.Options {
    var problem = options.problem
    if method == .wanda { problem.correctsBias = false }
    return problem
  }

  private func goals(
    _ weights: [Value], _ graph: Graph, _ structure: PruningStructure, _ sparsity: Double,
    _ scope: PruningScope, in context: borrowing PassContext
  ) throws(PassError) -> [String: LayerGoal] {
    var goals: [String: LayerGoal] = [:]
    switch structure {
    case .heads, .neurons, .width, .layers, .tiles:
      throw .option(
        name: "structure", expected: "weights or N:M for \(method.rawValue)",
        found: "\(structure)")
    case .pattern(let kept, let block):
      for weight in weights {
        let width = graph.parameter(weight)?.tensor.shape.last ?? 0
        guard width % block == 0 else {
          throw .option(
            name: "structure \(structure)",
            expected: "a block length that divides the input axis of \(graph.name(of: weight))",
            found: "\(width) inputs")
        }
        goals[graph.name(of: weight)] = .pattern(kept: kept, block: block)
      }
    case .weights:
      guard sparsity >= 0, sparsity < 1 else {
        throw .option(
          name: "sparsity", expected: "at least 0 and below 1", found: "\(sparsity)")
      }
      if scope == .global {
        return try SparsityAllocation(pass: pass, method: method, problem: problemOptions).goals(
          for: weights, of: graph, sparsity: sparsity, in: context)
      }
      for weight in weights {
        let count = graph.parameter(weight)?.tensor.count ?? 0
        goals[graph.name(of: weight)] = .count(WeightMasks.prunedCount(sparsity, of: count))
      }
    }
    return goals
  }
}
