import Preprocessing
import Synchronization

/// Decoded images for training, kept in memory while they fit.
///
/// The first images stay: an epoch comes to each image once, so giving one up for another gains
/// nothing. What is kept never changes what is made of an image.
final class ImageCache: Sendable {
  /// An image as far as it can be prepared for every view.
  enum Entry: Sendable {
    /// As decoded.
    case source(RGBImage)
    /// As the transform resizes it, where no view is cut out of the image.
    case resized(AugmentedTransform.ResizedImage)
  }

  private struct Contents {
    var entries: [String: Entry] = [:]
    var byteCount = 0
  }

  private let transform: AugmentedTransform
  private let limit: Int
  private let cutsViews: Bool
  private let fitsResized: Bool
  private let contents = Mutex(Contents())

  /// A cache of at most `byteLimit` bytes of pixels.
  ///
  /// - Parameters:
  ///   - transform: what images are resized by.
  ///   - byteLimit: 0 keeps nothing.
  ///   - imageCount: how many images there are at most.
  ///   - cutsViews: whether views may be parts of images, so that these are needed as decoded.
  init(transform: AugmentedTransform, byteLimit: Int, imageCount: Int, cutsViews: Bool) {
    self.transform = transform
    limit = byteLimit
    self.cutsViews = cutsViews
    fitsResized = byteLimit / max(1, transform.resizedByteCount) >= imageCount
  }

  /// The image of `sample`.
  ///
  /// - Throws: ``DataError`` where it cannot be read, decoded or resized.
  func image(of sample: Sample) throws(DataError) -> Entry {
    if let entry = contents.withLock({ $0.entries[sample.imageKey] }) { return entry }
    let image = try sample.decode()
    if cutsViews { return keep(.source(image), of: sample, image.bytes.count) }
    let resized: AugmentedTransform.ResizedImage
    do { resized = try transform.resized(image, crop: nil) } catch {
      throw .malformed(place: sample.name, expected: "an image that fits", found: "\(error)")
    }
    let byteCount = transform.resizedByteCount
    if fitsResized || byteCount <= image.bytes.count {
      return keep(.resized(resized), of: sample, byteCount)
    }
    _ = keep(.source(image), of: sample, image.bytes.count)
    return .resized(resized)
  }

  private func keep(_ entry: Entry, of sample: Sample, _ byteCount: Int) -> Entry {
    contents.withLock { contents in
      guard contents.byteCount + byteCount <= limit else { return }
      if contents.entries.updateValue(entry, forKey: sample.imageKey) == nil {
        contents.byteCount += byteCount
      }
    }
    return entry
  }
}
