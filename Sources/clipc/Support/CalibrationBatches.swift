import Checkpoints
import Datasets
import GraphIR
import Operators
import Preprocessing
import TensorCore

/// Calibration inputs from a dataset: images, then texts, a batch in memory at a time.
final class CalibrationBatches: BatchSource {
  private let opened: OpenedModel
  /// The samples.
  let dataset: Dataset
  private let threadCount: Int
  private let seed: UInt64
  private let graph: Graph
  private let prompts: Prompts

  /// Takes the samples that `options` choose; nil where they name no data.
  init?(
    _ options: CalibrationOptions, _ opened: OpenedModel, _ graph: Graph, _ common: CommonOptions
  ) throws {
    guard let dataset = try options.dataset(opened, common) else { return nil }
    self.opened = opened
    self.graph = graph
    self.dataset = dataset
    prompts = try options.prompts()
    threadCount = common.threads
    seed = common.seed
  }

  /// A hash of all that decides the batches beside the model: names, bytes and captions of the
  /// images, classes and prompts, and the seed.
  func identity() throws -> String {
    var hash = SHA256()
    func take(_ bytes: [UInt8]) {
      withUnsafeBytes(of: UInt64(bytes.count).littleEndian) { hash.update($0) }
      bytes.withUnsafeBytes { hash.update($0) }
    }
    try dataset.forEachSample { sample in
      take(Array(sample.name.utf8))
      take(Array((sample.caption ?? "").utf8))
      take(Array("\(sample.classIndex ?? -1)".utf8))
      take((try? sample.loadBytes()) ?? [])
    }
    for text in dataset.classNames + ["prompts"] + prompts.templates { take(Array(text.utf8)) }
    take(Array("\(seed)".utf8))
    return hash.finish()
  }

  func forEachBatch(_ body: (Batch) throws -> Void) throws {
    var captions: [String] = []
    if let extents = graph.imageExtents { captions = try forEachImageBatch(extents, body) }
    if graph.value(named: "input_ids") != nil {
      try forEachTextBatch(captions, body)
    }
  }

  private func forEachImageBatch(
    _ extents: [Int], _ body: (Batch) throws -> Void
  ) throws -> [String] {
    let batchCount = max(1, min(32, (1 << 22) / max(extents.reduce(1, *), 1)))
    var captions: [String] = []
    var pixels: [Float] = []
    var count = 0
    var used = 0
    func flush() throws {
      guard count > 0 else { return }
      try body(Batch(inputs: ["pixel_values": Tensor(shape: [count] + extents, pixels)]))
      pixels.removeAll(keepingCapacity: true)
      used += count
      count = 0
    }
    try ImagePipeline.forEachDecoded(
      dataset, threads: threadCount,
      transform: try ModelInputs.pixelFunction(opened)
    ) { sample, result in
      if let caption = sample.caption, captions.count < 4096 { captions.append(caption) }
      switch result {
      case .success(let values):
        pixels += values
        count += 1
        if count == batchCount { try flush() }
      case .failure(let error): Terminal.warn("\(sample.name): skipped, \(error)")
      }
    }
    try flush()
    guard used > 0 else {
      throw Failure(.malformedInput, "no calibration image could be read")
    }
    return captions
  }

  private func forEachTextBatch(
    _ captions: [String], _ body: (Batch) throws -> Void
  ) throws {
    let texts =
      captions.isEmpty ? dataset.classNames.flatMap { prompts.prompts(for: $0) } : captions
    var ids: [[Int32]]
    if let tokenizer = try? opened.tokenizer(), !texts.isEmpty {
      ids = texts.map { tokenizer.ids(of: $0) }
    } else {
      Terminal.warn("no texts or no tokenizer: the text tower is calibrated on random ids")
      ids = randomIDs()
    }
    // Equal lengths together: padding must not count in the statistics.
    ids.sort { $0.count < $1.count || ($0.count == $1.count && $0.lexicographicallyPrecedes($1)) }
    var start = 0
    while start < ids.count {
      let length = ids[start].count
      var end = start
      while end < ids.count, end - start < 64, ids[end].count == length { end += 1 }
      let rows = ids[start..<end].flatMap { $0 }
      try body(Batch(inputs: ["input_ids": Tensor(shape: [end - start, length], rows)]))
      start = end
    }
  }

  /// Sixteen sequences over the whole vocabulary, the largest id last as an end token would be.
  private func randomIDs() -> [[Int32]] {
    guard let vocabulary = graph.vocabularyCount, let context = graph.contextLength, vocabulary > 2,
      context > 2
    else { return [] }
    var random = SplitMix64(seed: seed)
    let length = min(context, 32)
    return (0..<16).map { _ in
      [Int32(vocabulary - 2)]
        + (0..<(length - 2)).map { _ in Int32(random.nextIndex(below: vocabulary - 2)) }
        + [Int32(vocabulary - 1)]
    }
  }
}
