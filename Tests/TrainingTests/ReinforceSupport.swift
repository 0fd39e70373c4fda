import Checkpoints
import Datasets
import Foundation
import Preprocessing
import TensorCore
import Training

/// A folder with a few images of noise in two classes, and the teacher embeddings of a file.
final class ReinforceFixture {
  static let (viewCount, width) = (3, 5)
  static let teacher = String(repeating: "0123456789abcdef", count: 4)
  static let texts: [[Int32]] = [[9, 4, 7], [9, 7], [9, 5, 5, 0, 7]]
  static let transform = ImageTransform.clip(imageSize: 8)
  static let augmentation = Augmentation(
    crop: .init(areaRange: 0.3...1), padding: 2, flipProbability: 0.5, brightness: 0.4)

  let folder: String
  let dataset: Dataset

  init() throws {
    folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString).path
    for (index, name) in ["ant/1", "ant/2", "bee/1", "bee/2"].enumerated() {
      try Self.write(
        Self.png(width: 11 + index, height: 13 - index, seed: UInt64(index)),
        to: "\(folder)/data/\(name).png")
    }
    dataset = try Dataset.open(path: "\(folder)/data")
  }

  deinit { try? FileManager.default.removeItem(atPath: folder) }

  /// The path of a file beside the data.
  func file(_ name: String) -> String { "\(folder)/\(name)" }

  static func write(_ bytes: [UInt8], to path: String) throws {
    let url = URL(fileURLWithPath: path)
    try FileManager.default.createDirectory(
      at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
    try Data(bytes).write(to: url)
  }

  /// A vector of length 1 that `seed` decides.
  static func unit(_ seed: Int) -> [Float] {
    var random = SplitMix64(seed: UInt64(seed))
    let values = (0..<width).map { _ in random.nextNormal() }
    let length = values.reduce(0) { $0 + $1 * $1 }.squareRoot()
    return values.map { Float($0 / length) }
  }

  /// The embedding of a view, of a text and of a class.
  static func image(_ sample: Int, _ view: Int) -> [Float] { unit(100 + sample * viewCount + view) }
  static func text(_ index: Int) -> [Float] { unit(200 + index) }
  static func classes() -> [Float] { unit(300) + unit(301) }

  func builder(byteLimit: Int = ReinforcedDataset.mostBytes) throws -> ReinforcedDatasetBuilder {
    try ReinforcedDatasetBuilder(
      identity: DatasetIdentity(of: dataset), viewCount: Self.viewCount,
      embeddingWidth: Self.width, imageSize: ImageSize(height: 8, width: 8),
      teacherSHA256: Self.teacher, logitScale: 14.25, byteLimit: byteLimit)
  }

  /// What is drawn for a view, without any file.
  func drawn(_ sample: Int, _ view: Int) throws -> AugmentationParameters {
    let image = try dataset.sample(at: sample).decode()
    return Self.augmentation.parameters(
      for: ImageSize(height: image.height, width: image.width), seed: 3, sample: sample,
      view: view)
  }

  /// A builder with every view, taken in as `order` says, the texts and the classes.
  func full(reversed: Bool = false) throws -> ReinforcedDatasetBuilder {
    var builder = try builder()
    let rows = Array(0..<dataset.sampleCount * Self.viewCount)
    for row in reversed ? rows.reversed() : rows {
      let (sample, view) = (row / Self.viewCount, row % Self.viewCount)
      try builder.add(
        sample, view, try drawn(sample, view), Self.image(sample, view))
    }
    for (index, tokens) in Self.texts.enumerated() {
      try builder.addText(tokens, Self.text(index))
    }
    try builder.setClassEmbeddings(Tensor(shape: [2, Self.width], Self.classes()))
    return builder
  }

  /// The path of a whole file.
  func written() throws -> String {
    try full().write(to: file("a.h5"))
    return file("a.h5")
  }

  /// A PNG image of noise, its pixels not compressed.
  static func png(width: Int, height: Int, seed: UInt64) -> [UInt8] {
    var random = SplitMix64(seed: seed)
    var rows: [UInt8] = []
    for _ in 0..<height {
      rows.append(0)
      for _ in 0..<3 * width { rows.append(UInt8(random.nextIndex(below: 256))) }
    }
    var (low, high): (UInt32, UInt32) = (1, 0)
    for byte in rows {
      low = (low + UInt32(byte)) % 65521
      high = (high + low) % 65521
    }
    let size = [UInt8(rows.count & 255), UInt8(rows.count >> 8)]
    let stored = [0x78, 0x01, 0x01] + size + size.map { ~$0 } + rows + big(high << 16 | low)
    return [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]
      + chunk("IHDR", big(UInt32(width)) + big(UInt32(height)) + [8, 2, 0, 0, 0])
      + chunk("IDAT", stored) + chunk("IEND", [])
  }

  private static func big(_ value: UInt32) -> [UInt8] {
    [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: value >> UInt32($0)) }
  }

  private static func chunk(_ name: String, _ bytes: [UInt8]) -> [UInt8] {
    let body = Array(name.utf8) + bytes
    var remainder = UInt32.max
    for byte in body {
      remainder ^= UInt32(byte)
      for _ in 0..<8 { remainder = remainder >> 1 ^ (remainder & 1 == 1 ? 0xEDB8_8320 : 0) }
    }
    return big(UInt32(bytes.count)) + body + big(~remainder)
  }
}

extension ReinforcedDatasetBuilder {
  mutating func add(
    _ sample: Int, _ view: Int, _ parameters: AugmentationParameters, _ embedding: [Float]
  ) throws {
    let tensor = Tensor(shape: [embedding.count], embedding)
    try tensor.withElements(of: Float.self) { elements throws(ReinforcementError) in
      try add(sample: sample, view: view, parameters: parameters, embedding: elements)
    }
  }

  mutating func addText(_ tokens: [Int32], _ embedding: [Float]) throws {
    let tensor = Tensor(shape: [embedding.count], embedding)
    try tensor.withElements(of: Float.self) { elements throws(ReinforcementError) in
      try addText(tokens: tokens, embedding: elements)
    }
  }
}

extension ReinforcedDataset {
  func imageEmbedding(_ sample: Int, _ view: Int) throws -> [Float] {
    var result = [Float](repeating: .nan, count: embeddingWidth)
    try result.withUnsafeMutableBufferPointer {
      try copyImageEmbedding(sample: sample, view: view, into: $0)
    }
    return result
  }

  func textEmbedding(_ tokens: [Int32]) throws -> [Float] {
    var result = [Float](repeating: .nan, count: embeddingWidth)
    try result.withUnsafeMutableBufferPointer {
      try copyTextEmbedding(tokens: tokens, into: $0)
    }
    return result
  }
}

/// The error that `body` throws, in words; an empty text when it throws none.
func reinforcementMessage(_ body: () throws -> Void) -> String {
  do {
    try body()
    return ""
  } catch {
    return "\(error)"
  }
}
