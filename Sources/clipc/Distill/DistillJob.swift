import GraphIR
import Passes
import Training

/// The training that `clipc distill` asks for.
struct DistillJob: TrainingJob {
  static let name = "distill"
  static let defaultLoss = "affinity"
  static let defaultRate = 1e-3

  /// The command.
  let command: Distill
  /// The fraction of the teacher that the student has after each stage; empty where it is given.
  let fractions: [Double]

  var output: String { command.output }
  var dataPath: String { command.dataPath }
  var data: TrainingDataOptions { command.data }
  var training: TrainingOptions { command.training }
  var gradientBits: Int? { command.quantization.gradientBits }
  var common: CommonOptions { command.common }
  var resume: Bool { command.resume }
  var saveEvery: Double { command.saveEvery }
  var leastStepCount: Int { 100 * max(fractions.count, 1) }

  func check(_ student: Graph, _ run: TrainingRun) throws {
    _ = try command.quantization.options(for: student)
    guard command.inherit == nil, let phase = try phases(steps: 1, run).first else { return }
    _ = try phase.form(student)
  }

  func phases(steps: Int, _ run: TrainingRun) throws -> [TrainingPhase] {
    let sparsity = try command.pruning.options()
    func last(_ steps: Int, _ start: ((Graph) throws -> Graph)? = nil) -> TrainingPhase {
      TrainingPhase(
        steps: steps, start: start,
        form: { try form(of: $0, sparsity: sparsity, steps: steps, run) })
    }
    guard let inherit = command.inherit else { return [last(steps)] }
    let stageCount = max(fractions.count, 1)
    var phases: [TrainingPhase] = []
    for stage in 0..<stageCount {
      let stageSteps = steps * (stage + 1) / stageCount - steps * stage / stageCount
      guard stageSteps > 0 else {
        throw Failure(.usage, "\(steps) steps are too few for \(stageCount) stages")
      }
      switch inherit {
      case .manual:
        let start = { graph in try inherited(graph, stage: stage, run) }
        let isLast = stage + 1 == stageCount
        phases.append(
          isLast
            ? last(stageSteps, start)
            : TrainingPhase(
              steps: stageSteps, start: start,
              form: { try form(of: $0, sparsity: nil, steps: stageSteps, run) }))
      case .automatic:
        let masked = min(training.maskSteps ?? stageSteps / 3, stageSteps - 1)
        guard masked > 0 else { throw Failure(.usage, "--mask-steps must be positive") }
        let keep = fractions[stage]
        phases.append(
          TrainingPhase(
            steps: masked,
            form: { graph in
              let share = try run.share(keep, of: graph)
              return try MaskedForm(
                graph, options: MaskedForm.Options(keep: share, steps: masked))
            }, isWarmUp: true))
        phases.append(
          TrainingPhase(
            steps: stageSteps - masked,
            form: { try form(of: $0, sparsity: nil, steps: stageSteps - masked, run) }))
      }
    }
    return phases
  }

  /// The student of stage `stage`, made of the one before or of the teacher.
  private func inherited(
    _ graph: Graph, stage: Int, _ run: TrainingRun
  ) throws -> Graph {
    var options = InheritManual.Options()
    options.keep = fractions.isEmpty ? nil : try run.share(fractions[stage], of: graph)
    options.image = command.dimensions.image
    options.text = command.dimensions.text
    options.initialization = command.dimensions.initialization
    options.ranking = command.dimensions.ranking
    return try run.passed(graph, through: [InheritManual(options: options)])
  }

  /// How the weights of `graph` are trained, becoming sparse where `sparsity` says so.
  private func form(
    of graph: Graph, sparsity: SparseTrainingOptions?, steps: Int, _ run: TrainingRun
  ) throws -> any TrainedForm {
    let towers = training.tower.towers
    let trained = Set(graph.values(of: towers).map { graph.name(of: $0) })
    guard let sparsity else {
      return try WeightForm(
        graph, quantization: command.quantization.options(for: graph),
        origin: try run.teacher.graphModel(for: Self.name).graph, threadCount: common.threads
      ) { trained.contains($0) }
    }
    guard sparsity.schedule == .autosparse else {
      return try SparseForm(graph, options: sparsity, steps: steps, towers: towers) {
        trained.contains($0)
      }
    }
    return try AutoSparseForm(graph, options: sparsity, steps: steps, towers: towers) {
      trained.contains($0)
    }
  }

  var texts: [String: String] {
    var texts: [String: String] = ["keep": fractions.map { String($0) }.joined(separator: ",")]
    texts["inherit"] = command.inherit?.rawValue
    texts.merge(command.pruning.texts) { $1 }
    texts.merge(command.quantization.texts) { $1 }
    guard command.inherit == .manual else { return texts }
    let dimensions = command.dimensions
    texts["initialization"] = dimensions.initialization.rawValue
    texts["ranking"] = dimensions.ranking.rawValue
    for (tower, wanted) in [("image", dimensions.image), ("text", dimensions.text)] {
      texts["\(tower)_layers"] = wanted.layers.map { String($0) }
      texts["\(tower)_heads"] = wanted.heads.map { String($0) }
      texts["\(tower)_neurons"] = wanted.neurons.map { String($0) }
      texts["\(tower)_width"] = wanted.width.map { String($0) }
    }
    return texts
  }
}
