import Preprocessing
import TensorCore

/// The batches of training steps in order, decoded, augmented and tokenized ahead by threads.
///
/// A batch is decided by the data, the options and its step alone: not by the number of threads, by
/// the step that was the first, or by what is cached. The threads end with the object.
package final class TrainingBatches {
  /// What decides the batches, and how they are made.
  package struct Options: Sendable {
    /// Samples of a batch.
    package var batchCount: Int
    /// Decides every random choice.
    package var seed: UInt64 = 0
    /// How images are varied.
    package var augmentation = Augmentation.none
    /// How many views of a sample there are, each coming once in so many epochs; nil for a fresh
    /// one every epoch, whose number is the epoch's.
    package var viewCount: Int?
    /// The parameters of a sample's view where they are replayed, instead of being drawn from
    /// ``augmentation``; asked for on several threads.
    package var storedViews:
      (@Sendable (_ sample: Int, _ view: Int) throws -> AugmentationParameters)?
    /// How many images are decoded at a time, beside the caller's thread.
    package var threads = 1
    /// The step of the first batch, where a run goes on.
    package var firstStep = 0
    /// The group of each sample where batches are of one group each, taken by turns; negative for
    /// samples that are left out.
    package var groups: [Int]?
    /// The most bytes of decoded images that are kept.
    package var cacheByteCount = 512 << 20

    /// Batches of `batchCount` samples, one view of each, unvaried.
    package init(batchCount: Int) { self.batchCount = batchCount }
  }

  /// Whole batches of an epoch; what is left of its permutation is dropped.
  package let stepsPerEpoch: Int
  private let queue: BatchQueue
  private let dataset: Dataset
  private let warn: (String) -> Void
  private var reported: Set<Int> = []

  /// Starts to make the batches of `dataset`.
  ///
  /// - Parameters:
  ///   - dataset: images with captions or classes. One whose image cannot be decoded is replaced by
  ///     another that the seed decides.
  ///   - options: what decides the batches.
  ///   - transform: makes pixels of an image; its output has a fixed size.
  ///   - captions: makes token ids of a sample.
  ///   - warn: is told, by ``next()``, of each sample that had to be replaced, once.
  /// - Throws: ``DataError`` where the data hold fewer samples than a batch, or an option or the
  ///   transform cannot be worked with.
  package init(
    dataset: Dataset, options: Options, transform: ImageTransform, captions: TrainingCaptions,
    warn: @escaping (String) -> Void = { _ in }
  ) throws(DataError) {
    try Self.check(options, dataset)
    let transform = try AugmentedTransform(transform)
    let padding = options.augmentation.padding
    guard padding < min(transform.size.height, transform.size.width) else {
      throw Augmentation.malformed(
        "fewer pixels than the \(transform.size.height) by \(transform.size.width) of an image",
        "pad=\(padding)")
    }
    let order = EpochOrder(
      sampleCount: dataset.sampleCount, batchCount: options.batchCount, seed: options.seed,
      groups: options.groups)
    let cache = ImageCache(
      transform: transform, byteLimit: options.cacheByteCount, imageCount: dataset.sampleCount,
      cutsViews: options.augmentation.crop != nil || options.storedViews != nil)
    let source = TrainingSource(
      dataset: dataset, order: order, options: options, transform: transform, captions: captions,
      cache: cache)
    self.dataset = dataset
    self.warn = warn
    stepsPerEpoch = order.stepsPerEpoch
    queue = BatchQueue(source: source, firstStep: options.firstStep, threads: options.threads)
  }

  deinit { queue.stop() }

  /// The batch of the next step; waits for it.
  ///
  /// - Throws: ``DataError`` for a sample without a caption or class, for data none of whose images
  ///   can be decoded, and after ``stop()``; or what a closure of the caller threw. The same error
  ///   comes again from every later call.
  package func next() throws -> TrainingBatch {
    let batch = try queue.next()
    for failure in batch.failures where reported.insert(failure.sample).inserted {
      warn("\(failure.error); another sample takes its place")
    }
    return batch
  }

  /// Ends the threads, and waits for them; the images they are at are finished first.
  package func stop() { queue.stop() }

  private static func check(_ options: Options, _ dataset: Dataset) throws(DataError) {
    try options.augmentation.validate()
    let count = dataset.sampleCount
    guard count > 0 else {
      throw .malformed(place: dataset.path, expected: "images to train with", found: "none")
    }
    try check(options.batchCount, "batch size", atLeast: 1)
    guard options.batchCount <= count else {
      throw .malformed(
        place: dataset.path, expected: "the \(options.batchCount) samples of a batch at least",
        found: "\(count)")
    }
    if let groups = options.groups {
      let sizes = groups.reduce(into: [Int: Int]()) { if $1 >= 0 { $0[$1, default: 0] += 1 } }
      guard groups.count == count, let largest = sizes.values.max(), largest >= options.batchCount
      else {
        throw .malformed(
          place: "training batches, groups",
          expected: "one for each of the \(count) samples, the largest of a batch at least",
          found: "\(groups.count) with up to \(sizes.values.max() ?? 0) samples")
      }
    }
    try check(options.threads, "threads", atLeast: 1)
    try check(options.firstStep, "first step", atLeast: 0)
    try check(options.cacheByteCount, "bytes of cache", atLeast: 0)
    if let viewCount = options.viewCount { try check(viewCount, "views", atLeast: 1) }
  }

  private static func check(
    _ value: Int, _ name: String, atLeast least: Int
  ) throws(DataError) {
    guard value >= least else {
      throw .malformed(
        place: "training batches, \(name)", expected: "\(least) at least", found: "\(value)")
    }
  }
}
