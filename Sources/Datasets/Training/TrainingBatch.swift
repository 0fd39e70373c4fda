import Preprocessing
import TensorCore

/// The samples of one training step, decoded, augmented and tokenized.
package struct TrainingBatch: Sendable {
  /// Counted from 0 over all epochs.
  package let step: Int
  /// Counted from 0.
  package let epoch: Int
  /// Which samples of the data set; more than one are equal only where one stands in for a sample
  /// whose image cannot be decoded.
  package let sampleIndices: [Int]
  /// Which view of each sample.
  package let views: [Int]
  /// What the views are.
  package let parameters: [AugmentationParameters]
  /// `[samples, 3, height, width]`, float32.
  package let pixels: Tensor
  /// `[samples, longest caption]`, int32; zeros follow the end of shorter captions.
  package let tokens: Tensor
  /// The classes, where every sample of the batch has one.
  package let classIndices: [Int32]?
  /// The samples that others stand in for, in the order in which they were tried.
  let failures: [SampleFailure]
}

/// A sample whose image cannot be used, and why.
struct SampleFailure: Sendable {
  let sample: Int
  let error: DataError
}

/// One sample of a batch, but for its pixels.
struct TrainingRow: Sendable {
  var sample: Int
  var view: Int
  var parameters: AugmentationParameters
  var tokens: [Int32]
  var classIndex: Int32?
  var failures: [SampleFailure]
}

extension TrainingBatch {
  /// A batch of `rows` with what `pixels` holds.
  init(
    step: Int, epoch: Int, rows: [TrainingRow], pixels: UnsafeBufferPointer<Float>,
    size: ImageSize
  ) {
    self.step = step
    self.epoch = epoch
    sampleIndices = rows.map(\.sample)
    views = rows.map(\.view)
    parameters = rows.map(\.parameters)
    self.pixels = Tensor(dtype: .float32, shape: [rows.count, 3, size.height, size.width]) {
      $0.copyMemory(from: UnsafeRawBufferPointer(pixels))
    }
    let length = rows.map(\.tokens.count).max() ?? 0
    tokens = Tensor(shape: [rows.count, length], of: Int32.self) { output in
      for (index, row) in rows.enumerated() {
        let start = index * length
        _ = output[start..<start + row.tokens.count].update(fromContentsOf: row.tokens)
      }
    }
    let classes = rows.compactMap(\.classIndex)
    classIndices = classes.count == rows.count ? classes : nil
    failures = rows.flatMap(\.failures)
  }
}
