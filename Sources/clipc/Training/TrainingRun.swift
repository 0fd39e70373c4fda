import Checkpoints
import Datasets
import Evaluation
import Foundation
import GraphIR
import Passes
import TensorCore
import Training

/// One run of training, from a model to the written one.
final class TrainingRun {
  let job: any TrainingJob
  let files: TrainingFiles
  let teacher: OpenedModel
  let student: OpenedModel
  private(set) var inputs: TrainingInputs
  private let validation: TrainingValidation?
  private var notes: [String] = []
  /// When the state was last saved.
  private var saved = ContinuousClock.now

  private var name: String { type(of: job).name }

  /// Opens everything that the run needs.
  ///
  /// - Parameters:
  ///   - job: what is to be trained.
  ///   - teacher: the path of the model to learn from.
  ///   - student: the path of the model to train; nil for one made of the teacher.
  /// - Throws: what opening them does, and ``Failure`` where they do not fit together.
  init(_ job: any TrainingJob, teacher: String, student: String?) throws {
    self.job = job
    files = TrainingFiles(output: job.output)
    self.teacher = try OpenedModel(path: teacher)
    self.student = try student.map { try OpenedModel(path: $0) } ?? self.teacher
    _ = try self.teacher.graphModel(for: type(of: job).name)
    _ = try self.student.graphModel(for: type(of: job).name)
    inputs = try TrainingInputs(job.dataPath, job.data, self.student, teacher: self.teacher)
    validation = try TrainingValidation(job)
  }

  func execute() throws -> TrainingSummary {
    let model = try student.graphModel(for: name)
    try job.check(model.graph, self)
    let objective = try job.objective(teacher, model.graph, &inputs)
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
    let phases = try job.phases(steps: total, self)
    if let state, state.phase >= phases.count {
      throw Failure(.malformedInput, "\(files.state): there is no phase \(state.phase)")
    }
    return try run(phases, model, objective, options, state)
  }

  /// What a run has at hand while it goes on.
  private struct Course {
    let phases: [TrainingPhase]
    let options: [String: String]
    let model: CLIPModel
    let objective: Objective
    let log: TrainingLog
    let progress: Progress
    /// Steps done in all phases.
    var step: Int
    var lastLoss = Double.nan

    var totalSteps: Int { phases.reduce(0) { $0 + $1.steps } }
  }

  private func run(
    _ phases: [TrainingPhase], _ model: CLIPModel, _ objective: Objective,
    _ options: [String: String], _ state: TrainingStateFile?
  ) throws -> TrainingSummary {
    let first = state?.phase ?? 0
    let firstStep = phases[..<first].reduce(state?.step ?? 0) { $0 + $1.steps }
    let teacherAccuracy = try validation?.accuracy(of: teacher)
    var course = Course(
      phases: phases, options: options, model: model, objective: objective,
      log: try TrainingLog(path: files.log, resumingAt: firstStep),
      progress: Progress(name, total: phases.reduce(0) { $0 + $1.steps }, unit: "steps"),
      step: firstStep)
    let start = ContinuousClock.now
    var graph = first > 0 ? try ModelFile.read(files.student(ofPhase: first)).graph : model.graph
    for index in first..<phases.count {
      if index > first || first == 0 { graph = try phases[index].start?(graph) ?? graph }
      if index > first { try write(graph, like: model, to: files.student(ofPhase: index)) }
      let trainer = try trainer(phases[index], graph, objective)
      if index == first, let state { try trainer.restore(state.tensors) }
      let batches = try inputs.batches(
        count: job.training.batch, seed: job.common.seed, threads: job.common.threads,
        firstStep: course.step, groups: try phases[index].groups?(graph))
      defer { batches.stop() }
      try train(trainer, batches, phase: index, &course)
      graph = try trainer.result()
    }
    course.progress.finish()
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    graph.provenance.append(
      ProvenanceStep(
        pass: name, options: options, seed: job.common.seed,
        inputSHA256: try student.sha256()))
    try write(graph, like: model, to: job.output)
    let accuracy = try validated(graph, course)
    try drawCurve()
    files.removeState(phaseCount: phases.count)
    let steps = course.totalSteps - firstStep
    return TrainingSummary(
      steps: steps, seconds: seconds,
      imagesPerSecond: Double(steps * job.training.batch) / max(seconds, 1e-9),
      loss: course.lastLoss, teacherAccuracy: teacherAccuracy, accuracy: accuracy,
      parametersBefore: try teacher.graphModel(for: name).graph.parameterCount(
        of: Passes.Tower.allCases),
      parametersAfter: graph.parameterCount(of: Passes.Tower.allCases),
      prunedShare: graph.prunedShare(of: job.training.tower.towers), notes: notes)
  }

  /// Does the steps of a phase that are left.
  private func train(
    _ trainer: Trainer, _ batches: TrainingBatches, phase: Int, _ course: inout Course
  ) throws {
    while trainer.step < course.phases[phase].steps {
      let start = ContinuousClock.now
      let report = try stepped(trainer, try batches.next())
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
      if ContinuousClock.now - saved > .seconds(job.saveEvery) {
        try save(trainer, phase, course.options)
      }
      let interval = job.validationInterval(course.totalSteps)
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
    _ phase: TrainingPhase, _ graph: Graph, _ objective: Objective
  ) throws -> Trainer {
    let training = job.training
    var options = UpdateOptions()
    options.method = training.optimizer
    options.weightDecay = training.weightDecay
    options.clipping = training.clip
    options.largestNorm = training.clipNorm
    options.averageDecay = phase.isWarmUp ? nil : training.average
    let rate = (training.lr ?? type(of: job).defaultRate) * phase.rateFactor
    let warmUp = training.warmUp ?? phase.steps / 20
    options.schedule =
      phase.isWarmUp
      ? LearningRateSchedule(.constant, peak: rate, warmUpSteps: phase.steps)
      : LearningRateSchedule(training.schedule, peak: rate, warmUpSteps: warmUp)
    var objective = objective
    if phase.freezesScale { objective.trainsScale = false }
    return try Trainer(
      try phase.form(graph), objective, options: options, totalSteps: phase.steps,
      microBatchCount: microBatchCount, recomputes: training.recompute,
      gradientBitCount: job.gradientBits,
      seed: job.common.seed, threadCount: job.common.threads,
      arithmetic: training.precision.arithmetic)
  }

  var microBatchCount: Int {
    let training = job.training
    let size = training.microBatch ?? training.batch
    return (training.batch + size - 1) / size
  }

  // MARK: What phases ask for

  /// Shows `line` at the end.
  func note(_ line: String) { notes.append(line) }

  /// What fraction of `graph` is as large as `fraction` of the teacher.
  func share(_ fraction: Double, of graph: Graph) throws -> Double {
    let whole = try teacher.graphModel(for: name).graph.parameterCount(
      of: Passes.Tower.allCases)
    return fraction * Double(whole) / Double(graph.parameterCount(of: Passes.Tower.allCases))
  }

  /// What `passes` make of `graph`; what they note is shown at the end.
  func passed(_ graph: Graph, through passes: [any Pass]) throws -> Graph {
    let context = PassContext(
      seed: job.common.seed, threadCount: job.common.threads,
      report: { [self] event in
        switch event {
        case .note(let line): notes.append(line)
        case .warning(let text): Terminal.warn(text)
        case .result, .progress: break
        }
      })
    return try PassPipeline(passes).run(
      on: graph, inputSHA256: try teacher.sha256(), in: context)
  }

  // MARK: Length

  private func stepCount(_ objective: Objective) throws -> Int {
    let training = job.training
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

  /// How long a step takes, from a few that are done and forgotten.
  private func secondsPerStep(_ objective: Objective) throws -> Double {
    let phases = try job.phases(steps: job.leastStepCount, self)
    let first = try student.graphModel(for: name).graph
    let graph = try phases[0].start?(first) ?? first
    notes = []
    let trainer = try trainer(phases[min(job.timedPhase, phases.count - 1)], graph, objective)
    let batches = try inputs.batches(
      count: job.training.batch, seed: job.common.seed, threads: job.common.threads,
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
    guard job.resume else {
      if files.hasState { Terminal.warn("\(files.state) of an earlier run is replaced") }
      return nil
    }
    guard files.hasState else {
      Terminal.warn("no state is saved for \(job.output) yet: the run starts anew")
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
