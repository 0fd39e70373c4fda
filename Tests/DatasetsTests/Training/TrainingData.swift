import Datasets
import Foundation
import Preprocessing
import TensorCore

/// A small folder of classes, and the batches of it.
struct TrainingData {
  let folder: TemporaryFolder
  let dataset: Dataset
  /// Samples of the folder.
  let count = 23

  static let transform = ImageTransform.clip(imageSize: 8)

  init() throws {
    folder = try TemporaryFolder()
    for index in 0..<count {
      let image = ImageFixture.png[index % ImageFixture.png.count]
      let name = ["ant", "big_bee", "cat"][index % 3]
      try folder.write("\(name)/\(index).png", image.file)
    }
    dataset = try Dataset.open(path: folder.path)
  }

  /// Start, a number for each letter, end.
  static func ids(_ text: String) -> [Int32] {
    [1] + text.utf8.map { Int32($0) + 10 } + [2]
  }

  static func captions(
    _ classNames: [String], prompts: Prompts = .standard
  ) -> TrainingCaptions {
    TrainingCaptions(prompts: prompts, classNames: classNames, tokenize: { ids($0) })
  }

  func batches(_ options: TrainingBatches.Options) throws -> TrainingBatches {
    try TrainingBatches(
      dataset: dataset, options: options, transform: Self.transform,
      captions: Self.captions(dataset.classNames))
  }
}

extension TrainingBatches {
  /// The next `count` batches.
  func take(_ count: Int) throws -> [TrainingBatch] { try (0..<count).map { _ in try next() } }
}

extension TrainingBatch: Equatable {
  /// Whether everything agrees that a step sees, bit for bit.
  package static func == (left: TrainingBatch, right: TrainingBatch) -> Bool {
    left.step == right.step && left.epoch == right.epoch
      && left.sampleIndices == right.sampleIndices && left.views == right.views
      && left.parameters == right.parameters && left.pixels == right.pixels
      && left.tokens == right.tokens && left.classIndices == right.classIndices
  }
}

extension TrainingBatch {
  /// The texts that the tokens of ``TrainingData`` spell, their padding checked.
  func texts() -> [String?] {
    let length = tokens.shape[1]
    let all = tokens.elements(of: Int32.self)
    return (0..<tokens.shape[0]).map { row in
      let ids = all[row * length..<(row + 1) * length]
      guard ids.first == 1, let end = ids.firstIndex(of: 2),
        ids[(end + 1)...].allSatisfy({ $0 == 0 })
      else { return nil }
      return String(decoding: ids[..<end].dropFirst().map { UInt8($0 - 10) }, as: UTF8.self)
    }
  }
}
