import Checkpoints
import Datasets
import Preprocessing
import TensorCore

/// A teacher's embeddings of the views and texts of a data set, computed once and looked up in
/// training, from a file specified in `formats/reinforced.md`.
///
/// A student sees the views whose parameters are stored, so that the embeddings are those of its
/// own pixels. A lookup copies a row; the teacher does not run. After opening, all numbers are in
/// memory and nothing about them needs to be checked again.
///
/// - Source: Faghri et al., "Reinforce Data, Multiply Impact: Improved Model Accuracy and
///   Robustness with Dataset Reinforcement", 2023, section 3; Vasu et al., "MobileCLIP: Fast
///   Image-Text Models through Multi-Modal Reinforced Training", 2024, section 3.
package struct ReinforcedDataset: Sendable {
  /// The value of the root attribute `format`.
  static let format = "clipc-reinforced"
  /// The version that is written, and the newest that is read.
  static let version = 1
  /// The most bytes that the datasets of a file hold together.
  package static let mostBytes = 4 << 30
  /// How far the squared length of an embedding may be from 1.
  static let lengthTolerance: Float = 1e-3

  /// The datasets of a file.
  enum Part: String, CaseIterable {
    case imageSize = "image_size"
    case logitScale = "logit_scale"
    case viewParameters = "view_parameters"
    case imageEmbeddings = "image_embeddings"
    case textTokens = "text_tokens"
    case textLengths = "text_lengths"
    case textEmbeddings = "text_embeddings"
    case classEmbeddings = "class_embeddings"
  }

  /// The file, as the caller named it.
  package let path: String
  /// The data that the embeddings were computed of.
  package let identity: DatasetIdentity
  /// The hash of the teacher's file in lower-case hexadecimal.
  package let teacherSHA256: String
  /// What the teacher multiplies cosines by; positive.
  package let logitScale: Float
  /// The size of the views that the teacher's side drew, which shifts are counted in.
  package let imageSize: ImageSize
  /// Views of each sample.
  package let viewCount: Int
  /// Numbers of an embedding.
  package let embeddingWidth: Int
  /// `[classes, embeddingWidth]`, float32, one for each class in their order; nil where the file
  /// holds none.
  package let classEmbeddings: Tensor?
  /// `[samples, views, 8]`, int32.
  let viewParameters: Tensor
  /// `[samples, views, embeddingWidth]`, float32.
  let imageEmbeddings: Tensor
  /// `[texts, embeddingWidth]`, float32.
  let textEmbeddings: Tensor
  /// The rows of ``textEmbeddings`` by token ids.
  let textRows: [[Int32]: Int]
  /// Whether a view is shifted.
  let isShifted: Bool

  /// How many distinct texts there are embeddings of.
  package var textCount: Int { textRows.count }

  /// Checks that the views can be replayed with `data` and images of `size`.
  ///
  /// - Parameters:
  ///   - data: the data of the run.
  ///   - size: of the student's images. One other than ``imageSize`` is an error only where a view
  ///     is shifted, since shifts are counted in pixels of the output.
  /// - Throws: ``ReinforcementError/otherData(path:expected:found:)``.
  package func check(_ data: DatasetIdentity, imageSize size: ImageSize)
    throws(ReinforcementError)
  {
    guard data == identity else {
      throw .otherData(path: path, expected: "\(identity)", found: "\(data)")
    }
    guard size == imageSize || !isShifted else {
      throw .otherData(
        path: path, expected: "shifted views of \(imageSize.height) by \(imageSize.width) pixels",
        found: "\(size.height) by \(size.width)")
    }
  }

  /// The parameters of a view, as `TrainingBatches.Options.storedViews` asks for them; the options'
  /// `viewCount` is ``viewCount`` then.
  ///
  /// - Throws: ``ReinforcementError/absentView(path:sample:view:)``.
  package func parameters(
    sample: Int, view: Int
  ) throws(ReinforcementError) -> AugmentationParameters {
    let start = try row(sample, view) * AugmentationParameters.packedCount
    let unpacked = viewParameters.withElements(of: Int32.self) { elements in
      try? AugmentationParameters(
        packed: elements[start..<start + AugmentationParameters.packedCount])
    }
    guard let unpacked else { throw .absentView(path: path, sample: sample, view: view) }
    return unpacked
  }

  /// Copies the embedding of a view.
  ///
  /// - Parameters:
  ///   - sample: an index into the data.
  ///   - view: from 0, below ``viewCount``.
  ///   - destination: of ``embeddingWidth`` numbers.
  /// - Throws: ``ReinforcementError/absentView(path:sample:view:)``.
  package func copyImageEmbedding(
    sample: Int, view: Int, into destination: UnsafeMutableBufferPointer<Float>
  ) throws(ReinforcementError) {
    copy(try row(sample, view), of: imageEmbeddings, into: destination)
  }

  /// Copies the embedding of a text.
  ///
  /// - Parameters:
  ///   - tokens: the token ids of the text; zeros behind the last other id do not count, so that a
  ///     row of a batch can be looked up.
  ///   - destination: of ``embeddingWidth`` numbers.
  /// - Throws: ``ReinforcementError/absentText(path:tokens:)``.
  package func copyTextEmbedding(
    tokens: some BidirectionalCollection<Int32>,
    into destination: UnsafeMutableBufferPointer<Float>
  ) throws(ReinforcementError) {
    let key = Self.withoutPadding(tokens)
    guard let row = textRows[key] else { throw .absentText(path: path, tokens: key) }
    copy(row, of: textEmbeddings, into: destination)
  }

  /// `tokens` up to the last that is not 0.
  static func withoutPadding(_ tokens: some BidirectionalCollection<Int32>) -> [Int32] {
    guard let last = tokens.lastIndex(where: { $0 != 0 }) else { return [] }
    return Array(tokens[...last])
  }

  private func row(_ sample: Int, _ view: Int) throws(ReinforcementError) -> Int {
    guard (0..<identity.sampleCount).contains(sample), (0..<viewCount).contains(view) else {
      throw .absentView(path: path, sample: sample, view: view)
    }
    return sample * viewCount + view
  }

  private func copy(
    _ row: Int, of embeddings: Tensor, into destination: UnsafeMutableBufferPointer<Float>
  ) {
    precondition(destination.count == embeddingWidth, "\(destination.count) numbers")
    embeddings.withElements(of: Float.self) { elements in
      let start = row * embeddingWidth
      _ = destination.update(
        fromContentsOf: UnsafeBufferPointer(rebasing: elements[start..<start + embeddingWidth]))
    }
  }
}

extension ReinforcedDataset {
  /// The embeddings of the views of `batch`.
  ///
  /// - Returns: `[samples, embeddingWidth]`, float32.
  /// - Throws: ``ReinforcementError/absentView(path:sample:view:)``.
  package func imageEmbeddings(of batch: TrainingBatch) throws(ReinforcementError) -> Tensor {
    try rows(batch.sampleIndices.count) { row, destination throws(ReinforcementError) in
      try copyImageEmbedding(
        sample: batch.sampleIndices[row], view: batch.views[row], into: destination)
    }
  }

  /// The embeddings of the texts of `batch`.
  ///
  /// - Returns: `[samples, embeddingWidth]`, float32.
  /// - Throws: ``ReinforcementError/absentText(path:tokens:)``.
  package func textEmbeddings(of batch: TrainingBatch) throws(ReinforcementError) -> Tensor {
    let tokens = batch.tokens.elements(of: Int32.self)
    let count = batch.sampleIndices.count
    let length = count == 0 ? 0 : tokens.count / count
    return try rows(count) { row, destination throws(ReinforcementError) in
      try copyTextEmbedding(tokens: tokens[row * length..<(row + 1) * length], into: destination)
    }
  }

  /// A tensor of `count` embeddings that `copy` writes.
  private func rows(
    _ count: Int,
    _ copy: (Int, UnsafeMutableBufferPointer<Float>) throws(ReinforcementError) -> Void
  ) throws(ReinforcementError) -> Tensor {
    var failure: ReinforcementError?
    let result = Tensor(shape: [count, embeddingWidth], of: Float.self) { output in
      do throws(ReinforcementError) {
        for row in 0..<count {
          let range = row * embeddingWidth..<(row + 1) * embeddingWidth
          try copy(row, UnsafeMutableBufferPointer(rebasing: output[range]))
        }
      } catch { failure = error }
    }
    if let failure { throw failure }
    return result
  }
}
