import Foundation
import Preprocessing
import TensorCore

extension Augmentation {
  /// The parameters of one view, decided by the arguments alone.
  ///
  /// - Parameters:
  ///   - image: the size of the image before it is resized; matters only where ``crop`` is set.
  ///   - seed: of the run or of the stored views.
  ///   - sample: the index of the sample in its data set.
  ///   - view: which of the sample's views.
  /// - Returns: the same parameters for the same arguments, in whatever order and on whatever
  ///   thread they are asked for.
  /// - Precondition: ``validate()`` finds nothing wrong.
  package func parameters(
    for image: ImageSize, seed: UInt64, sample: Int, view: Int
  ) -> AugmentationParameters {
    var generator = SplitMix64(seed: seed, stream: .view, sample, view)
    // The crop comes last: it takes as many numbers as it needs tries.
    let isFlipped = generator.nextUniform() < flipProbability
    let rowShift = generator.nextIndex(below: 2 * padding + 1) - padding
    let columnShift = generator.nextIndex(below: 2 * padding + 1) - padding
    let deviation = brightness * (2 * generator.nextUniform() - 1)
    return AugmentationParameters(
      crop: crop?.rectangle(in: image, &generator), rowShift: rowShift, columnShift: columnShift,
      isFlipped: isFlipped, brightness: Float(1 + deviation))
  }
}

extension Augmentation.ResizedCrop {
  /// A random part of an image: the first of ten that lies within it, else the largest centred
  /// part of allowed proportions, as torchvision's `RandomResizedCrop` does it.
  fileprivate func rectangle(
    in image: ImageSize, _ generator: inout SplitMix64
  ) -> PixelRectangle {
    let area = Double(image.height) * Double(image.width)
    let logarithms = (least: log(aspectRange.lowerBound), most: log(aspectRange.upperBound))
    for _ in 0..<10 {
      let target = area * Self.uniform(areaRange.lowerBound, areaRange.upperBound, &generator)
      let aspect = exp(Self.uniform(logarithms.least, logarithms.most, &generator))
      let width = Int((target * aspect).squareRoot().rounded(.toNearestOrEven))
      let height = Int((target / aspect).squareRoot().rounded(.toNearestOrEven))
      if (1...image.width).contains(width), (1...image.height).contains(height) {
        let top = generator.nextIndex(below: image.height - height + 1)
        let left = generator.nextIndex(below: image.width - width + 1)
        return PixelRectangle(top: top, left: left, height: height, width: width)
      }
    }
    return centred(in: image)
  }

  private func centred(in image: ImageSize) -> PixelRectangle {
    var (height, width) = (image.height, image.width)
    let aspect = Double(width) / Double(height)
    if aspect < aspectRange.lowerBound {
      height = Int((Double(width) / aspectRange.lowerBound).rounded(.toNearestOrEven))
    } else if aspect > aspectRange.upperBound {
      width = Int((Double(height) * aspectRange.upperBound).rounded(.toNearestOrEven))
    }
    (height, width) = (min(max(height, 1), image.height), min(max(width, 1), image.width))
    return PixelRectangle(
      top: (image.height - height) / 2, left: (image.width - width) / 2, height: height,
      width: width)
  }

  private static func uniform(
    _ least: Double, _ most: Double, _ generator: inout SplitMix64
  ) -> Double {
    least + (most - least) * generator.nextUniform()
  }
}
