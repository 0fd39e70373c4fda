import Checkpoints
import Datasets
import Preprocessing
import TensorCore

extension ReinforcedDataset {
  /// Opens the file at `path`, and checks all that is in it.
  ///
  /// - Parameters:
  ///   - path: of the file.
  ///   - byteLimit: the most bytes of its datasets.
  /// - Throws: `CheckpointError` with the dataset or attribute that is not as
  ///   `formats/reinforced.md` says.
  package init(
    opening path: String, byteLimit: Int = ReinforcedDataset.mostBytes
  ) throws(CheckpointError) {
    let reader = ReinforcedDatasetReader(file: try HDF5File(opening: path))
    try reader.checkFormat()
    try reader.checkDatasets(byteLimit: byteLimit)
    let shape = try reader.shape(.imageEmbeddings, ["samples", "views", "numbers"])
    let (sampleCount, viewCount, width) = (shape[0], shape[1], shape[2])
    self.path = path
    identity = try reader.identity(sampleCount: sampleCount)
    teacherSHA256 = try reader.hash("teacher_sha256")
    logitScale = try reader.logitScale()
    imageSize = try reader.imageSize()
    self.viewCount = viewCount
    embeddingWidth = width
    (viewParameters, isShifted) = try reader.viewParameters(
      shape: [sampleCount, viewCount, AugmentationParameters.packedCount])
    imageEmbeddings = try reader.embeddings(.imageEmbeddings, shape: shape)
    textRows = try reader.texts()
    textEmbeddings =
      textRows.isEmpty
      ? Tensor(shape: [0, width], [Float]())
      : try reader.embeddings(.textEmbeddings, shape: [textRows.count, width])
    if reader.has(.classEmbeddings) {
      let count = try reader.shape(.classEmbeddings, ["classes", "numbers"])[0]
      classEmbeddings = try reader.embeddings(.classEmbeddings, shape: [count, width])
    } else {
      classEmbeddings = nil
    }
  }
}

/// Reads and checks the parts of a file of teacher embeddings.
struct ReinforcedDatasetReader {
  typealias Part = ReinforcedDataset.Part
  let file: HDF5File

  private func malformed(
    _ location: String, _ expected: String, _ found: String
  ) -> CheckpointError {
    .malformed(path: file.path, location: location, expected: expected, found: found)
  }

  private func malformed(
    _ part: Part, row: String = "", _ expected: String, _ found: String
  ) -> CheckpointError {
    malformed("dataset \(part.rawValue)\(row)", expected, found)
  }

  /// Throws unless the file says that it is of a version that is understood.
  func checkFormat() throws(CheckpointError) {
    guard file.string("format", of: "") == ReinforcedDataset.format else {
      throw malformed(
        "attribute format", ReinforcedDataset.format, file.string("format", of: "") ?? "nothing")
    }
    guard case .integers(let versions)? = file.attribute("format_version", of: ""),
      versions.count == 1, (1...ReinforcedDataset.version).contains(versions[0])
    else {
      throw malformed(
        "attribute format_version", "1 to \(ReinforcedDataset.version)",
        file.attribute("format_version", of: "").map { "\($0)" } ?? "nothing")
    }
  }

  /// Throws where the file holds a dataset that is unknown, or more than `byteLimit` bytes.
  func checkDatasets(byteLimit: Int) throws(CheckpointError) {
    let unexpected = file.datasets.map(\.name).filter { Part(rawValue: $0) == nil }
    guard unexpected.isEmpty else {
      throw .datasets(path: file.path, missing: [], unexpected: unexpected)
    }
    var rest = byteLimit
    for dataset in file.datasets {
      guard let count = dataset.byteCount, count <= rest else {
        throw malformed(
          "dataset \(dataset.name)", "at most \(byteLimit) bytes in all datasets",
          "\(dataset.elementType) of shape \(dataset.shape)")
      }
      rest -= count
    }
  }

  /// Whether the file has `part`.
  func has(_ part: Part) -> Bool { file.dataset(part.rawValue) != nil }

  /// The extents of `part`, one for each of `axes`, all positive.
  func shape(_ part: Part, _ axes: [String]) throws(CheckpointError) -> [Int] {
    let expected = "[\(axes.joined(separator: ", "))], none of them 0"
    guard let dataset = file.dataset(part.rawValue) else {
      throw malformed(part, expected, "no such dataset")
    }
    guard dataset.shape.count == axes.count, dataset.shape.allSatisfy({ $0 > 0 }) else {
      throw malformed(part, expected, "shape \(dataset.shape)")
    }
    return dataset.shape
  }

  /// The hash that the root's attribute `name` holds.
  func hash(_ name: String) throws(CheckpointError) -> String {
    let text = file.string(name, of: "")
    guard let text, isSHA256(text) else {
      throw malformed("attribute \(name)", "64 digits of a SHA-256", text ?? "nothing")
    }
    return text
  }

  /// The data that the file belongs to.
  func identity(sampleCount: Int) throws(CheckpointError) -> DatasetIdentity {
    let text = file.string("data_kind", of: "")
    guard let kind = text.flatMap(Dataset.Kind.init(rawValue:)) else {
      throw malformed("attribute data_kind", "a kind of data", text ?? "nothing")
    }
    return DatasetIdentity(
      kind: kind, sampleCount: sampleCount, sha256: try hash("data_sha256"))
  }

  /// What the teacher multiplies cosines by.
  func logitScale() throws(CheckpointError) -> Float {
    let value = try file.floats(Part.logitScale.rawValue, shape: []).elements(of: Float.self)[0]
    guard value > 0 else { throw malformed(.logitScale, "a positive number", "\(value)") }
    return value
  }

  /// The size of the views.
  func imageSize() throws(CheckpointError) -> ImageSize {
    let sides = try file.elements(Part.imageSize.rawValue, of: Int32.self, shape: [2])
      .elements(of: Int32.self)
    guard sides[0] > 0, sides[1] > 0 else {
      throw malformed(.imageSize, "a positive height and width", "\(sides)")
    }
    return ImageSize(height: Int(sides[0]), width: Int(sides[1]))
  }

  /// The parameters of all views, and whether one of them is shifted.
  func viewParameters(shape: [Int]) throws(CheckpointError) -> (Tensor, isShifted: Bool) {
    let parameters = try file.elements(Part.viewParameters.rawValue, of: Int32.self, shape: shape)
    let width = AugmentationParameters.packedCount
    var isShifted = false
    let fault = parameters.withElements(of: Int32.self) { elements -> (row: Int, DataError)? in
      for row in 0..<elements.count / width {
        do throws(DataError) {
          let view = try AugmentationParameters(packed: elements[row * width..<(row + 1) * width])
          if view.rowShift != 0 || view.columnShift != 0 { isShifted = true }
        } catch { return (row, error) }
      }
      return nil
    }
    if let (row, error) = fault, case .malformed(_, let expected, let found) = error {
      let place = ", sample \(row / shape[1]), view \(row % shape[1])"
      throw malformed(.viewParameters, row: place, expected, found)
    }
    return (parameters, isShifted)
  }

  /// The embeddings of `part`, all of length 1.
  func embeddings(_ part: Part, shape: [Int]) throws(CheckpointError) -> Tensor {
    let embeddings = try file.floats(part.rawValue, shape: shape)
    let width = shape[shape.count - 1]
    let fault = embeddings.withElements(of: Float.self) { elements -> (row: Int, Float)? in
      for row in 0..<elements.count / width {
        let range = row * width..<(row + 1) * width
        let square = squaredLength(UnsafeBufferPointer(rebasing: elements[range]))
        if !isUnit(squaredLength: square) { return (row, square) }
      }
      return nil
    }
    if let (row, square) = fault {
      throw malformed(
        part, row: ", row \(row)", "numbers whose squares add up to 1", "a sum of \(square)")
    }
    return embeddings
  }

  /// The rows of text embeddings by token ids; none where the file has no texts.
  func texts() throws(CheckpointError) -> [[Int32]: Int] {
    guard has(.textTokens) || has(.textLengths) || has(.textEmbeddings) else { return [:] }
    let shape = try shape(.textTokens, ["texts", "tokens"])
    let (count, longest) = (shape[0], shape[1])
    let tokens = try file.elements(Part.textTokens.rawValue, of: Int32.self, shape: shape)
    let lengths = try file.elements(Part.textLengths.rawValue, of: Int32.self, shape: [count])
      .elements(of: Int32.self)
    if let row = lengths.firstIndex(where: { !(1...longest).contains(Int($0)) }) {
      throw malformed(.textLengths, row: ", row \(row)", "1 to \(longest)", "\(lengths[row])")
    }
    guard lengths.contains(Int32(clamping: longest)) else {
      throw malformed(.textTokens, "an extent of the longest text", "\(longest)")
    }
    var rows: [[Int32]: Int] = [:]
    rows.reserveCapacity(count)
    try tokens.withElements(of: Int32.self) { tokens throws(CheckpointError) in
      for row in 0..<count {
        let ids = tokens[row * longest..<(row + 1) * longest]
        let text = ReinforcedDataset.withoutPadding(ids)
        guard text.count == lengths[row] else {
          throw malformed(
            .textTokens, row: ", row \(row)", "\(lengths[row]) ids, then zeros", "\(text.count) ids"
          )
        }
        if let id = text.first(where: { $0 < 0 }) {
          throw malformed(.textTokens, row: ", row \(row)", "ids of 0 and more", "\(id)")
        }
        if let first = rows.updateValue(row, forKey: text) {
          throw malformed(
            .textTokens, row: ", row \(row)", "distinct texts", "the one of row \(first)")
        }
      }
    }
    return rows
  }
}

/// The sum of the squares of `numbers`.
func squaredLength(_ numbers: UnsafeBufferPointer<Float>) -> Float {
  numbers.reduce(0) { $0 + $1 * $1 }
}

/// Whether an embedding whose squares add up to `squaredLength` counts as normalized.
func isUnit(squaredLength: Float) -> Bool {
  abs(squaredLength - 1) <= ReinforcedDataset.lengthTolerance
}

/// Whether `text` is a hash in lower-case hexadecimal.
func isSHA256(_ text: String) -> Bool {
  text.utf8.count == 64 && text.utf8.allSatisfy { "0123456789abcdef".utf8.contains($0) }
}
