import Datasets
import Evaluation
import GraphIR
import Preprocessing
import TensorCore
import Training

/// The data of a run: where batches come from and what each step is given.
struct TrainingInputs {
  let dataset: Dataset
  let transform: ImageTransform
  let captions: TrainingCaptions
  let augmentation: Augmentation
  let reinforced: ReinforcedDataset?
  /// Whether an objective asks for the classes of a batch.
  var givesClasses = false

  /// Opens the data at `path`, read as `options` say, for a student and its teacher.
  init(
    _ path: String, _ options: TrainingDataOptions, _ model: OpenedModel, teacher: OpenedModel
  ) throws {
    dataset = try Dataset.open(
      path: path, classesFile: options.classes, imageColumn: options.imageColumn,
      captionColumn: options.captionColumn)
    dataset.warnings.forEach(Terminal.warn)
    guard try model.imageExtents() == teacher.imageExtents(),
      try model.imageTransform() == teacher.imageTransform()
    else {
      throw Failure(
        .malformedInput,
        "\(model.path) and \(teacher.path) take different images: their sizes and preprocessing "
          + "must agree")
    }
    let tokenizer = try model.tokenizer()
    guard try Self.encodedTokenizer(model) == Self.encodedTokenizer(teacher) else {
      throw Failure(
        .malformedInput,
        "\(model.path) and \(teacher.path) have different tokenizers: a student needs its "
          + "teacher's")
    }
    _ = try ModelInputs.pixelFunction(model)
    transform = try model.imageTransform()
    augmentation = try Augmentation(parsing: options.augment)
    let prompts = try options.templates.map { try Prompts(file: $0) } ?? .standard
    captions = TrainingCaptions(prompts: prompts, classNames: dataset.classNames) {
      tokenizer.ids(of: $0)
    }
    try Self.checkWords(dataset, prompts)
    guard let storedPath = options.reinforced else {
      reinforced = nil
      return
    }
    let stored = try ReinforcedDataset(opening: storedPath)
    let extents = try model.imageExtents()
    try stored.check(
      try DatasetIdentity(of: dataset),
      imageSize: ImageSize(height: extents[1], width: extents[2]))
    guard stored.teacherSHA256 == (try teacher.sha256()) else {
      throw Failure(.malformedInput, "\(storedPath) holds embeddings of another teacher")
    }
    reinforced = stored
  }

  private static func encodedTokenizer(_ model: OpenedModel) throws -> [UInt8]? {
    guard case .graph(let graph) = model.content else { return nil }
    return graph.tokenizer
  }

  /// Throws where all samples would get the same words, from which nothing can be learned.
  private static func checkWords(_ dataset: Dataset, _ prompts: Prompts) throws {
    guard dataset.kind == .folder, dataset.classNames.count < 2 else { return }
    throw Failure(
      .malformedInput,
      "\(dataset.path): all images are of one class, so that every text is the same; expected "
        + "two classes or more, or captions")
  }

  /// The batches from `firstStep` on; of one group each where `groups` names each sample's, and of
  /// images as they are unless `isVaried`.
  func batches(
    count: Int, seed: UInt64, threads: Int, firstStep: Int, groups: [Int]? = nil,
    isVaried: Bool = true
  ) throws -> TrainingBatches {
    var options = TrainingBatches.Options(batchCount: count)
    options.seed = seed
    options.threads = threads
    options.firstStep = firstStep
    options.groups = groups
    if !isVaried {
      options.augmentation = .none
    } else if let reinforced {
      options.viewCount = reinforced.viewCount
      options.storedViews = { try reinforced.parameters(sample: $0, view: $1) }
    } else {
      options.augmentation = augmentation
    }
    return try TrainingBatches(
      dataset: dataset, options: options, transform: transform, captions: captions,
      warn: Terminal.warn)
  }

  /// What a step is given.
  func inputs(of batch: TrainingBatch) throws -> [String: Tensor] {
    var inputs = ["pixel_values": batch.pixels, "input_ids": batch.tokens]
    if let reinforced {
      inputs["teacher.image_embeds"] = try reinforced.imageEmbeddings(of: batch)
      inputs["teacher.text_embeds"] = try reinforced.textEmbeddings(of: batch)
    }
    if givesClasses, let classes = batch.classIndices {
      inputs["class_indices"] = Tensor(shape: [classes.count, 1], classes)
    }
    return inputs
  }
}
