import ArgumentParser
import Datasets
import Evaluation
import Foundation
import Operators

/// `clipc eval`: measures how well a model does.
struct Eval: Command {
  static let configuration = CommandConfiguration(
    abstract: "Measure zero-shot accuracy, retrieval recall or agreement with another model.")

  /// What is measured.
  enum Task: String, CaseIterable, ExpressibleByArgument {
    case zeroShot = "zero-shot"
    case retrieval
    case agreement
  }

  @Argument(help: "Any model.") var model: String
  @Option(help: "An image folder, CSV or TSV file, or WebDataset shards.") var data: String
  @Option(help: "zero-shot, retrieval or agreement.") var task: Task = .zeroShot
  @Option(help: "A file with a prompt a line, {} for the class.") var templates: String?
  @Option(help: "A file with a class a line.") var classes: String?
  @Option(help: "The model to compare with, for agreement.") var reference: String?
  @Option(help: "Exit with 1 when the main figure is lower.") var failBelow: Double?
  @Option(help: "The column of image paths.") var imageColumn = "filepath"
  @Option(help: "The column of captions.") var captionColumn = "title"
  @Flag(help: "Turn images upright as their EXIF orientation says.") var exif = false
  @OptionGroup var common: CommonOptions

  func execute() throws {
    guard (task == .agreement) == (reference != nil) else {
      throw Failure(.usage, "--reference goes with --task agreement, and that needs it")
    }
    let opened = try OpenedModel(path: model)
    let inputs = try ModelInputs(
      opened, threadCount: common.threads, appliesOrientation: exif)
    guard templates == nil || inputs.encoder.vocabularyCount != nil else {
      throw Failure(
        .usage, "--templates needs a text tower: the embeddings of a file's own labels are made")
    }
    let dataset = try Dataset.open(
      path: data, classesFile: classes, imageColumn: imageColumn, captionColumn: captionColumn)
    dataset.warnings.forEach(Terminal.warn)
    try Matrix.open()
    let prompts = try templates.map { try Prompts(file: $0) } ?? .standard
    let start = ContinuousClock.now
    let figure: EvalFigure =
      switch task {
      case .zeroShot: try EvalRun(inputs, dataset, prompts).zeroShot()
      case .retrieval: try EvalRun(inputs, dataset, prompts).retrieval()
      case .agreement:
        try EvalRun(inputs, dataset, prompts).agreement(
          with: ModelInputs(
            OpenedModel(path: reference ?? ""), threadCount: common.threads,
            appliesOrientation: exif))
      }
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    Terminal.print(
      common.json ? figure.json(seconds: seconds).text : figure.text(seconds: seconds))
    if let failBelow, !(figure.main >= failBelow) {
      throw Failure(
        .checkFailed, "\(figure.mainName) is \(figure.main), below \(failBelow)")
    }
  }
}
