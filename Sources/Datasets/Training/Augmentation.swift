/// How training images are varied: which random changes are drawn for each view of one.
///
/// The changes are made in the order of the members. ``validate()`` says whether the numbers can be
/// worked with; ``TrainingBatches`` asks it.
package struct Augmentation: Codable, Hashable, Sendable {
  /// Cuts a random part out of the image and resizes it to the whole output; nil keeps the
  /// transform's own resize and crop.
  package var crop: ResizedCrop?
  /// Black pixels put on each side of the resized image before an output of its former size is cut
  /// from a random place; 0 for none.
  ///
  /// - Source: He et al., "Deep Residual Learning for Image Recognition", 2016, section 4.2.
  package var padding: Int
  /// How probable a mirroring of left and right is.
  package var flipProbability: Double
  /// How far from 1 the factor of all pixel values may lie.
  package var brightness: Double

  /// A random part of the image by its area and proportions.
  ///
  /// - Source: Szegedy et al., "Going Deeper with Convolutions", 2015, section 6.
  package struct ResizedCrop: Codable, Hashable, Sendable {
    /// The part's area over the image's, drawn uniformly.
    package var areaRange: ClosedRange<Double>
    /// The part's width over its height, drawn uniformly on a logarithmic scale.
    package var aspectRange: ClosedRange<Double>

    /// The proportions of the source.
    package static let standardAspectRange = 3.0 / 4...4.0 / 3

    /// A part of these areas and proportions.
    package init(
      areaRange: ClosedRange<Double>,
      aspectRange: ClosedRange<Double> = ResizedCrop.standardAspectRange
    ) {
      self.areaRange = areaRange
      self.aspectRange = aspectRange
    }
  }

  /// An augmentation of these changes, none of them by default.
  package init(
    crop: ResizedCrop? = nil, padding: Int = 0, flipProbability: Double = 0, brightness: Double = 0
  ) {
    self.crop = crop
    self.padding = padding
    self.flipProbability = flipProbability
    self.brightness = brightness
  }

  /// Leaves images as the transform makes them.
  package static let none = Augmentation()

  /// The largest ``padding``.
  package static let mostPadding = 1 << 14

  /// Checks that every number can be worked with.
  ///
  /// - Throws: ``DataError/malformed(place:expected:found:)`` with the part that cannot, as it
  ///   stands in ``description``.
  package func validate() throws(DataError) {
    if let crop {
      guard crop.areaRange.lowerBound > 0, crop.areaRange.upperBound <= 1 else {
        throw Self.malformed("areas above 0 and up to 1", crop.areaText)
      }
      guard crop.aspectRange.lowerBound >= 0.01, crop.aspectRange.upperBound <= 100 else {
        throw Self.malformed("proportions from 0.01 to 100", crop.aspectText)
      }
    }
    guard (0...Self.mostPadding).contains(padding) else {
      throw Self.malformed("0 to \(Self.mostPadding) pixels", "pad=\(padding)")
    }
    guard (0...1).contains(flipProbability) else {
      throw Self.malformed("a probability from 0 to 1", "flip=\(flipProbability)")
    }
    guard (0...1).contains(brightness) else {
      throw Self.malformed("a deviation from 0 to 1", "brightness=\(brightness)")
    }
  }

  static func malformed(_ expected: String, _ found: String) -> DataError {
    .malformed(place: "augmentation", expected: expected, found: "'\(found)'")
  }
}
