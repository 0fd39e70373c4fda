import Preprocessing
import TensorCore

/// Makes the rows of training batches, each decided by the seed, its sample and its epoch alone.
struct TrainingSource: Sendable {
  let dataset: Dataset
  let order: EpochOrder
  let options: TrainingBatches.Options
  let transform: AugmentedTransform
  let captions: TrainingCaptions
  let cache: ImageCache

  /// Writes the pixels of a sample, or of the one that stands in for it, and tells the rest.
  ///
  /// - Parameters:
  ///   - sample: an index into the data set.
  ///   - epoch: of the step.
  ///   - pixels: `[3, height, width]` of the transform's size.
  /// - Returns: all of the row but its pixels.
  /// - Throws: ``DataError`` where no sample can be used, or what a closure of the caller throws.
  func row(
    sample: Int, epoch: Int, into pixels: UnsafeMutableBufferPointer<Float>
  ) throws -> TrainingRow {
    var failures: [SampleFailure] = []
    let (index, source, image) = try usable(sample, &failures)
    let view = view(of: index, epoch: epoch)
    let parameters = try parameters(of: image, sample: index, view: view)
    do {
      let resized: AugmentedTransform.ResizedImage
      switch image {
      case .resized(let image): resized = image
      case .source(let image): resized = try transform.resized(image, crop: parameters.crop)
      }
      transform.write(resized, parameters, into: pixels)
    } catch {
      throw DataError.malformed(
        place: source.name, expected: "an image that view \(view) fits", found: "\(error)")
    }
    return TrainingRow(
      sample: index, view: view, parameters: parameters,
      tokens: try captions.ids(of: source, index: index, epoch: epoch, seed: options.seed),
      classIndex: source.classIndex.map { Int32(clamping: $0) }, failures: failures)
  }

  /// `sample` with its image, or the first that stands in for it and can be decoded.
  private func usable(
    _ sample: Int, _ failures: inout [SampleFailure]
  ) throws -> (index: Int, sample: Sample, image: ImageCache.Entry) {
    var candidate: Int? = sample
    var replacements = order.replacements(of: sample).makeIterator()
    while let index = candidate {
      let source = try dataset.sample(at: index)
      do throws(DataError) {
        return (index, source, try cache.image(of: source))
      } catch { failures.append(SampleFailure(sample: index, error: error)) }
      candidate = replacements.next()
    }
    let first = failures.first.map { "; \($0.error)" } ?? ""
    throw DataError.malformed(
      place: dataset.path, expected: "images that can be decoded",
      found: "none among \(failures.count) samples\(first)")
  }

  private func view(of sample: Int, epoch: Int) -> Int {
    guard let viewCount = options.viewCount else { return epoch }
    // Each view comes once in so many epochs, and samples do not all start with the same one.
    var generator = SplitMix64(seed: options.seed, stream: .viewChoice, sample)
    return (generator.nextIndex(below: viewCount) + epoch) % viewCount
  }

  private func parameters(
    of image: ImageCache.Entry, sample: Int, view: Int
  ) throws -> AugmentationParameters {
    if let storedViews = options.storedViews { return try storedViews(sample, view) }
    var size = transform.size
    if case .source(let image) = image {
      size = ImageSize(height: image.height, width: image.width)
    }
    return options.augmentation.parameters(
      for: size, seed: options.seed, sample: sample, view: view)
  }
}
