import GraphIR
import Operators
import Passes
import Training

/// The training that `clipc upcycle` asks for.
struct UpcycleJob: TrainingJob {
  static let name = "upcycle"
  static let defaultLoss = "contrastive"
  static let defaultRate = 1e-4

  /// The command.
  let command: UpcycleCommand
  let dataPath: String
  /// What the mixtures are.
  let options: Upcycle.Options

  var output: String { command.output }
  var data: TrainingDataOptions { command.data }
  var training: TrainingOptions { command.training }
  var gradientBits: Int? { nil }
  var common: CommonOptions { command.common }
  var resume: Bool { command.resume }
  var saveEvery: Double { command.saveEvery }
  var leastStepCount: Int { 100 * options.experts }

  private var routing: RoutingTraining { command.experts.routing(command.method) }

  /// Steps through all experts take longest.
  var timedPhase: Int { command.method == .clipUp ? 0 : options.experts }

  func check(_ student: Graph, _ run: TrainingRun) throws {
    guard command.method == .clipMoE else { return }
    guard options.experts > 1 else {
      throw Failure(
        .usage, "clip-moe trains the experts behind the first: --experts must be 2 or more")
    }
    guard student.parameterValues.allSatisfy({ student.parameter($0)?.quantization == nil }) else {
      throw Failure(
        .malformedInput,
        "\(run.teacher.path) has integer weights, which clip-moe cannot train as experts: upcycle "
          + "before you quantize")
    }
  }

  func phases(steps: Int, _ run: TrainingRun) throws -> [TrainingPhase] {
    let start = { graph in try run.passed(graph, through: [Upcycle(options: options)]) }
    switch command.method {
    case .clipUp: return [TrainingPhase(steps: steps, start: start, form: { try whole($0) })]
    case .clipMoE: break
    }
    let continued = Int((Double(steps) * command.experts.continueShare).rounded())
    let routed = max(1, Int((Double(steps) * command.experts.routerShare).rounded()))
    let stageCount = options.experts - 1
    let staged = steps - continued - routed
    guard staged >= stageCount else {
      throw Failure(
        .usage, "\(steps) steps are too few for \(stageCount) experts to train and their routers")
    }
    let clusters = PairClusters(
      clusterCount: command.experts.clusters, batch: training.batch, run)
    var phases = (1...stageCount).map { stage in
      TrainingPhase(
        steps: staged * stage / stageCount - staged * (stage - 1) / stageCount,
        start: stage == 1 ? start : nil,
        form: {
          try ExpertForm(
            $0, as: try $0.withSingleExpert(stage), routing: routing)
        },
        groups: { try clusters.groups(forExpert: stage, of: $0) }, freezesScale: true)
    }
    phases.append(
      TrainingPhase(steps: routed, form: { try routers($0) }, freezesScale: true))
    if continued > 0 { phases.append(TrainingPhase(steps: continued, form: { try whole($0) })) }
    return phases
  }

  /// All weights of the towers in training.
  private func whole(_ graph: Graph) throws -> any TrainedForm {
    let trained = Set(graph.values(of: training.tower.towers).map { graph.name(of: $0) })
    return try WeightForm(
      graph, routing: routing, threadCount: common.threads
    ) { trained.contains($0) }
  }

  /// The routers alone.
  private func routers(_ graph: Graph) throws -> any TrainedForm {
    let trained = Set(graph.routerWeights.map { graph.name(of: $0) })
    return try WeightForm(
      graph, routing: routing, threadCount: common.threads
    ) { trained.contains($0) }
  }

  var texts: [String: String] {
    let experts = command.experts
    return [
      "method": command.method.rawValue, "experts": String(options.experts),
      "top_k": String(options.topK), "layers": options.layers.description,
      "capacity": options.capacity.map { String($0) } ?? "none",
      "choice": options.choice.rawValue, "normalizes_gates": String(options.normalizesGates),
      "router": options.router.rawValue, "router_deviation": String(options.routerDeviation),
      "noise": String(options.noise), "balance": String(experts.balance),
      "router_z": String(experts.routerZ),
      "expert_dropout": String(routing.dropout), "clusters": String(experts.clusters),
      "router_share": String(experts.routerShare),
      "continue_share": String(experts.continueShare),
    ]
  }
}
