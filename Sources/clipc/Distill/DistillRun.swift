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
  private let command: Distill
  private let fractions: [Double]
  private let files: DistillFiles
  private let teacher: OpenedModel
  private let student: OpenedModel
  private var inputs: TrainingInputs
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

  private func run(
    _ phases: [DistillPhase], _ model: CLIPModel, _ objective: Objective,
    _ options: [String: String], _ state: TrainingStateFile?
  ) throws -> DistillSummary {
    let first = state?.phase ?? 0
    var graph = model.graph
    if first > 0 { graph = try ModelFile.read(files.student(ofPhase: first)).graph }
    let done = phases[..<first].reduce(0) { $0 + $1.steps }
    let stepInPhase =
      state?.tensors.first { $0.name == "step" }.map {
        Int($0.tensor.elements(of: Int32.self).first ?? 0)
      } ?? 0
    let log = try TrainingLog(path: files.log, resumingAt: done + stepInPhase)
    let batches = try inputs.batches(
      count: command.training.batch, seed: command.common.seed, threads: command.common.threads,
      firstStep: done + stepInPhase)
    defer { batches.stop() }
    let start = ContinuousClock.now
    let total = phases.reduce(0) { $0 + $1.steps }
    let progress = Progress("distill", total: total, unit: "steps")
    var step = done
    var lastLoss = Double.nan
    let teacherAccuracy = try validation?.accuracy(of: teacher)
    for index in first..<phases.count {
      let isResumed = index == first && state != nil
      if !(isResumed && first > 0) { graph = try started(phases[index], graph) }
      if index > first {
        try write(graph, like: model, to: files.student(ofPhase: index))
      }
      let trainer = try trainer(phases[index], graph, objective)
      if isResumed, let state { try trainer.restore(state.tensors) }
      step = phases[..<index].reduce(0) { $0 + $1.steps } + trainer.step
      while trainer.step < phases[index].steps {
        let stepStart = ContinuousClock.now
        let batch = try batches.next()
        let last = try stepped(trainer, batch)
        lastLoss = last.loss
        step += 1
        let seconds = (ContinuousClock.now - stepStart) / .seconds(1)
        try log.append(step: step - 1, logged(last, phase: index, seconds: seconds))
        progress.update(step, note: noted(last, seconds: seconds))
        if Interruption.isRequested { try stop(trainer, index, options, step) }
        if ContinuousClock.now - saved > .seconds(command.saveEvery) {
          try save(trainer, index, options)
        }
        if let validation, step < total, step % command.validationInterval(total) == 0 {
          progress.finish()
          let accuracy = try validation.accuracy(of: try trainer.result(), like: model)
          try log.append(step: step - 1, [("validation_top1", .number(accuracy))])
        }
      }
      graph = try trainer.result()
    }
    progress.finish()
    graph.provenance.append(
      ProvenanceStep(
        pass: "distill", options: options, seed: command.common.seed,
        inputSHA256: try student.sha256()))
    try write(graph, like: model, to: command.output)
    var accuracy: Double?
    if let validation {
      let top1 = try validation.accuracy(of: graph, like: model)
      try log.append(step: max(step - 1, 0), [("validation_top1", .number(top1))])
      accuracy = top1
    }
    try drawCurve()
    files.removeState(phaseCount: phases.count)
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    let steps = total - done - stepInPhase
    let towers: [Passes.Tower] = [.image, .text]
    return DistillSummary(
      steps: steps, seconds: seconds,
      imagesPerSecond: Double(steps * command.training.batch) / max(seconds, 1e-9),
      loss: lastLoss, teacherAccuracy: teacherAccuracy, accuracy: accuracy,
      parametersBefore: try teacher.graphModel(for: "distill").graph.parameterCount(of: towers),
      parametersAfter: graph.parameterCount(of: towers), notes: notes)
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
      seed: command.common.seed, threadCount: command.common.threads)
  }

  private var microBatchCount: Int {
    let training = command.training
    let size = training.microBatch ?? training.batch
    return (training.batch + size - 1) / size
  }

  private func form(_ phase: DistillPhase, _ graph: Graph) throws -> any TrainedForm {
    switch phase.training {
    case .weights:
      let trained = Set(
        graph.values(of: command.training.tower.towers).map { graph.name(of: $0) })
      return try WeightForm(graph) { trained.contains($0) }
    case .masks(let keep):
      let towers: [Passes.Tower] = [.image, .text]
      let whole = try teacher.graphModel(for: "distill").graph.parameterCount(of: towers)
      var options = MaskedForm.Options(
        keep: keep * Double(whole) / Double(graph.parameterCount(of: towers)))
      options.rampSteps = max(1, phase.steps * 2 / 3)
      return try MaskedForm(graph, options: options)
    }
  }

  /// The student with which `phase` begins.
  private func started(_ phase: DistillPhase, _ graph: Graph) throws -> Graph {
    guard case .inherited(var options) = phase.start else { return graph }
    if let keep = options.keep {
      let towers: [Passes.Tower] = [.image, .text]
      let whole = try teacher.graphModel(for: "distill").graph.parameterCount(of: towers)
      options.keep = keep * Double(whole) / Double(graph.parameterCount(of: towers))
    }
    let context = PassContext(
      seed: command.common.seed, threadCount: command.common.threads
    ) { [self] event in
      switch event {
      case .note(let line): notes.append(line)
      case .warning(let text): Terminal.warn(text)
      case .result, .progress: break
      }
    }
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

  private func stop(
    _ trainer: Trainer, _ phase: Int, _ options: [String: String], _ step: Int
  ) throws -> Never {
    try save(trainer, phase, options)
    throw Failure(
      .interrupted,
      "interrupted after step \(step); the state is saved, --resume goes on from there")
  }

  /// Everything that decides the bits of the result, by name in words.
  private func optionTexts() throws -> [String: String] {
    let (data, training) = (command.data, command.training)
    var texts: [String: String] = [
      "teacher_sha256": try teacher.sha256(), "student_sha256": try student.sha256(),
      "data_sha256": try DatasetIdentity(of: inputs.dataset).sha256, "augment": data.augment,
      "loss": try LossMixture(parsing: training.loss).description,
      "affinity_scale": training.affinityScale, "batch": String(training.batch),
      "micro_batches": String(microBatchCount), "lr": String(training.lr),
      "schedule": training.schedule.rawValue, "optimizer": training.optimizer.rawValue,
      "weight_decay": String(training.weightDecay), "clip": training.clip.rawValue,
      "clip_norm": String(training.clipNorm), "tower": training.tower.rawValue,
      "seed": String(command.common.seed), "threads": String(command.common.threads),
      "keep": fractions.map { String($0) }.joined(separator: ","),
    ]
    texts["inherit"] = command.inherit?.rawValue
    texts["warm_up"] = training.warmUp.map { String($0) }
    texts["average"] = training.average.map { String($0) }
    texts["mask_steps"] = training.maskSteps.map { String($0) }
    texts["project"] = training.project ? "true" : nil
    texts["recompute"] = training.recompute ? "true" : nil
    texts["length"] =
      training.steps.map { "\($0) steps" } ?? training.minutes.map { "\($0) minutes" }
      ?? "\(training.epochs ?? 10) epochs"
    if let templates = data.templates {
      texts["templates_sha256"] = try SHA256.hash(fileAt: templates)
    }
    if let stored = data.reinforced { texts["reinforced_sha256"] = try SHA256.hash(fileAt: stored) }
    if command.inherit == .manual {
      let dimensions = command.dimensions
      texts["initialization"] = dimensions.initialization.rawValue
      texts["ranking"] = dimensions.ranking.rawValue
      for (tower, wanted) in [("image", dimensions.image), ("text", dimensions.text)] {
        texts["\(tower)_layers"] = wanted.layers.map { String($0) }
        texts["\(tower)_heads"] = wanted.heads.map { String($0) }
        texts["\(tower)_neurons"] = wanted.neurons.map { String($0) }
        texts["\(tower)_width"] = wanted.width.map { String($0) }
      }
    }
    return texts
  }

  // MARK: Results

  private func write(_ graph: Graph, like model: CLIPModel, to path: String) throws {
    var result = model
    result.graph = graph
    try ModelFile.write(result, to: path)
  }

  private func logged(
    _ report: StepReport, phase: Int, seconds: Double
  ) -> [(name: String, value: LogValue)] {
    var values: [(name: String, value: LogValue)] = [
      ("phase", .integer(phase)), ("loss", .number(report.loss)),
    ]
    values += report.terms.map { ($0.name, .number($0.value)) }
    values += report.shown.map { ($0.label, .number($0.value)) }
    values += [
      ("rate", .number(report.rate)), ("gradient_norm", .number(report.gradientNorm)),
      ("batch_accuracy", .number(report.batchAccuracy)),
      ("images_per_second", .number(Double(command.training.batch) / max(seconds, 1e-9))),
    ]
    return values
  }

  private func noted(_ report: StepReport, seconds: Double) -> String {
    let images = Double(command.training.batch) / max(seconds, 1e-9)
    return String(
      format: "loss %.4f  lr %.2e  %.0f images/s", report.loss, report.rate, images)
  }

  private func drawCurve() throws {
    let losses = try TrainingLog.points(of: "loss", in: files.log)
    let batch = try TrainingLog.points(of: "batch_accuracy", in: files.log)
    let measured = try TrainingLog.points(of: "validation_top1", in: files.log)
    var accuracies = [CurveSeries("texts told apart in a batch", batch)]
    if !measured.isEmpty { accuracies.append(CurveSeries("zero-shot top-1", measured)) }
    let name = URL(fileURLWithPath: command.output).lastPathComponent
    try files.write(
      Curve(
        title: "Distillation of \(name)", losses: [CurveSeries("loss", losses)],
        accuracies: accuracies))
  }
}
