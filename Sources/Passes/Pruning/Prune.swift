import GraphIR
import Operators
import TensorCore

/// Takes out of a model what matters least to it.
///
/// Weights and patterns become masks; heads, neurons, channels and layers leave physically, together
/// with everything coupled to them. What matters is for ``PruningMethod`` to say.
///
/// - Source: for coupled structures Fang et al., "DepGraph: Towards Any Structural Pruning",
///   CVPR 2023, arXiv:2301.12900; the methods cite theirs. Differs: counts are exact, ties go by
///   index.
package struct Prune: Pass {
  package static let name = "prune"

  /// The user's choices.
  package struct Options: Codable, Sendable {
    /// What decides.
    package var method = PruningMethod.magnitude
    /// What goes.
    package var structure: [PruningStructure] = [.weights]
    /// The share that goes, from 0 to below 1; for patterns alone it follows from the pattern.
    package var sparsity = 0.0
    /// The share that goes of the image tower, where each tower has its own.
    package var imageSparsity: Double?
    /// The share that goes of the text tower, where each tower has its own.
    package var textSparsity: Double?
    /// Instead of a share: the parameters that the towers are left with, tables that are looked up
    /// aside.
    package var targetParameters: Int?
    /// Instead of a share: the multiply-accumulates that one image and one text of full length are
    /// left with.
    package var targetMacs: Int?
    /// Over what is compared; nil for what suits the structure: `layer` for weights, `global` for
    /// units.
    package var scope: PruningScope?
    /// Which towers change.
    package var tower = TowerSelection.both
    /// In how many steps units go, with importances taken anew; nil for what suits the method.
    package var rounds: Int?
    /// How module-wise pruning errors are measured.
    package var mope = MoPEImportance.Options()
    /// How second derivatives are estimated.
    package var hessian = HessianImportance.Options()
    /// Whether the weights that stay make up for units that go, by least squares on what the layers
    /// read; nil for the methods that measure the model on data anyway, unless it is quantized.
    package var compensates: Bool?
    /// How units are made up for.
    package var surgeon = SurgeonUnits.Options()
    /// How units that matter moderately are replaced by something of low rank; nil where all that
    /// goes goes whole.
    package var implant: NeuralImplant.Options?
    /// How masks are learned; sparsity and scope are those of the pass.
    package var maskTuning = MaskTuning.Options()
    /// How layers are pruned one after the other.
    package var layerwise = LayerwisePruning.Options()
    /// With units and layers in one list: the share of what goes that layers make up.
    package var depthShare = 1.0 / 3

    /// The defaults of the command line.
    package init() {}
  }

  package let options: Options

  package init(options: Options = Options()) { self.options = options }

  package func run(
    on graph: consuming Graph, in context: borrowing PassContext
  ) throws(PassError) -> Graph {
    let before = graph
    try checkOptions()
    guard !before.values(of: options.tower.towers).isEmpty else {
      throw .unsuitable(pass: Self.name, "the model has no \(options.tower.rawValue) tower")
    }
    var after = before
    if options.imageSparsity != nil || options.textSparsity != nil {
      for tower in options.tower.towers {
        let share = tower == .image ? options.imageSparsity : options.textSparsity
        after = try pruned(after, [tower], .sparsity(share ?? options.sparsity), in: context)
      }
    } else {
      after = try pruned(after, options.tower.towers, budget, in: context)
    }
    let report = PruningReport(before: before, after: after, towers: options.tower.towers)
    for line in report.lines { context.report(.note(line)) }
    context.report(.result(report))
    return after
  }

  private func pruned(
    _ graph: Graph, _ towers: [Tower], _ budget: PruningBudget, in context: borrowing PassContext
  ) throws(PassError) -> Graph {
    var graph = graph
    if !options.structure.allSatisfy(\.masksWeights) {
      graph = try withoutUnits(graph, towers, budget, in: context)
    }
    for structure in options.structure where structure.masksWeights {
      graph = try masked(graph, structure, towers, sparsity(budget), in: context)
    }
    return graph
  }

  private var budget: PruningBudget {
    if let count = options.targetParameters { return .parameters(count) }
    if let count = options.targetMacs { return .multiplyAccumulates(count) }
    return .sparsity(options.sparsity)
  }

  private func sparsity(_ budget: PruningBudget) -> Double {
    if case .sparsity(let share) = budget { share } else { 0 }
  }
}

extension Prune {
  /// Units go first and layers after them, as MoPE-CLIP has it: width decides which depth can go.
  private func withoutUnits(
    _ graph: Graph, _ towers: [Tower], _ budget: PruningBudget, in context: borrowing PassContext
  ) throws(PassError) -> Graph {
    let cost = budget.cost
    let before = cost.total(of: graph, towers: towers)
    let target = budget.target(before)
    guard target < before || budget == .sparsity(0) else {
      throw .option(
        name: "the target", expected: "below the \(before) that the towers have",
        found: "\(target)")
    }
    let kinds = options.structure.compactMap(\.kind)
    let hasLayers = options.structure.contains(.layers)
    var graph = graph
    func removeUnits(_ target: Int, _ graph: Graph) throws(PassError) -> Graph {
      var plan = StructuredPruning(
        pass: Self.name, kinds: kinds, cost: cost, target: target,
        scope: options.scope ?? .global, towers: towers)
      plan.roundCount = options.rounds ?? options.method.standardRoundCount
      if let implant = options.implant {
        return try NeuralImplant(implant).apply(
          to: graph, plan: plan, by: try unitImportance(context.seed),
          compensation: compensation(in: graph), in: context)
      }
      return try plan.apply(
        to: graph, by: try unitImportance(context.seed), compensation: compensation(in: graph),
        in: context)
    }
    if !kinds.isEmpty {
      let share = hasLayers ? 1 - options.depthShare : 1
      let stop = before - Int((Double(before - target) * share).rounded())
      graph = try removeUnits(stop, graph)
    }
    if hasLayers {
      let plan = LayerPruning(pass: Self.name, cost: cost, target: target, towers: towers)
      graph = try plan.apply(to: graph, by: try layerImportance(context.seed), in: context)
      if !kinds.isEmpty, cost.total(of: graph, towers: towers) > target {
        graph = try removeUnits(target, graph)
      }
    }
    return graph
  }

  private func unitImportance(_ seed: UInt64) throws(PassError) -> any UnitImportance {
    switch options.method {
    case .magnitude: return MagnitudeImportance()
    case .random: return RandomImportance(seed: seed)
    case .mope: return MoPEImportance(options: options.mope)
    case .hap: return HessianImportance(options.hessian)
    case .obs: return surgeon
    default:
      throw .option(
        name: "method", expected: "magnitude, random, mope, hap or obs for units and layers",
        found: options.method.rawValue)
    }
  }

  private var surgeon: SurgeonUnits { SurgeonUnits(options: options.surgeon, pass: Self.name) }

  private func compensation(in graph: Graph) -> (any UnitCompensation)? {
    // Channels are read by normalizations too, which have no least squares.
    guard !options.structure.contains(.width) else { return nil }
    let hasCodes = graph.parameterValues.contains { graph.parameter($0)?.quantization != nil }
    let isUsual = options.method == .obs || (options.method.measures && !hasCodes)
    return options.compensates ?? isUsual ? surgeon : nil
  }

  private func layerImportance(_ seed: UInt64) throws(PassError) -> any LayerImportance {
    if options.method == .mope { return MoPEImportance(options: options.mope) }
    return SummedImportance(try unitImportance(seed))
  }
}

extension Prune {
  private func masked(
    _ graph: Graph, _ structure: PruningStructure, _ towers: [Tower], _ sparsity: Double,
    in context: borrowing PassContext
  ) throws(PassError) -> Graph {
    let weights = graph.prunableWeights(of: towers)
    guard !weights.isEmpty else {
      throw .unsuitable(pass: Self.name, "the model has no weights between two of its layers")
    }
    if let method = LayerwisePruning.Method(rawValue: options.method.rawValue) {
      return try LayerwisePruning(method: method, options: options.layerwise, pass: Self.name)
        .apply(
          to: graph, structure: structure, sparsity: sparsity, scope: options.scope ?? .layer,
          tower: TowerSelection(towers), in: context)
    }
    let masks: [Value: Tensor]
    if options.method == .maskTuning {
      masks = try learnedMasks(structure, weights, graph, sparsity, in: context)
    } else {
      masks = try self.masks(
        WeightMasks(try elementImportance(context.seed)), structure, weights, graph, sparsity)
    }
    var graph = graph
    for weight in weights {
      guard let mask = masks[weight], var parameter = graph.parameter(weight) else { continue }
      parameter.mask = mask
      do { try graph.setParameter(weight, parameter) } catch {
        throw .graph(pass: Self.name, error)
      }
    }
    return graph
  }

  private func learnedMasks(
    _ structure: PruningStructure, _ weights: [Value], _ graph: Graph, _ sparsity: Double,
    in context: borrowing PassContext
  ) throws(PassError) -> [Value: Tensor] {
    guard structure == .weights else {
      throw .option(
        name: "structure", expected: "weights for mask-tuning", found: "\(structure)")
    }
    var choices = options.maskTuning
    // What a task does better without has a size of its own; zero asks for that.
    choices.sparsity = sparsity > 0 ? sparsity : nil
    choices.scope = options.scope ?? .global
    return try MaskTuning(choices).masks(for: weights, in: graph, context: context)
  }

  private func elementImportance(_ seed: UInt64) throws(PassError) -> any ElementImportance {
    switch options.method {
    case .magnitude: return MagnitudeImportance()
    case .random: return RandomImportance(seed: seed)
    default:
      throw .option(
        name: "method",
        expected: "magnitude, random, wanda, sparsegpt, net-trim or mask-tuning for weights",
        found: options.method.rawValue)
    }
  }

  private func masks(
    _ chooser: WeightMasks, _ structure: PruningStructure, _ weights: [Value], _ graph: Graph,
    _ sparsity: Double
  ) throws(PassError) -> [Value: Tensor] {
    switch structure {
    case .weights:
      switch options.scope ?? .layer {
      case .layer: return try chooser.perLayer(weights, in: graph, sparsity: sparsity)
      case .global: return try chooser.global(weights, in: graph, sparsity: sparsity)
      }
    case .pattern(let kept, let block):
      return try chooser.pattern(weights, in: graph, keeping: kept, of: block)
    case .tiles(let rows, let columns):
      return try chooser.tiles(
        weights, in: graph, rows: rows, columns: columns, sparsity: sparsity)
    case .heads, .neurons, .width, .layers: return [:]
    }
  }
}

extension Prune {
  private func checkOptions() throws(PassError) {
    for case let share? in [options.sparsity, options.imageSparsity, options.textSparsity] {
      guard share >= 0, share < 1 else {
        throw .option(name: "sparsity", expected: "at least 0 and below 1", found: "\(share)")
      }
    }
    guard !options.structure.isEmpty else {
      throw .option(
        name: "structure", expected: "one of \(PruningStructure.choices) or a list of them",
        found: "nothing")
    }
    guard Set(options.structure).count == options.structure.count else {
      throw .option(name: "structure", expected: "each kind once", found: "a repetition")
    }
    if budget.cost == .multiplyAccumulates || options.targetParameters != nil,
      options.structure.contains(where: \.masksWeights)
    {
      throw .option(
        name: "structure", expected: "units or layers, since masks leave every weight in place",
        found: options.structure.map(\.description).joined(separator: ","))
    }
    guard options.implant == nil || !options.structure.contains(where: \.masksWeights) else {
      throw .option(
        name: "structure", expected: "heads and neurons, which implants stand for",
        found: options.structure.map(\.description).joined(separator: ","))
    }
    for case .pattern(let kept, let block) in options.structure {
      let implied = 1 - Double(kept) / Double(block)
      let isAlone = options.structure.count == 1
      let given = options.sparsity
      guard !isAlone || given == 0 || abs(given - implied) < 1e-6 else {
        throw .option(
          name: "sparsity", expected: "\(implied), as \(kept):\(block) says, or left out",
          found: "\(given)")
      }
    }
  }
}

extension PruningBudget {
  /// What it is counted in.
  fileprivate var cost: PruningCost {
    switch self {
    case .sparsity, .parameters: .parameters
    case .multiplyAccumulates: .multiplyAccumulates
    }
  }

  /// What is left of `total`.
  fileprivate func target(_ total: Int) -> Int {
    switch self {
    case .sparsity(let share): total - Int((share * Double(total)).rounded())
    case .parameters(let count), .multiplyAccumulates(let count): count
    }
  }
}

extension PruningMethod {
  /// Whether units' importances are measured on data.
  fileprivate var measures: Bool {
    switch self {
    case .mope, .hap, .obs: true
    case .magnitude, .random, .wanda, .sparsegpt, .netTrim, .maskTuning: false
    }
  }

  /// In how many steps units go where the user does not say.
  ///
  /// Weights' own sizes do not change when others go; what a unit contributes to a task does.
  fileprivate var standardRoundCount: Int {
    switch self {
    case .magnitude, .random, .wanda, .sparsegpt, .netTrim, .maskTuning: 1
    case .mope, .hap, .obs: 5
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
