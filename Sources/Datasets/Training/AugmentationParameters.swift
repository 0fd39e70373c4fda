import Preprocessing

/// What was drawn for one view of an image: enough to make the same pixels of it again.
///
/// - Source: Vasu et al., "MobileCLIP: Fast Image-Text Models through Multi-Modal Reinforced
///   Training", 2024, section 3, which stores such parameters beside the teachers' embeddings.
package struct AugmentationParameters: Hashable, Sendable {
  /// The part of the image that becomes the whole output; nil for the transform's own choice.
  package var crop: PixelRectangle?
  /// Rows that the resized image moves up by, black ones coming in; negative for down.
  package var rowShift: Int
  /// Columns that the resized image moves left by, black ones coming in; negative for right.
  package var columnShift: Int
  /// Whether left and right are exchanged, after the shift.
  package var isFlipped: Bool
  /// What pixel values are multiplied by, from 0 to 2; the products are kept from 0 to 255.
  package var brightness: Float

  /// Parameters that by default change nothing.
  package init(
    crop: PixelRectangle? = nil, rowShift: Int = 0, columnShift: Int = 0, isFlipped: Bool = false,
    brightness: Float = 1
  ) {
    self.crop = crop
    self.rowShift = rowShift
    self.columnShift = columnShift
    self.isFlipped = isFlipped
    self.brightness = brightness
  }

  /// Leaves an image as the transform makes it.
  package static let none = AugmentationParameters()

  /// The view of `image` that the parameters describe; ``AugmentedTransform`` makes many of them
  /// in less time.
  ///
  /// - Returns: `[3, height, width]` of the transform's output.
  /// - Throws: ``DataError/malformed(place:expected:found:)`` where the parameters do not fit the
  ///   image, or the transform's output has no fixed size.
  package func apply(
    to image: RGBImage, transform: ImageTransform
  ) throws(DataError) -> [Float] {
    try AugmentedTransform(transform).pixels(of: image, self)
  }

  /// How many integers ``packed`` holds.
  package static let packedCount = 8

  /// The parameters as integers: top, left, height and width of the crop, all zero for none; rows
  /// and columns shifted; 1 for flipped, else 0; the bits of the brightness.
  package var packed: [Int32] {
    let sides = crop.map { [$0.top, $0.left, $0.height, $0.width] } ?? [0, 0, 0, 0]
    return (sides + [rowShift, columnShift, isFlipped ? 1 : 0]).map { Int32(clamping: $0) }
      + [Int32(bitPattern: brightness.bitPattern)]
  }

  /// The parameters that ``packed`` made `packed` of.
  ///
  /// - Throws: ``DataError/malformed(place:expected:found:)`` where the integers are not such.
  package init(packed: some Collection<Int32>) throws(DataError) {
    let values = packed.map { Int($0) }
    guard values.count == Self.packedCount else {
      throw Self.malformed("\(Self.packedCount) integers", "\(values.count)")
    }
    if values[0..<4].contains(where: { $0 != 0 }) {
      let crop = PixelRectangle(
        top: values[0], left: values[1], height: values[2], width: values[3])
      guard crop.top >= 0, crop.left >= 0, crop.height > 0, crop.width > 0 else {
        throw Self.malformed("a crop inside an image", "\(values[0..<4])")
      }
      self.crop = crop
    }
    (rowShift, columnShift) = (values[4], values[5])
    let limit = Augmentation.mostPadding
    guard abs(rowShift) <= limit, abs(columnShift) <= limit else {
      throw Self.malformed("shifts of at most \(limit)", "\(rowShift) and \(columnShift)")
    }
    guard (0...1).contains(values[6]) else {
      throw Self.malformed("0 or 1 for a flip", "\(values[6])")
    }
    isFlipped = values[6] == 1
    brightness = Float(bitPattern: UInt32(bitPattern: Int32(truncatingIfNeeded: values[7])))
    guard (0...2).contains(brightness) else {
      throw Self.malformed("a brightness from 0 to 2", "\(brightness)")
    }
  }

  private static func malformed(_ expected: String, _ found: String) -> DataError {
    .malformed(place: "augmentation parameters", expected: expected, found: found)
  }
}

/// A part of an image in pixels.
package struct PixelRectangle: Hashable, Sendable {
  /// The first row.
  package var top: Int
  /// The first column.
  package var left: Int
  /// Rows.
  package var height: Int
  /// Columns.
  package var width: Int

  /// The rectangle of these rows and columns.
  package init(top: Int, left: Int, height: Int, width: Int) {
    self.top = top
    self.left = left
    self.height = height
    self.width = width
  }
}
