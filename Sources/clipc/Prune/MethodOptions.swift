import ArgumentParser
import Passes

/// What single methods of pruning take.
struct MethodOptions: ParsableArguments {
  @Option(help: "mope: into how many groups the neurons of a layer are cut.")
  var neuronGroups = MoPEImportance.Options().neuronGroups
  @Option(
    help: """
      mope: what declines when a module is taken out: agreement with the whole model, loss, or \
      value (right answers).
      """)
  var metric = MoPEImportance.Options().metric
  @Option(help: "hap: random directions at most.")
  var probes = HessianTraces.Options().maximumProbeCount
  @Flag(help: "hap: what matters moderately leaves a path of low rank behind (neural implant).")
  var implant = false
  @Option(help: "With --implant: the share of what goes that leaves a path behind.")
  var implantBand = NeuralImplant.Options().bandShare
  @Option(help: "With --implant: dimensions of a path for each neuron it stands for.")
  var implantRank = NeuralImplant.Options().neuronRank
  @Option(help: "sparsegpt, net-trim: what is added to the diagonal, of its mean.")
  var damping = LayerwisePruning.Options().problem.damping
  @Flag(help: "wanda, sparsegpt, net-trim: every layer sees the inputs of the unpruned model.")
  var parallel = false
  @Flag(
    inversion: .prefixedNo,
    help: """
      heads and neurons: what stays makes up for what goes, by least squares on --data; mope, hap and \
      obs do so unless told not to.
      """)
  var compensate: Bool?
  @Option(help: "mask-tuning: steps of learning.") var steps: Int?
  @Option(help: "mask-tuning: about how long learning takes.") var minutes: Double?
  @Option(help: "mask-tuning: the learning rate.")
  var rate = MaskTuning.Options().rate

  func validate() throws {
    for (name, count) in [
      ("neuron-groups", neuronGroups), ("probes", probes), ("steps", steps ?? 1),
    ] {
      guard (1...1_000_000).contains(count) else {
        throw ValidationError("--\(name) must lie in 1...1000000, found \(count)")
      }
    }
    for (name, value) in [("damping", damping), ("minutes", minutes ?? 1), ("rate", rate)] {
      guard value > 0, value.isFinite else {
        throw ValidationError("--\(name) must be positive, found \(value)")
      }
    }
  }

  /// Lets `options` have these choices.
  func apply(to options: inout Prune.Options) {
    options.compensates = compensate
    options.mope.neuronGroups = neuronGroups
    options.mope.metric = metric
    options.hessian.traces.maximumProbeCount = probes
    options.hessian.traces.minimumProbeCount = min(
      probes, options.hessian.traces.minimumProbeCount)
    if implant {
      var choices = NeuralImplant.Options()
      choices.bandShare = implantBand
      choices.neuronRank = implantRank
      options.implant = choices
    }
    options.layerwise.problem.damping = damping
    options.layerwise.walk.isSequential = !parallel
    options.maskTuning.steps = steps
    options.maskTuning.minutes = minutes
    options.maskTuning.rate = rate
  }
}

extension MoPEImportance.Metric: ExpressibleByArgument {}
