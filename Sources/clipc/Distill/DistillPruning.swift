import ArgumentParser
import Passes

/// How a student's weights become sparse while it is trained.
struct DistillPruning: ParsableArguments {
  @Option(help: "Make weights sparse in training: weights, or N:M such as 2:4.")
  var prune: String?
  @Option(help: "The share of the weights that goes; N:M says it itself.")
  var sparsity: Double?
  @Option(
    help: """
      gradual, ste, sr-ste, flow-linear, flow-exponential, autosparse (weights), stepwise or
      geometric (N:M): how masks come to be. By default gradual, for N:M sr-ste.
      """)
  var pruneSchedule: SparseTrainingOptions.Schedule?
  @Option(help: "Steps between two choices of masks; gradual: a twentieth of the ramp, else 1.")
  var pruneEvery: Int?
  @Option(help: "layer or global: over what weights are compared.")
  var pruneScope: PruningScope?
  @Option(help: "The share of the run before masks begin; 0 by default.")
  var pruneStart: Double?
  @Option(help: "The share of the run in which masks change; 0.6 by default.")
  var pruneRamp: Double?
  @Option(
    help: "What a step takes from masked weights' part (flows); what ends it with the ramp.")
  var pruneDecay: Double?

  /// The choices; nil where weights stay dense.
  func options() throws -> SparseTrainingOptions? {
    guard let prune else {
      guard texts.isEmpty else {
        throw Failure(.usage, "--sparsity and the options of pruning go with --prune")
      }
      return nil
    }
    var options: SparseTrainingOptions
    switch PruningStructure(prune) {
    case .weights?:
      guard let sparsity else {
        throw Failure(.usage, "--prune weights needs --sparsity, the share that goes")
      }
      options = SparseTrainingOptions(sparsity: sparsity, schedule: pruneSchedule ?? .gradual)
    case .pattern(let kept, let block)?:
      options = SparseTrainingOptions(
        kept: kept, of: block, schedule: pruneSchedule ?? .srSTE)
      if let sparsity { options.sparsity = sparsity }
    default: throw Failure(.usage, "--prune must be weights or N:M such as 2:4, found \(prune)")
    }
    options.scope = pruneScope
    options.interval = pruneEvery
    options.start = pruneStart ?? options.start
    options.ramp = pruneRamp ?? options.ramp
    options.decay = pruneDecay
    return options
  }

  /// What was given, by name in words.
  var texts: [String: String] {
    var texts: [String: String] = [:]
    texts["prune"] = prune
    texts["sparsity"] = sparsity.map { String($0) }
    texts["prune_schedule"] = pruneSchedule?.rawValue
    texts["prune_every"] = pruneEvery.map { String($0) }
    texts["prune_scope"] = pruneScope?.rawValue
    texts["prune_start"] = pruneStart.map { String($0) }
    texts["prune_ramp"] = pruneRamp.map { String($0) }
    texts["prune_decay"] = pruneDecay.map { String($0) }
    return texts
  }
}

extension SparseTrainingOptions.Schedule: ExpressibleByArgument {}
