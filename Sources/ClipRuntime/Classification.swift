import CKernels
import ModelFormat

extension Model {
  /// The classes that the file knows by itself, where it knows some.
  public var labels: LabelTable? { reader.labels }

  /// Computes the probabilities of classes for each image.
  ///
  /// They are the softmax over classes of ``ModelInfo/logitScale`` times the cosine. Allocates
  /// nothing.
  ///
  /// - Shapes: `images`: `[n, embeddingWidth]`; `classes`: `[c, embeddingWidth]`, such as those of
  ///   ``labels``; `probabilities`: `[n, c]`. Rows need not have the norm 1; the cosine with a row of
  ///   zeros is 0.
  /// - Throws: ``RuntimeError`` when the sizes do not fit; nothing is written then.
  public func classify(
    _ images: Span<Float>, classes: Span<Float>, into probabilities: inout MutableSpan<Float>
  ) throws(RuntimeError) {
    let width = info.embeddingWidth
    let (imageCount, classCount) = (images.count / width, classes.count / width)
    guard images.count == imageCount * width else {
      throw .embeddingCount(expected: imageCount * width, found: images.count)
    }
    guard classCount > 0, classes.count == classCount * width else {
      throw .embeddingCount(expected: max(1, classCount) * width, found: classes.count)
    }
    let (expected, overflow) = imageCount.multipliedReportingOverflow(by: classCount)
    guard !overflow, probabilities.count == expected else {
      throw .probabilityCount(expected: expected, found: probabilities.count)
    }
    guard imageCount > 0 else { return }
    images.withUnsafeBufferPointer { images in
      classes.withUnsafeBufferPointer { classes in
        probabilities.withUnsafeMutableBufferPointer { probabilities in
          guard let images = images.baseAddress, let classes = classes.baseAddress,
            let result = probabilities.baseAddress
          else { return }
          // The last row is the only room for what all images need of the classes; its own image
          // comes last, and reads every number of it before it is written.
          let inverses = result + (imageCount - 1) * classCount
          for index in 0..<classCount {
            inverses[index] = Model.inverseNorm(classes + index * width, width)
          }
          for image in 0..<imageCount {
            let embedding = images + image * width
            let scale = info.logitScale * Model.inverseNorm(embedding, width)
            let row = result + image * classCount
            for index in 0..<classCount {
              let product = Model.product(embedding, classes + index * width, width)
              row[index] = product * inverses[index] * scale
            }
            Model.softmax(row, classCount)
          }
        }
      }
    }
  }

  /// 1 over the Euclidean norm; 0 for zeros.
  private static func inverseNorm(_ row: UnsafePointer<Float>, _ count: Int) -> Float {
    let square = product(row, row, count)
    return square == 0 ? 0 : 1 / square.squareRoot()
  }

  /// The inner product, in sixteen sums.
  private static func product(
    _ left: UnsafePointer<Float>, _ right: UnsafePointer<Float>, _ count: Int
  ) -> Float {
    let (left8, right8) = (UnsafeRawPointer(left), UnsafeRawPointer(right))
    var (even, odd) = (SIMD8<Float>(repeating: 0), SIMD8<Float>(repeating: 0))
    var index = 0
    while count - index >= 16 {
      let (first, second) = (4 * index, 4 * (index + 8))
      even +=
        left8.loadUnaligned(fromByteOffset: first, as: SIMD8<Float>.self)
        * right8.loadUnaligned(fromByteOffset: first, as: SIMD8<Float>.self)
      odd +=
        left8.loadUnaligned(fromByteOffset: second, as: SIMD8<Float>.self)
        * right8.loadUnaligned(fromByteOffset: second, as: SIMD8<Float>.self)
      index += 16
    }
    var sum = (even + odd).sum()
    while index < count {
      sum += left[index] * right[index]
      index += 1
    }
    return sum
  }

  private static func softmax(_ row: UnsafeMutablePointer<Float>, _ count: Int) {
    var largest = row[0]
    for index in 1..<count where row[index] > largest { largest = row[index] }
    var sum: Float = 0
    for index in 0..<count {
      row[index] = clip_exp(row[index] - largest)
      sum += row[index]
    }
    for index in 0..<count { row[index] /= sum }
  }
}
