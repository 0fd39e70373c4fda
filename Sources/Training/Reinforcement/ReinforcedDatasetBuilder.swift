import Checkpoints
import Datasets
import Preprocessing
import TensorCore

/// Collects what a teacher makes of the views and texts of a data set, and writes the file that
/// ``ReinforcedDataset`` reads.
///
/// The caller draws the views and runs the teacher. What is collected is kept in memory, and takes
/// as much again while it is written.
package struct ReinforcedDatasetBuilder: Sendable {
  private typealias Part = ReinforcedDataset.Part

  /// The data that the embeddings are of.
  package let identity: DatasetIdentity
  /// Views of each sample.
  package let viewCount: Int
  /// Numbers of an embedding.
  package let embeddingWidth: Int
  /// Bytes of the datasets of the file, as far as texts and classes are known.
  package private(set) var byteCount: Int

  private let imageSize: ImageSize
  private let teacherSHA256: String
  private let logitScale: Float
  private let byteLimit: Int
  private var parameters: [Int32]
  private var embeddings: [Float]
  private var isKnown: [Bool]
  private var missingCount: Int
  private var texts: [[Int32]] = []
  private var textEmbeddings: [Float] = []
  private var knownTexts: Set<[Int32]> = []
  private var longestText = 0
  private var classEmbeddings: [Float] = []

  /// Makes room for all views.
  ///
  /// - Parameters:
  ///   - identity: of the data.
  ///   - viewCount: views of each sample.
  ///   - embeddingWidth: numbers of an embedding.
  ///   - imageSize: of the views, in whose pixels shifts are counted.
  ///   - teacherSHA256: the hash of the teacher's file in lower-case hexadecimal.
  ///   - logitScale: what the teacher multiplies cosines by.
  ///   - byteLimit: the most bytes of the file's datasets; no more than
  ///     ``ReinforcedDataset/mostBytes`` are read.
  /// - Throws: ``ReinforcementError/tooLarge(byteCount:limit:)``, or
  ///   ``ReinforcementError/unusable(place:expected:found:)`` with the argument that is wrong.
  package init(
    identity: DatasetIdentity, viewCount: Int, embeddingWidth: Int, imageSize: ImageSize,
    teacherSHA256: String, logitScale: Float, byteLimit: Int = ReinforcedDataset.mostBytes
  ) throws(ReinforcementError) {
    try Self.check(identity.sampleCount, "samples")
    try Self.check(viewCount, "views")
    try Self.check(embeddingWidth, "numbers of an embedding")
    try Self.check(min(imageSize.height, imageSize.width), "pixels")
    guard isSHA256(teacherSHA256) else {
      throw .unusable(
        place: "teacher", expected: "the digits of a SHA-256", found: "'\(teacherSHA256)'")
    }
    guard logitScale > 0, logitScale.isFinite else {
      throw .unusable(
        place: "teacher", expected: "a positive logit scale", found: "\(logitScale)")
    }
    let byteCount = Self.byteCount(
      sampleCount: identity.sampleCount, viewCount: viewCount, embeddingWidth: embeddingWidth)
    guard let byteCount, byteCount <= byteLimit else {
      throw .tooLarge(byteCount: byteCount, limit: byteLimit)
    }
    self.identity = identity
    self.viewCount = viewCount
    self.embeddingWidth = embeddingWidth
    self.imageSize = imageSize
    self.teacherSHA256 = teacherSHA256
    self.logitScale = logitScale
    self.byteLimit = byteLimit
    self.byteCount = byteCount
    missingCount = identity.sampleCount * viewCount
    parameters = [Int32](
      repeating: 0, count: missingCount * AugmentationParameters.packedCount)
    embeddings = [Float](repeating: 0, count: missingCount * embeddingWidth)
    isKnown = [Bool](repeating: false, count: missingCount)
  }

  /// Bytes of the datasets of a file without texts and classes; nil where they are beyond 64 bits.
  ///
  /// - Precondition: none of the arguments is negative.
  package static func byteCount(
    sampleCount: Int, viewCount: Int, embeddingWidth: Int
  ) -> Int? {
    let (numbers, overflow) = embeddingWidth.addingReportingOverflow(
      AugmentationParameters.packedCount)
    guard !overflow, let count = elementCount(of: [sampleCount, viewCount, numbers, 4]),
      // Two sides and a logit scale.
      count <= Int.max - 12
    else { return nil }
    return count + 12
  }

  /// Takes in a view of a sample; the views may come in any order.
  ///
  /// - Parameters:
  ///   - sample: an index into the data.
  ///   - view: from 0, below ``viewCount``.
  ///   - parameters: what the view is.
  ///   - embedding: the teacher's, of length 1.
  /// - Throws: ``ReinforcementError/unusable(place:expected:found:)`` for a view that is known or
  ///   outside the file, parameters that cannot be packed, and an embedding of another width or
  ///   length.
  package mutating func add(
    sample: Int, view: Int, parameters: AugmentationParameters,
    embedding: UnsafeBufferPointer<Float>
  ) throws(ReinforcementError) {
    let place = "teacher embedding of sample \(sample), view \(view)"
    guard (0..<identity.sampleCount).contains(sample), (0..<viewCount).contains(view) else {
      throw .unusable(
        place: place, expected: "\(identity.sampleCount) samples of \(viewCount) views",
        found: "another")
    }
    let row = sample * viewCount + view
    guard !isKnown[row] else {
      throw .unusable(place: place, expected: "each view once", found: "it again")
    }
    let packed = parameters.packed
    guard (try? AugmentationParameters(packed: packed)) == parameters else {
      throw .unusable(
        place: place, expected: "parameters that can be stored", found: "\(parameters)")
    }
    try check(embedding, place)
    let first = row * packed.count
    self.parameters.replaceSubrange(first..<first + packed.count, with: packed)
    let start = row * embeddingWidth
    for index in 0..<embeddingWidth { embeddings[start + index] = embedding[index] }
    isKnown[row] = true
    missingCount -= 1
  }

  /// Whether the text of `tokens` has an embedding already.
  package func hasText(_ tokens: some BidirectionalCollection<Int32>) -> Bool {
    knownTexts.contains(ReinforcedDataset.withoutPadding(tokens))
  }

  /// Takes in a text.
  ///
  /// - Parameters:
  ///   - tokens: its ids; zeros behind the last other id do not count.
  ///   - embedding: the teacher's, of length 1.
  /// - Throws: ``ReinforcementError/unusable(place:expected:found:)`` for a text that is known or
  ///   without ids, negative ids, and an embedding of another width or length;
  ///   ``ReinforcementError/tooLarge(byteCount:limit:)``.
  package mutating func addText(
    tokens: some BidirectionalCollection<Int32>, embedding: UnsafeBufferPointer<Float>
  ) throws(ReinforcementError) {
    let text = ReinforcedDataset.withoutPadding(tokens)
    let place = "teacher embedding of text \(texts.count)"
    guard !text.isEmpty, text.allSatisfy({ $0 >= 0 }) else {
      throw .unusable(place: place, expected: "ids of 0 and more, one not 0", found: "\(text)")
    }
    guard !knownTexts.contains(text) else {
      throw .unusable(place: place, expected: "each text once", found: "it again")
    }
    try check(embedding, place)
    let longest = max(longestText, text.count)
    let before = Self.textByteCount(texts.count, longestText, embeddingWidth)
    let after = Self.textByteCount(texts.count + 1, longest, embeddingWidth)
    try grow(by: after - before)
    longestText = longest
    knownTexts.insert(text)
    texts.append(text)
    textEmbeddings.append(contentsOf: embedding)
  }

  /// Sets the embeddings of all classes in their order, `[classes, embeddingWidth]` of float32.
  ///
  /// - Throws: ``ReinforcementError/unusable(place:expected:found:)`` for other extents, an
  ///   embedding of another length than 1, or classes that are set already;
  ///   ``ReinforcementError/tooLarge(byteCount:limit:)``.
  package mutating func setClassEmbeddings(_ classes: Tensor) throws(ReinforcementError) {
    let place = "teacher embeddings of classes"
    guard classes.dtype == .float32, classes.shape.count == 2, classes.shape[0] > 0,
      classes.shape[1] == embeddingWidth, classEmbeddings.isEmpty
    else {
      throw .unusable(
        place: place, expected: "\(embeddingWidth) numbers for each class, once",
        found: classEmbeddings.isEmpty
          ? "\(classes.dtype.rawValue) of shape \(classes.shape)" : "them again")
    }
    try classes.withElements(of: Float.self) { elements throws(ReinforcementError) in
      for index in 0..<classes.shape[0] {
        let range = index * embeddingWidth..<(index + 1) * embeddingWidth
        try check(UnsafeBufferPointer(rebasing: elements[range]), "\(place), class \(index)")
      }
    }
    try grow(by: classes.byteCount)
    classEmbeddings = classes.elements(of: Float.self)
  }

  /// Writes the file, whole or not at all.
  ///
  /// - Throws: ``ReinforcementError/incomplete(count:sample:view:)`` where views are missing, or
  ///   `CheckpointError` where the file cannot be written; an older file then is as it was.
  package func write(to path: String) throws {
    if missingCount > 0, let first = isKnown.firstIndex(of: false) {
      throw ReinforcementError.incomplete(
        count: missingCount, sample: first / viewCount, view: first % viewCount)
    }
    try HDF5Writer.write(to: path, byteCount: byteCount) { writer throws(CheckpointError) in
      try writer.setAttribute("format", of: "", to: ReinforcedDataset.format)
      try writer.setAttribute("format_version", of: "", to: Int32(ReinforcedDataset.version))
      try writer.setAttribute("teacher_sha256", of: "", to: teacherSHA256)
      try writer.setAttribute("data_kind", of: "", to: identity.kind.rawValue)
      try writer.setAttribute("data_sha256", of: "", to: identity.sha256)
      try writer.add(Part.logitScale.rawValue, Tensor(scalar: logitScale))
      let sides = [imageSize.height, imageSize.width].map { Int32(clamping: $0) }
      try writer.add(Part.imageSize.rawValue, Tensor(shape: [2], sides))
      let views = [identity.sampleCount, viewCount]
      try writer.add(
        Part.viewParameters.rawValue,
        Tensor(shape: views + [AugmentationParameters.packedCount], parameters))
      try writer.add(
        Part.imageEmbeddings.rawValue, Tensor(shape: views + [embeddingWidth], embeddings))
      if !texts.isEmpty { try writeTexts(writer) }
      if !classEmbeddings.isEmpty {
        let count = classEmbeddings.count / embeddingWidth
        try writer.add(
          Part.classEmbeddings.rawValue, Tensor(shape: [count, embeddingWidth], classEmbeddings))
      }
    }
  }

  private func writeTexts(_ writer: borrowing HDF5Writer) throws(CheckpointError) {
    let tokens = Tensor(shape: [texts.count, longestText], of: Int32.self) { output in
      for (row, text) in texts.enumerated() {
        let start = row * longestText
        _ = output[start..<start + text.count].update(fromContentsOf: text)
      }
    }
    try writer.add(Part.textTokens.rawValue, tokens)
    try writer.add(
      Part.textLengths.rawValue, Tensor(shape: [texts.count], texts.map { Int32($0.count) }))
    try writer.add(
      Part.textEmbeddings.rawValue,
      Tensor(shape: [texts.count, embeddingWidth], textEmbeddings))
  }

  private static func textByteCount(_ count: Int, _ longest: Int, _ width: Int) -> Int {
    count * 4 * (longest + 1 + width)
  }

  private mutating func grow(by count: Int) throws(ReinforcementError) {
    guard count <= byteLimit - byteCount else {
      throw .tooLarge(byteCount: byteCount + count, limit: byteLimit)
    }
    byteCount += count
  }

  private func check(
    _ embedding: UnsafeBufferPointer<Float>, _ place: String
  ) throws(ReinforcementError) {
    guard embedding.count == embeddingWidth else {
      throw .unusable(
        place: place, expected: "\(embeddingWidth) numbers", found: "\(embedding.count)")
    }
    let square = squaredLength(embedding)
    guard isUnit(squaredLength: square) else {
      throw .unusable(
        place: place, expected: "numbers whose squares add up to 1", found: "a sum of \(square)")
    }
  }

  private static func check(_ count: Int, _ name: String) throws(ReinforcementError) {
    guard count > 0 else {
      throw .unusable(
        place: "teacher embeddings, \(name)", expected: "1 at least", found: "\(count)")
    }
  }
}
