import Preprocessing

/// An image transform that makes augmented views, prepared for many images.
///
/// With ``AugmentationParameters/none`` it makes what `ImageTransform.pixels(of:)` does, bit for
/// bit. A view is cut out of the image, resized, shifted, flipped, brightened, and scaled as the
/// transform says; where the transform's arithmetic rounds resized pixels to bytes, brightened ones
/// are rounded to bytes too.
package struct AugmentedTransform: Sendable {
  /// What the views are resized and scaled by.
  package let transform: ImageTransform
  /// The size of every view.
  package let size: ImageSize
  /// Makes resized pixel values of an image, and of a part cut out of one.
  private let whole: ImageTransform
  private let part: ImageTransform
  /// What becomes of each byte, channel by channel.
  private let table: [Float]

  /// Prepares `transform`.
  ///
  /// - Throws: ``DataError/malformed(place:expected:found:)`` where the transform cannot be worked
  ///   with or its output follows the size of the image.
  package init(_ transform: ImageTransform) throws(DataError) {
    guard let size = transform.resultSize else {
      throw Self.malformed("an output of one size", "one that follows the image's")
    }
    self.transform = transform
    self.size = size
    var whole = transform
    whole.scaling = .affine(scale: [1, 1, 1], offset: [0, 0, 0])
    self.whole = whole
    var part = whole
    part.resize = .exact(size)
    part.crop = nil
    self.part = part
    do throws(PreprocessingError) {
      try transform.validate()
      let bytes = (UInt8.min...UInt8.max).flatMap { [$0, $0, $0] }
      table = try ImageTransform(resize: .none, crop: nil, scaling: transform.scaling)
        .pixels(of: RGBImage(width: 256, height: 1, bytes: bytes))
    } catch { throw Self.malformed("a transform that can be applied", "\(error)") }
  }

  /// The view of `image` that `parameters` describe.
  ///
  /// - Returns: `[3, height, width]` of ``size``: all red values, then green, then blue.
  /// - Throws: ``DataError/malformed(place:expected:found:)`` where the parameters do not fit the
  ///   image, or the image cannot be resized.
  package func pixels(
    of image: RGBImage, _ parameters: AugmentationParameters
  ) throws(DataError) -> [Float] {
    let resized = try resized(image, crop: parameters.crop)
    return [Float](unsafeUninitializedCapacity: valueCount) { output, initialized in
      write(resized, parameters, into: output)
      initialized = valueCount
    }
  }

  /// Numbers of a view.
  var valueCount: Int { 3 * size.height * size.width }

  /// Pixels of ``size``, from 0 to 255, before they are shifted, flipped, brightened and scaled.
  enum ResizedImage: Sendable {
    /// Red, green and blue of each pixel, row by row.
    case bytes([UInt8])
    /// All red values, then green, then blue.
    case values([Float])
  }

  /// Bytes that a ``ResizedImage`` takes.
  var resizedByteCount: Int { transform.arithmetic == .float ? 4 * valueCount : valueCount }

  /// Resizes `crop` of `image`, or as the transform says where it is nil.
  func resized(_ image: RGBImage, crop: PixelRectangle?) throws(DataError) -> ResizedImage {
    guard let crop else { return try resized(image, by: whole) }
    guard crop.top >= 0, crop.left >= 0, crop.height > 0, crop.width > 0,
      crop.height <= image.height - crop.top, crop.width <= image.width - crop.left
    else {
      throw Self.malformed(
        "a crop inside \(image.height) rows and \(image.width) columns", "\(crop)")
    }
    return try resized(image.cut(crop), by: part)
  }

  private func resized(
    _ image: RGBImage, by resizing: ImageTransform
  ) throws(DataError) -> ResizedImage {
    if keepsPixels(of: image, resizing) { return .bytes(image.bytes) }
    let planes: [Float]
    do { planes = try resizing.pixels(of: image) } catch {
      throw Self.malformed("an image that can be resized", "\(error)")
    }
    if resizing.arithmetic == .float { return .values(planes) }
    let area = size.height * size.width
    return .bytes(
      [UInt8](unsafeUninitializedCapacity: valueCount) { bytes, initialized in
        for pixel in 0..<area {
          for channel in 0..<3 {
            // These were bytes before the transform made floats of them.
            bytes[3 * pixel + channel] = UInt8(planes[channel * area + pixel])
          }
        }
        initialized = valueCount
      })
  }

  /// Whether a resize to bytes would leave every pixel as it is.
  private func keepsPixels(of image: RGBImage, _ resizing: ImageTransform) -> Bool {
    guard resizing.arithmetic != .float, image.height == size.height, image.width == size.width
    else { return false }
    switch resizing.resize {
    case .none: return true
    case .shortestEdge(let side): return side == min(size.height, size.width)
    case .exact(let target), .exactCroppingToAspectRatio(let target): return target == size
    }
  }

  private static func malformed(_ expected: String, _ found: String) -> DataError {
    .malformed(place: "image transform", expected: expected, found: found)
  }
}

extension AugmentedTransform {
  /// Shifts, flips, brightens and scales a resized image into `output` of ``valueCount`` numbers.
  func write(
    _ image: ResizedImage, _ parameters: AugmentationParameters,
    into output: UnsafeMutableBufferPointer<Float>
  ) {
    switch image {
    case .bytes(let bytes):
      let brightened = brightenedTable(parameters.brightness)
      brightened.withUnsafeBufferPointer { table in
        bytes.withUnsafeBufferPointer { bytes in
          write(bytes, stride: 3, plane: 1, parameters, into: output) { byte, channel in
            table[channel * 256 + Int(byte)]
          }
        }
      }
    case .values(let values):
      let factor = parameters.brightness
      values.withUnsafeBufferPointer { values in
        write(
          values, stride: 1, plane: size.height * size.width, parameters, into: output
        ) { value, channel in
          // Cubic resizes overshoot a little, which is cut only where pixels are brightened.
          scaled(factor == 1 ? value : min(max(value * factor, 0), 255), channel: channel)
        }
      }
    }
  }

  private func brightenedTable(_ factor: Float) -> [Float] {
    guard factor != 1 else { return table }
    let bytes = (0..<256).map { value in
      Int(min(max(Float(value) * factor, 0), 255).rounded(.toNearestOrEven))
    }
    return (0..<3).flatMap { channel in bytes.map { table[channel * 256 + $0] } }
  }

  /// What the transform makes of a pixel value that is no byte.
  private func scaled(_ value: Float, channel: Int) -> Float {
    switch transform.scaling {
    case .normalize(let rescale, let mean, let deviation):
      let rescaled = Float(Double(value) * (rescale ?? 1))
      return (rescaled - (mean?[channel] ?? 0)) / (deviation?[channel] ?? 1)
    case .affine(let scale, let offset): return value * scale[channel] + offset[channel]
    }
  }

  /// Writes planes of `source`, whose pixels are `stride` and whose channels `plane` elements apart.
  @inline(__always)
  private func write<Value: Numeric>(
    _ source: UnsafeBufferPointer<Value>, stride: Int, plane: Int,
    _ parameters: AugmentationParameters, into output: UnsafeMutableBufferPointer<Float>,
    scaledBy scale: (Value, Int) -> Float
  ) {
    let (height, width) = (size.height, size.width)
    let shift = parameters.columnShift
    let first = min(max(0, -shift), width)
    let end = max(first, min(width, width - shift))
    for channel in 0..<3 {
      let black = scale(.zero, channel)
      for row in 0..<height {
        let start = (channel * height + row) * width
        let line = UnsafeMutableBufferPointer(rebasing: output[start..<start + width])
        let sourceRow = row + parameters.rowShift
        guard sourceRow >= 0, sourceRow < height, first < end else {
          line.update(repeating: black)
          continue
        }
        // A flip writes the same columns from the other end.
        var place = parameters.isFlipped ? width - 1 - first : first
        let step = parameters.isFlipped ? -1 : 1
        if end - first < width { line.update(repeating: black) }
        var index = (sourceRow * width + first + shift) * stride + channel * plane
        for _ in first..<end {
          line[place] = scale(source[index], channel)
          place += step
          index += stride
        }
      }
    }
  }
}

extension RGBImage {
  /// The pixels of `part`, which lies within the image.
  fileprivate func cut(_ part: PixelRectangle) throws(DataError) -> RGBImage {
    var cut: [UInt8] = []
    cut.reserveCapacity(3 * part.height * part.width)
    for row in part.top..<part.top + part.height {
      let start = 3 * (row * width + part.left)
      cut.append(contentsOf: bytes[start..<start + 3 * part.width])
    }
    do { return try RGBImage(width: part.width, height: part.height, bytes: cut) } catch {
      throw .malformed(place: "image", expected: "usable sides", found: "\(error)")
    }
  }
}
