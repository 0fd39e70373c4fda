import Checkpoints
import Datasets
import Foundation
import Passes
import Training

/// What a run tells of itself: the options that decide it, its log and its curve.
extension TrainingRun {
  /// Everything that decides the bits of the result, by name in words.
  func optionTexts() throws -> [String: String] {
    let (data, training) = (job.data, job.training)
    var texts: [String: String] = [
      "teacher_sha256": try teacher.sha256(), "student_sha256": try student.sha256(),
      "data_sha256": try DatasetIdentity(of: inputs.dataset).sha256, "augment": data.augment,
      "loss": try LossMixture(parsing: job.loss).description,
      "affinity_scale": training.affinityScale, "batch": String(training.batch),
      "micro_batches": String(microBatchCount),
      "lr": String(training.lr ?? type(of: job).defaultRate),
      "schedule": training.schedule.rawValue, "optimizer": training.optimizer.rawValue,
      "weight_decay": String(training.weightDecay), "clip": training.clip.rawValue,
      "clip_norm": String(training.clipNorm), "tower": training.tower.rawValue,
      "seed": String(job.common.seed), "threads": String(job.common.threads),
      "image_column": data.imageColumn, "caption_column": data.captionColumn,
    ]
    texts["warm_up"] = training.warmUp.map { String($0) }
    texts["average"] = training.average.map { String($0) }
    texts["mask_steps"] = training.maskSteps.map { String($0) }
    texts["project"] = training.project ? "true" : nil
    texts["precision"] = training.precision == .bfloat16 ? "bfloat16" : nil
    texts["recompute"] = training.recompute ? "true" : nil
    texts["length"] =
      training.steps.map { "\($0) steps" } ?? training.minutes.map { "\($0) minutes" }
      ?? "\(training.epochs ?? 10) epochs"
    texts.merge(job.texts) { $1 }
    if let templates = data.templates {
      texts["templates_sha256"] = try SHA256.hash(fileAt: templates)
    }
    if let stored = data.reinforced { texts["reinforced_sha256"] = try SHA256.hash(fileAt: stored) }
    return texts
  }

  func logged(
    _ report: StepReport, phase: Int, seconds: Double
  ) -> [(name: String, value: LogValue)] {
    var values: [(name: String, value: LogValue)] = [
      ("phase", .integer(phase)), ("loss", .number(report.loss)),
    ]
    values += report.terms.map { ($0.name, .number($0.value)) }
    values += report.shown.map { ($0.label, .number($0.value)) }
    values += [
      ("rate", .number(report.rate)), ("gradient_norm", .number(report.gradientNorm)),
      ("batch_top1", .number(report.batchTop1)),
      ("images_per_second", .number(Double(job.training.batch) / max(seconds, 1e-9))),
    ]
    return values
  }

  func noted(_ report: StepReport, seconds: Double) -> String {
    let images = Double(job.training.batch) / max(seconds, 1e-9)
    return String(
      format: "loss %.4f  lr %.2e  %.0f images/s", report.loss, report.rate, images)
  }

  func drawCurve() throws {
    let losses = try TrainingLog.points(of: "loss", in: files.log)
    let batch = try TrainingLog.points(of: "batch_top1", in: files.log)
    let measured = try TrainingLog.points(of: "validation_top1", in: files.log)
    var accuracies = [CurveSeries("the teacher's choice of text in a batch", batch)]
    if !measured.isEmpty { accuracies.append(CurveSeries("zero-shot top-1", measured)) }
    let name = URL(fileURLWithPath: job.output).lastPathComponent
    try files.write(
      Curve(
        title: "\(type(of: job).name) \(name)", losses: [CurveSeries("loss", losses)],
        accuracies: accuracies))
  }
}
