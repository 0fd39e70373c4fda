import Datasets
import Preprocessing
import TensorCore
import Testing

@Suite struct AugmentedTransformTests {
  private func image(_ height: Int, _ width: Int, seed: UInt64 = 3) throws -> RGBImage {
    var generator = SplitMix64(seed: seed)
    let bytes = (0..<3 * height * width).map { _ in UInt8(generator.nextIndex(below: 256)) }
    return try RGBImage(width: width, height: height, bytes: bytes)
  }

  private static let transforms: [ImageTransform] = {
    var transforms: [ImageTransform] = []
    for arithmetic in [ImageTransform.Arithmetic.fixedPoint, .floatRounded, .float] {
      var clip = ImageTransform.clip(imageSize: 12)
      clip.arithmetic = arithmetic
      transforms.append(clip)
      transforms.append(
        ImageTransform(
          resize: .exact(height: 9, width: 14), filter: .bilinear, arithmetic: arithmetic,
          crop: nil, scaling: .affine(scale: [0.1, 2, -3], offset: [1, 0, -0.5])))
      transforms.append(
        ImageTransform(
          resize: .none, arithmetic: arithmetic, crop: ImageSize(height: 20, width: 7),
          scaling: .normalize(rescale: nil, mean: nil, deviation: [2, 3, 5])))
      transforms.append(
        ImageTransform(
          resize: .cropToAspectRatio(height: 8, width: 6), arithmetic: arithmetic, crop: nil))
    }
    return transforms
  }()

  @Test(arguments: transforms.indices)
  func noneIsTheTransformItself(_ index: Int) throws {
    let transform = Self.transforms[index]
    let augmented = try AugmentedTransform(transform)
    for (height, width) in [(12, 12), (9, 14), (20, 7), (8, 6), (31, 17), (5, 40), (1, 1)] {
      let image = try image(height, width)
      let plain = try transform.pixels(of: image)
      #expect(try augmented.pixels(of: image, .none).map(\.bitPattern) == plain.map(\.bitPattern))
      #expect(try AugmentationParameters.none.apply(to: image, transform: transform) == plain)
    }
  }

  @Test(arguments: transforms.indices)
  func packedParametersMakeTheSamePixels(_ index: Int) throws {
    let transform = Self.transforms[index]
    let augmented = try AugmentedTransform(transform)
    let augmentation = Augmentation(
      crop: index % 2 == 0 ? .init(areaRange: 0.2...1) : nil, padding: 3, flipProbability: 0.5,
      brightness: 0.4)
    let image = try image(24, 33)
    var views: Set<[Float]> = []
    for view in 0..<20 {
      let drawn = augmentation.parameters(
        for: ImageSize(height: 24, width: 33), seed: 1, sample: 0, view: view)
      let pixels = try augmented.pixels(of: image, drawn)
      let again = try AugmentationParameters(packed: drawn.packed)
      #expect(
        try again.apply(to: image, transform: transform).map(\.bitPattern)
          == pixels.map(\.bitPattern))
      views.insert(pixels)
    }
    #expect(views.count == 20)
  }

  /// The definition in float64: a black border is really put around, and each step makes an image.
  @Test func viewsFollowTheDefinition() throws {
    let transform = ImageTransform.clip(imageSize: 12)
    let augmented = try AugmentedTransform(transform)
    let image = try image(12, 12)
    let pad = 5
    for view in 0..<40 {
      let parameters = Augmentation(padding: pad, flipProbability: 0.5, brightness: 0.5)
        .parameters(for: ImageSize(height: 12, width: 12), seed: 9, sample: 4, view: view)
      let wide = 12 + 2 * pad
      var padded = [Double](repeating: 0, count: 3 * wide * wide)
      for row in 0..<12 {
        for column in 0..<12 {
          for channel in 0..<3 {
            padded[((row + pad) * wide + column + pad) * 3 + channel] =
              Double(image.bytes[(row * 12 + column) * 3 + channel])
          }
        }
      }
      let pixels = try augmented.pixels(of: image, parameters)
      for row in 0..<12 {
        for column in 0..<12 {
          let from = parameters.isFlipped ? 11 - column : column
          let place =
            (row + pad + parameters.rowShift) * wide + from + pad + parameters.columnShift
          for channel in 0..<3 {
            let byte = (padded[place * 3 + channel] * Double(parameters.brightness))
            let brightened = min(byte, 255)
            let mean = Double(ImageTransform.clipMean[channel])
            let deviation = Double(ImageTransform.clipDeviation[channel])
            let expected = (brightened / 255 - mean) / deviation
            let found = Double(pixels[(channel * 12 + row) * 12 + column])
            // Half a byte of rounding where the image is brightened.
            #expect(abs(found - expected) <= 0.5001 / 255 / deviation)
          }
        }
      }
    }
  }

  @Test func cropsAreImagesOfTheirOwn() throws {
    let image = try image(24, 33)
    let crop = PixelRectangle(top: 3, left: 5, height: 14, width: 20)
    var bytes: [UInt8] = []
    for row in 3..<17 {
      for column in 5..<25 {
        for channel in 0..<3 { bytes.append(image.bytes[(row * 33 + column) * 3 + channel]) }
      }
    }
    let part = try RGBImage(width: 20, height: 14, bytes: bytes)
    for transform in Self.transforms {
      let size = try #require(transform.resultSize)
      var exact = transform
      exact.resize = .exact(size)
      exact.crop = nil
      let found = try AugmentationParameters(crop: crop).apply(to: image, transform: transform)
      #expect(found == (try exact.pixels(of: part)))
    }
  }

  @Test func farShiftsLeaveBlack() throws {
    let transform = ImageTransform.clip(imageSize: 4)
    let image = try image(4, 4)
    let black = try transform.pixels(
      of: RGBImage(width: 4, height: 4, bytes: [UInt8](repeating: 0, count: 48)))
    for shift in [4, -4, 1000, -1000] {
      for isFlipped in [false, true] {
        let rows = AugmentationParameters(rowShift: shift, isFlipped: isFlipped)
        let columns = AugmentationParameters(columnShift: shift, isFlipped: isFlipped)
        #expect(try rows.apply(to: image, transform: transform) == black)
        #expect(try columns.apply(to: image, transform: transform) == black)
      }
    }
  }

  @Test func whatDoesNotFitIsAnError() throws {
    let image = try image(8, 10)
    let transform = ImageTransform.clip(imageSize: 4)
    for (top, left, height, width) in [
      (0, 0, 9, 2), (0, 0, 2, 11), (7, 0, 2, 1), (0, 9, 1, 2), (-1, 0, 2, 2), (0, 0, 0, 2),
      (.max, 0, .max, 1),
    ] {
      let crop = PixelRectangle(top: top, left: left, height: height, width: width)
      expectDataError(.malformed, "8 rows and 10 columns") {
        _ = try AugmentationParameters(crop: crop).apply(to: image, transform: transform)
      }
    }
    expectDataError(.malformed, "one size") {
      _ = try AugmentedTransform(ImageTransform(resize: .none, crop: nil))
    }
    expectDataError(.malformed, "mean") {
      _ = try AugmentedTransform(
        ImageTransform(scaling: .normalize(rescale: 1, mean: [1], deviation: nil)))
    }
  }
}
