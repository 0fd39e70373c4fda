import ArgumentParser
import Checkpoints
import Datasets
import Evaluation
import GraphIR
import Operators
import Preprocessing
import TensorCore
import Training

/// `clipc reinforce`: stores what a teacher makes of data, so that training need not run it.
struct Reinforce: Command {
  static let configuration = CommandConfiguration(
    abstract: "Store a teacher's embeddings of data, for distillation without running it.",
    discussion: """
      Every image is embedded under several augmentations, which are stored too, and every caption
      once. `clipc distill --reinforced OUT` replays them.
      """)

  @Argument(help: "The teacher: a checkpoint folder or clipc model.") var model: String
  @Option(name: .shortAndLong, help: "The file of stored embeddings (.h5).") var output: String
  @Option(help: "Images with captions or classes: a folder, a CSV file or shards.")
  var data: String
  @Option(help: "Class names in order, a line each.") var classes: String?
  @Option(help: "Prompts for class names, a line each, for images without captions.")
  var templates: String?
  @Option(help: "The column of a table that holds image paths.")
  var imageColumn = "filepath"
  @Option(help: "The column of a table that holds captions.") var captionColumn = "title"
  @Option(help: "Augmentations of each image.") var views = 4
  @Option(help: "How images are varied, such as crop=0.6,pad=4,flip=0.5,brightness=0.2.")
  var augment = "flip=0.5"
  @OptionGroup var common: CommonOptions

  func validate() throws {
    guard (1...1000).contains(views) else {
      throw ValidationError("--views must lie in 1...1000, found \(views)")
    }
  }

  func execute() throws {
    let teacher = try OpenedModel(path: model)
    let graph = try teacher.graphModel(for: "reinforce").graph
    let inputs = try ModelInputs(teacher, threadCount: common.threads)
    let dataset = try Dataset.open(
      path: data, classesFile: classes, imageColumn: imageColumn, captionColumn: captionColumn)
    dataset.warnings.forEach(Terminal.warn)
    let extents = try teacher.imageExtents()
    var builder = try ReinforcedDatasetBuilder(
      identity: try DatasetIdentity(of: dataset), viewCount: views,
      embeddingWidth: inputs.encoder.embeddingWidth,
      imageSize: ImageSize(height: extents[1], width: extents[2]),
      teacherSHA256: try teacher.sha256(), logitScale: graph.logitScale ?? 1)
    let used = try addImages(of: dataset, inputs, teacher, to: &builder)
    try addTexts(of: dataset, inputs, to: &builder)
    try builder.write(to: output)
    let bytes = builder.byteCount
    if common.json {
      Terminal.print(
        JSON.object([
          ("output", .text(output)), ("samples", .integer(dataset.sampleCount)),
          ("views", .integer(views)), ("readable", .integer(used)), ("bytes", .integer(bytes)),
        ]).text)
    } else {
      Terminal.print("\(used) images under \(views) augmentations each, \(bytes) bytes")
      Terminal.print("wrote \(printable(output))")
    }
  }

  /// One view of a sample.
  private struct View {
    let sample: Int
    let view: Int
    let parameters: AugmentationParameters
  }

  private func addImages(
    of dataset: Dataset, _ inputs: ModelInputs, _ teacher: OpenedModel,
    to builder: inout ReinforcedDatasetBuilder
  ) throws -> Int {
    let augmentation = try Augmentation(parsing: augment)
    let transform = try AugmentedTransform(try teacher.imageTransform())
    let width = inputs.encoder.embeddingWidth
    let progress = Progress("images", total: dataset.sampleCount)
    var pending: [View] = []
    var pixels: [Float] = []
    var index = 0
    var used = 0
    func flush() throws {
      guard !pending.isEmpty else { return }
      let rows = try inputs.encoder.encodeImages(pixels, count: pending.count)
      for (row, view) in pending.enumerated() {
        try rows[(row * width)..<((row + 1) * width)].withUnsafeBufferPointer { row in
          try builder.add(
            sample: view.sample, view: view.view, parameters: view.parameters, embedding: row)
        }
      }
      pending.removeAll(keepingCapacity: true)
      pixels.removeAll(keepingCapacity: true)
    }
    try ImagePipeline.forEachDecoded(
      dataset, threads: common.threads, transform: { $0 }
    ) { sample, result in
      switch result {
      case .success(let image):
        used += 1
        for view in 0..<views {
          let parameters = augmentation.parameters(
            for: ImageSize(height: image.height, width: image.width), seed: common.seed,
            sample: index, view: view)
          pixels += try transform.pixels(of: image, parameters)
          pending.append(View(sample: index, view: view, parameters: parameters))
          if pending.count == ModelInputs.batch { try flush() }
        }
      case .failure(let error):
        // A run replaces such an image by another, so that its place is never looked up.
        Terminal.warn("\(sample.name): skipped, \(error)")
        var unit = [Float](repeating: 0, count: width)
        unit[0] = 1
        for view in 0..<views {
          try unit.withUnsafeBufferPointer {
            try builder.add(sample: index, view: view, parameters: .none, embedding: $0)
          }
        }
      }
      index += 1
      progress.update(index)
    }
    try flush()
    progress.finish()
    guard used > 0 else { throw Failure(.malformedInput, "\(data): no image could be read") }
    return used
  }

  private func addTexts(
    of dataset: Dataset, _ inputs: ModelInputs, to builder: inout ReinforcedDatasetBuilder
  ) throws {
    let prompts = try templates.map { try Prompts(file: $0) } ?? .standard
    var texts: [String] = []
    var seen = Set<String>()
    try dataset.forEachSample { sample in
      if let caption = sample.caption, seen.insert(caption).inserted { texts.append(caption) }
    }
    for name in dataset.classNames {
      texts += prompts.prompts(for: name).filter { seen.insert($0).inserted }
    }
    let width = inputs.encoder.embeddingWidth
    let ids = try inputs.tokenIDs(texts)
    let rows = try inputs.encoder.encodeTexts(ids)
    for (index, tokens) in ids.enumerated() where !builder.hasText(tokens) {
      try rows[(index * width)..<((index + 1) * width)].withUnsafeBufferPointer {
        try builder.addText(tokens: tokens, embedding: $0)
      }
    }
  }
}
