import Datasets
import Evaluation
import GraphIR

/// What models that are compared are measured on.
struct AccuracyMeasure {
  private let dataset: Dataset
  private let prompts: Prompts
  private let threadCount: Int

  /// Measures on `validation`, or on the calibration data where that is nil.
  init(_ calibration: CalibrationOptions, validation: String?, _ common: CommonOptions) throws {
    guard let path = validation ?? calibration.data else {
      throw Failure(.usage, "--compare needs --validation, or --data, to measure accuracy on")
    }
    if validation == nil {
      Terminal.warn("accuracy is measured on the calibration data: --validation names others")
    }
    dataset = try Dataset.open(
      path: path, classesFile: calibration.classes, imageColumn: calibration.imageColumn,
      captionColumn: calibration.captionColumn)
    dataset.warnings.forEach(Terminal.warn)
    prompts = try calibration.prompts()
    threadCount = common.threads
  }

  /// How many samples there are.
  var sampleCount: Int { dataset.sampleCount }

  /// What the accuracy is called.
  var task: String { dataset.classNames.isEmpty ? "mean recall@1" : "top-1" }

  /// Zero-shot top-1, or the mean of both recalls at 1 where the data have captions.
  func accuracy(of opened: OpenedModel) throws -> Double {
    let evaluation = EvalRun(try ModelInputs(opened, threadCount: threadCount), dataset, prompts)
    let figure =
      dataset.classNames.isEmpty ? try evaluation.retrieval() : try evaluation.zeroShot()
    return figure.main
  }
}
