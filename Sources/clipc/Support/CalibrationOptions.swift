import ArgumentParser
import Datasets

/// The data that a pass measures a model on.
struct CalibrationOptions: ParsableArguments {
  @Option(help: "Calibration data: an image folder, CSV or TSV file, or WebDataset shards.")
  var data: String?
  @Option(
    help: ArgumentHelp(
      "How many samples to calibrate on; 512, or all where there are fewer, by default.",
      valueName: "n"))
  var calibrationSamples: Int?
  @Option(
    help: """
      random, or clusters: from every group of what the model itself finds alike, more from those \
      that vary more.
      """)
  var select: CalibrationSelection = .random
  @Option(help: "A file with a prompt a line, {} for the class.") var templates: String?
  @Option(help: "A file with a class a line.") var classes: String?
  @Option(help: "The column of image paths.") var imageColumn = "filepath"
  @Option(help: "The column of captions.") var captionColumn = "title"

  func validate() throws {
    if let calibrationSamples, calibrationSamples <= 0 {
      throw ValidationError("--calibration-samples must be positive, found \(calibrationSamples)")
    }
  }

  /// The chosen samples; nil without data.
  ///
  /// - Throws: ``Failure`` when more samples are asked for than there are.
  func dataset(_ opened: OpenedModel, _ common: CommonOptions) throws -> Dataset? {
    guard let data else { return nil }
    let dataset = try Dataset.open(
      path: data, classesFile: classes, imageColumn: imageColumn, captionColumn: captionColumn)
    dataset.warnings.forEach(Terminal.warn)
    if let calibrationSamples, calibrationSamples > dataset.sampleCount {
      throw Failure(
        .malformedInput,
        "\(data): --calibration-samples asks for \(calibrationSamples) samples, found "
          + "\(dataset.sampleCount)")
    }
    let count = calibrationSamples ?? 512
    switch select {
    case .random: return dataset.selecting(count: count, seed: common.seed)
    case .clusters:
      return try dataset.selectingClusters(
        count: count, seed: common.seed, opened, threadCount: common.threads)
    }
  }

  /// The sentences that stand for a class.
  func prompts() throws -> Prompts {
    try templates.map { try Prompts(file: $0) } ?? .standard
  }
}
