import Checkpoints
import Datasets
import Evaluation
import Foundation
import GraphIR
import Passes
import TensorCore
import Training

/// One run of distillation, from the teacher to the written student.
final class DistillRun {
  let command: Distill
  let fractions: [Double]
  let files: DistillFiles
  let teacher: OpenedModel
  let student: OpenedModel
  private(set) var inputs: TrainingInputs
  private let validation: DistillValidation?
  private var notes: [String] = []
  /// When the state was last saved.
  private var saved = ContinuousClock.now

  /// Opens everything that the run needs.
  init(_ command: Distill, keeping fractions: [Double]) throws {
    self.command = command
    self.fractions = fractions
    files = DistillFiles(output: command.output)
    teacher = try OpenedModel(path: command.teacher)
    student = try command.student.map { try OpenedModel(path: $0) } ?? teacher
    _ = try teacher.graphModel(for: "distill")
    _ = try student.graphModel(for: "distill")
    inputs = try TrainingInputs(command.data, student, teacher: teacher)
    validation = try DistillValidation(command)
  }

  func execute() throws -> DistillSummary {
    let model = try student.graphModel(for: "distill")
    // What cannot be trained as asked is refused before anything is computed.
    _ = try command.quantization.options(for: model.graph)
    if command.inherit == nil, let phase = try command.phases(steps: 1, keeping: []).first {
      _ = try form(phase, model.graph)
    }
    let objective = try command.objective(teacher, model.graph, &inputs)
    let state = try openedState()
    let total =
      try state.flatMap { $0.options["total_steps"] }.flatMap { Int($0) }
      ?? stepCount(
        objective)
    var options = try optionTexts()
    if let state {
      var former = state
      former.options["total_steps"] = nil
      if let difference = former.difference(from: options) {
        throw Failure(
          .usage,
          "\(files.state) is of a run with other options: \(difference); give the same, or leave "
            + "--resume out to start anew")
      }
    }
    options["total_steps"] = String(total)
    let phases = try command.phases(steps: total, keeping: fractions)
    if let state, state.phase >= phases.count {
      throw Failure(.malformedInput, "\(files.state): there is no phase \(state.phase)")
    }
    return try run(phases, model, objective, options, state)
  }

  /// What a run has at hand while it goes on.
  private struct Course {
    let phases: [DistillPhase]
    let options: [String: String]
    let model: CLIPModel
    let objective: Objective
    let batches: TrainingBatches
    let log: TrainingLog
    let progress: Progress
    /// Steps done in all phases.
    var step: Int
    var lastLoss = Double.nan

    var totalSteps: Int { phases.reduce(0) { $0 + $1.steps } }
  }

  private func run(
    _ phases: [DistillPhase], _ model: CLIPModel, _ objective: Objective,
    _ options: [String: String], _ state: TrainingStateFile?
  ) throws -> DistillSummary {
    let first = state?.phase ?? 0
    let firstStep = phases[..<first].reduce(state?.step ?? 0) { $0 + $1.steps }
    let batches = try inputs.batches(
      count: command.training.batch, seed: command.common.seed, threads: command.common.threads,
      firstStep: firstStep)
    defer { batches.stop() }
    let teacherAccuracy = try validation?.accuracy(of: teacher)
    var course = Course(
      phases: phases, options: options, model: model, objective: objective, batches: batches,
      log: try TrainingLog(path: files.log, resumingAt: firstStep),
      progress: Progress("distill", total: phases.reduce(0) { $0 + $1.steps }, unit: "steps"),
      step: firstStep)
    let start = ContinuousClock.now
    var graph = first > 0 ? try ModelFile.read(files.student(ofPhase: first)).graph : model.graph
    for index in first..<phases.count {
      if index > first || first == 0 { graph = try started(phases[index], graph) }
      if index > first { try write(graph, like: model, to: files.student(ofPhase: index)) }
      let trainer = try trainer(phases[index], graph, objective)
      if index == first, let state { try trainer.restore(state.tensors) }
      try train(trainer, phase: index, &course)
      graph = try trainer.result()
    }
    course.progress.finish()
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    graph.provenance.append(
      ProvenanceStep(
        pass: "distill", options: options, seed: command.common.seed,
        inputSHA256: try student.sha256()))
    try write(graph, like: model, to: command.output)
    let accuracy = try validated(graph, course)
    try drawCurve()
    files.removeState(phaseCount: phases.count)
    let steps = course.totalSteps - firstStep
    return DistillSummary(
      steps: steps, seconds: seconds,
      imagesPerSecond: Double(steps * command.training.batch) / max(seconds, 1e-9),
      loss: course.lastLoss, teacherAccuracy: teacherAccuracy, accuracy: accuracy,
      parametersBefore: try teacher.graphModel(for: "distill").graph.parameterCount(
        of: Passes.Tower.allCases),
      parametersAfter: graph.parameterCount(of: Passes.Tower.allCases),
      sparsity: command.pruning.prune == nil
        ? nil : graph.prunedShare(of: command.training.tower.towers), notes: notes)
  }

  /// Does the steps of a phase that are left.
  private func train(_ trainer: Trainer, phase: Int, _ course: inout Course) throws {
    while trainer.step < course.phases[phase].steps {
      let start = ContinuousClock.now
      let report = try stepped(trainer, try course.batches.next())
      let seconds = (ContinuousClock.now - start) / .seconds(1)
      try course.log.append(step: course.step, logged(report, phase: phase, seconds: seconds))
      course.step += 1
      course.lastLoss = report.loss
      course.progress.update(course.step, note: noted(report, seconds: seconds))
      if Interruption.isRequested {
        try save(trainer, phase, course.options)
        throw Failure(
          .interrupted,
          "interrupted after step \(course.step); the state is saved, --resume goes on from there")
      }
      if ContinuousClock.now - saved > .seconds(command.saveEvery) {
        try save(trainer, phase, course.options)
      }
      let interval = command.validationInterval(course.totalSteps)
      if course.step < course.totalSteps, course.step % interval == 0 {
        _ = try validated(try trainer.result(), course)
      }
    }
  }

  /// The accuracy of the student on the validation data, logged; nil where there are none.
  private func validated(_ graph: Graph, _ course: Course) throws -> Double? {
    guard let validation else { return nil }
    course.progress.finish()
    let accuracy = try validation.accuracy(of: graph, like: course.model)
    try course.log.append(
      step: max(course.step - 1, 0), [("validation_top1", .number(accuracy))])
    return accuracy
  }

  // MARK: Steps

  private func stepped(_ trainer: Trainer, _ batch: TrainingBatch) throws -> StepReport {
    do { return try trainer.step(try inputs.inputs(of: batch)) } catch let error as TrainingError {
      guard files.hasState else { throw error }
      throw Failure(.malformedInput, "\(error.description); \(files.state) holds an earlier state")
    }
  }

  private func trainer(
    _ phase: DistillPhase, _ graph: Graph, _ objective: Objective
  ) throws -> Trainer {
    let training = command.training
    var options = UpdateOptions()
    options.method = training.optimizer
    options.weightDecay = training.weightDecay
    options.clipping = training.clip
    options.largestNorm = training.clipNorm
    options.averageDecay = phase.isWarmUp ? nil : training.average
    let warmUp = training.warmUp ?? phase.steps / 20
    options.schedule =
      phase.isWarmUp
      ? LearningRateSchedule(.constant, peak: training.lr, warmUpSteps: phase.steps)
      : LearningRateSchedule(training.schedule, peak: training.lr, warmUpSteps: warmUp)
    return try Trainer(
      try form(phase, graph), objective, options: options, totalSteps: phase.steps,
      microBatchCount: microBatchCount, recomputes: training.recompute,
      gradientBitCount: command.quantization.gradientBits,
      seed: command.common.seed, threadCount: command.common.threads)
  }

  var microBatchCount: Int {
    let training = command.training
    let size = training.microBatch ?? training.batch
    return (training.batch + size - 1) / size
  }

  private func form(_ phase: DistillPhase, _ graph: Graph) throws -> any TrainedForm {
    switch phase.training {
    case .weights:
      let trained = trainedNames(of: graph)
      return try WeightForm(
        graph, quantization: command.quantization.options(for: graph),
        origin: try teacher.graphModel(for: "distill").graph, threadCount: command.common.threads
      ) { trained.contains($0) }
    case .sparse(let options):
      let trained = trainedNames(of: graph)
      let towers = command.training.tower.towers
      guard options.schedule == .autosparse else {
        return try SparseForm(graph, options: options, steps: phase.steps, towers: towers) {
          trained.contains($0)
        }
      }
      return try AutoSparseForm(graph, options: options, steps: phase.steps, towers: towers) {
        trained.contains($0)
      }
    case .masks(let keep):
      let whole = try teacher.graphModel(for: "distill").graph.parameterCount(
        of: Passes.Tower.allCases)
      let share = keep * Double(whole) / Double(graph.parameterCount(of: Passes.Tower.allCases))
      let options = MaskedForm.Options(keep: share, steps: phase.steps)
      return try MaskedForm(graph, options: options)
    }
  }

  /// The names of what is trained where weights are.
  private func trainedNames(of graph: Graph) -> Set<String> {
    Set(graph.values(of: command.training.tower.towers).map { graph.name(of: $0) })
  }

  /// The student with which `phase` begins.
  private func started(_ phase: DistillPhase, _ graph: Graph) throws -> Graph {
    guard case .inherited(var options) = phase.start else { return graph }
    if let keep = options.keep {
      let whole = try teacher.graphModel(for: "distill").graph.parameterCount(
        of: Passes.Tower.allCases)
      options.keep =
        keep * Double(whole)
        / Double(
          graph.parameterCount(
            of: Passes.Tower.allCases))
    }
    let context = PassContext(
      seed: command.common.seed, threadCount: command.common.threads,
      report: { [self] event in
        switch event {
        case .note(let line): notes.append(line)
        case .warning(let text): Terminal.warn(text)
        case .result, .progress: break
        }
      })
    return try PassPipeline([InheritManual(options: options)]).run(
      on: graph, inputSHA256: try teacher.sha256(), in: context)
  }

  // MARK: Length

  private func stepCount(_ objective: Objective) throws -> Int {
    let training = command.training
    if let steps = training.steps { return steps }
    let perEpoch = inputs.dataset.sampleCount / training.batch
    guard perEpoch > 0 else {
      throw Failure(
        .malformedInput,
        "a batch has \(training.batch) pairs, the data only \(inputs.dataset.sampleCount): lower "
          + "--batch")
    }
    guard let minutes = training.minutes else {
      return max(1, Int((Double(perEpoch) * (training.epochs ?? 10)).rounded()))
    }
    return max(2, Int(minutes * 60 * 0.95 / (try secondsPerStep(objective))))
  }

  /// How long a step of the first phase takes, from a few that are done and forgotten.
  private func secondsPerStep(_ objective: Objective) throws -> Double {
    let phases = try command.phases(steps: 100 * max(fractions.count, 1), keeping: fractions)
    let graph = try started(phases[0], student.graphModel(for: "distill").graph)
    notes = []
    let trainer = try trainer(phases[0], graph, objective)
    let batches = try inputs.batches(
      count: command.training.batch, seed: command.common.seed, threads: command.common.threads,
      firstStep: 0)
    defer { batches.stop() }
    var times: [Double] = []
    for _ in 0..<5 {
      let start = ContinuousClock.now
      _ = try stepped(trainer, try batches.next())
      times.append((ContinuousClock.now - start) / .seconds(1))
    }
    return times.dropFirst(2).reduce(0, +) / Double(times.count - 2)
  }

  // MARK: State

  private func openedState() throws -> TrainingStateFile? {
    guard command.resume else {
      if files.hasState { Terminal.warn("\(files.state) of an earlier run is replaced") }
      return nil
    }
    guard files.hasState else {
      Terminal.warn("no state is saved for \(command.output) yet: the run starts anew")
      return nil
    }
    return try TrainingStateFile(opening: files.state)
  }

  private func save(_ trainer: Trainer, _ phase: Int, _ options: [String: String]) throws {
    try TrainingStateFile(options: options, phase: phase, tensors: trainer.state)
      .write(to: files.state)
    files.removeStudents(before: phase)
    saved = .now
  }

  // MARK: Results

  private func write(_ graph: Graph, like model: CLIPModel, to path: String) throws {
    var result = model
    result.graph = graph
    try ModelFile.write(result, to: path)
  }
}
