import GraphIR
import TensorCore

/// Takes out what is smallest: weights, patterns of weights, heads or neurons.
///
/// Weights and patterns become masks; heads and neurons leave physically, together with everything
/// coupled to them. With the method `random` chance decides instead, for comparison.
///
/// - Source: Han et al., "Learning both Weights and Connections for Efficient Neural Networks",
///   NeurIPS 2015, arXiv:1506.02626, for weights; Fang et al., CVPR 2023, arXiv:2301.12900, for
///   coupled structures. Differs: counts are exact, ties go by index.
package struct PruneMagnitude: Pass {
  package static let name = "prune-magnitude"

  /// What decides.
  package enum Method: String, Codable, Sendable, CaseIterable {
    case magnitude
    case random
  }

  /// The user's choices.
  package struct Options: Codable, Sendable {
    /// What decides.
    package var method = Method.magnitude
    /// What goes.
    package var structure: [PruningStructure] = [.weights]
    /// The share that goes, from 0 to below 1; for patterns alone it follows from the pattern.
    package var sparsity = 0.0
    /// Over what is compared; nil for what suits the structure: `layer` for weights, `global` for
    /// heads and neurons.
    package var scope: PruningScope?
    /// Which towers change.
    package var tower = TowerSelection.both

    /// The defaults of the command line.
    package init() {}
  }

  package let options: Options

  package init(options: Options = Options()) { self.options = options }

  package func run(
    on graph: consuming Graph, in context: borrowing PassContext
  ) throws(PassError) -> Graph {
    let before = graph
    let after = try pruned(before, in: context)
    let report = PruningReport(before: before, after: after, towers: options.tower.towers)
    for line in report.lines { context.report(.note(line)) }
    context.report(.result(report))
    return after
  }

  private func pruned(
    _ graph: Graph, in context: borrowing PassContext
  ) throws(PassError) -> Graph {
    try checkOptions()
    guard !graph.values(of: options.tower.towers).isEmpty else {
      throw .unsuitable(pass: Self.name, "the model has no \(options.tower.rawValue) tower")
    }
    var graph = graph
    let kinds = options.structure.compactMap(\.kind)
    if !kinds.isEmpty {
      let plan = StructuredPruning(
        pass: Self.name, kinds: kinds, sparsity: options.sparsity,
        scope: options.scope ?? .global, tower: options.tower)
      graph = try plan.apply(to: graph, by: unitImportance(context.seed), in: context)
    }
    for structure in options.structure {
      guard let masks = try masks(structure, graph, seed: context.seed) else { continue }
      for weight in graph.parameterValues {
        guard let mask = masks[weight], var parameter = graph.parameter(weight) else { continue }
        parameter.mask = mask
        do { try graph.setParameter(weight, parameter) } catch {
          throw .graph(pass: Self.name, error)
        }
      }
    }
    return graph
  }

  private func checkOptions() throws(PassError) {
    guard options.sparsity >= 0, options.sparsity < 1 else {
      throw .option(
        name: "sparsity", expected: "at least 0 and below 1", found: "\(options.sparsity)")
    }
    guard !options.structure.isEmpty else {
      throw .option(
        name: "structure", expected: "weights, heads, neurons, N:M or a list of them",
        found: "nothing")
    }
    guard Set(options.structure).count == options.structure.count else {
      throw .option(name: "structure", expected: "each kind once", found: "a repetition")
    }
    for case .pattern(let kept, let block) in options.structure {
      let implied = 1 - Double(kept) / Double(block)
      let isAlone = options.structure.count == 1
      guard !isAlone || options.sparsity == 0 || abs(options.sparsity - implied) < 1e-6 else {
        throw .option(
          name: "sparsity", expected: "\(implied), as \(kept):\(block) says, or left out",
          found: "\(options.sparsity)")
      }
    }
  }

  private func unitImportance(_ seed: UInt64) -> any UnitImportance {
    switch options.method {
    case .magnitude: MagnitudeImportance()
    case .random: RandomImportance(seed: seed)
    }
  }

  private func masks(
    _ structure: PruningStructure, _ graph: Graph, seed: UInt64
  ) throws(PassError) -> [Value: Tensor]? {
    let importance: any ElementImportance =
      switch options.method {
      case .magnitude: MagnitudeImportance()
      case .random: RandomImportance(seed: seed)
      }
    let chooser = WeightMasks(importance)
    let weights = graph.prunableWeights(of: options.tower.towers)
    if structure.kind == nil, weights.isEmpty {
      throw .unsuitable(pass: Self.name, "the model has no weights between two of its layers")
    }
    switch structure {
    case .weights:
      switch options.scope ?? .layer {
      case .layer: return try chooser.perLayer(weights, in: graph, sparsity: options.sparsity)
      case .global: return try chooser.global(weights, in: graph, sparsity: options.sparsity)
      }
    case .pattern(let kept, let block):
      return try chooser.pattern(weights, in: graph, keeping: kept, of: block)
    case .heads, .neurons: return nil
    }
  }
}

extension Graph {
  /// The weights of `towers` whose single elements may go: those between two coupled axes.
  ///
  /// Embeddings and projections into the joint space face an input or an output of the model with
  /// one axis; what they lose, nothing within the tower makes up for.
  package func prunableWeights(of towers: [Tower]) -> [Value] {
    let wanted = values(of: towers)
    let coupled = Set(dependencyGroups().flatMap(\.members))
    return multipliedWeights.filter { weight in
      wanted.contains(weight)
        && (0..<tensorType(of: weight).rank).allSatisfy { axis in
          coupled.contains(.init(parameter: weight, axis: axis))
        }
    }
  }
}
