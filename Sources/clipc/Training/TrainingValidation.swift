import Datasets
import Evaluation
import GraphIR
import Training

/// The zero-shot accuracy that a run measures as it goes on.
struct TrainingValidation {
  private let dataset: Dataset
  private let prompts: Prompts
  private let threadCount: Int

  /// Opens the validation data; nil where the job names none.
  init?(_ job: any TrainingJob) throws {
    guard let path = job.data.validation else { return nil }
    dataset = try Dataset.open(path: path, classesFile: job.data.classes)
    dataset.warnings.forEach(Terminal.warn)
    prompts = try job.data.templates.map { try Prompts(file: $0) } ?? .standard
    threadCount = job.common.threads
    guard !dataset.classNames.isEmpty else {
      throw Failure(
        .malformedInput, "\(path): --validation needs classes: an image folder, or --classes")
    }
  }

  /// The zero-shot top-1 of a model.
  func accuracy(of model: OpenedModel) throws -> Double {
    try EvalRun(ModelInputs(model, threadCount: threadCount), dataset, prompts).zeroShot()
      .main
  }

  /// The zero-shot top-1 of `graph` with the tokenizer and preprocessing of `model`.
  func accuracy(of graph: Graph, like model: CLIPModel) throws -> Double {
    var changed = model
    changed.graph = graph
    return try accuracy(of: OpenedModel(changed, name: "the student"))
  }
}

extension TrainingJob {
  /// Steps between two measurements in a run of `total` steps.
  func validationInterval(_ total: Int) -> Int { max(1, data.validateEvery ?? total / 10) }
}
