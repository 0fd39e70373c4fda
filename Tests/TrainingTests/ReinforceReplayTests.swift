import Checkpoints
import Datasets
import Foundation
import Preprocessing
import TensorCore
import Testing
import Training

@Suite struct ReinforceReplayTests {
  /// Batches of `fixture` in the first epochs, each view once.
  private func batches(
    _ fixture: ReinforceFixture, replaying data: ReinforcedDataset?
  ) throws -> [TrainingBatch] {
    var options = TrainingBatches.Options(batchCount: 2)
    options.seed = 3
    options.viewCount = ReinforceFixture.viewCount
    if let data {
      options.storedViews = { try data.parameters(sample: $0, view: $1) }
    } else {
      options.augmentation = ReinforceFixture.augmentation
    }
    let batches = try TrainingBatches(
      dataset: fixture.dataset, options: options, transform: ReinforceFixture.transform,
      captions: TrainingCaptions(
        text: { sample, _ in sample.name.contains("ant") ? "ant" : "bee" },
        tokenize: { ReinforceFixture.texts[$0 == "ant" ? 0 : 1] }))
    return try (0..<2 * ReinforceFixture.viewCount).map { _ in try batches.next() }
  }

  @Test func storedViewsAreTheDrawnOnesPixelForPixel() throws {
    let fixture = try ReinforceFixture()
    let data = try ReinforcedDataset(opening: fixture.written())
    let transform = try AugmentedTransform(ReinforceFixture.transform)
    var distinct: Set<[Float]> = []
    for sample in 0..<4 {
      let image = try fixture.dataset.sample(at: sample).decode()
      for view in 0..<3 {
        let drawn = try transform.pixels(of: image, fixture.drawn(sample, view))
        let replayed = try transform.pixels(
          of: image, data.parameters(sample: sample, view: view))
        #expect(drawn == replayed)
        distinct.insert(replayed)
      }
    }
    #expect(distinct.count == 12)
  }

  @Test func aReplayedRunSeesTheDrawnBatchesAndTheirEmbeddings() throws {
    let fixture = try ReinforceFixture()
    let data = try ReinforcedDataset(opening: fixture.written())
    let drawn = try batches(fixture, replaying: nil)
    let replayed = try batches(fixture, replaying: data)
    var seen: Set<[Int]> = []
    for (left, right) in zip(drawn, replayed) {
      #expect(left.pixels == right.pixels)
      #expect(left.parameters == right.parameters)
      let images = try data.imageEmbeddings(of: right)
      let texts = try data.textEmbeddings(of: right)
      #expect(images.shape == [2, 5] && texts.shape == [2, 5])
      var expected: (images: [Float], texts: [Float]) = ([], [])
      for (sample, view) in zip(right.sampleIndices, right.views) {
        seen.insert([sample, view])
        expected.images += ReinforceFixture.image(sample, view)
        expected.texts += ReinforceFixture.text(sample < 2 ? 0 : 1)
      }
      #expect(images.elements(of: Float.self) == expected.images)
      #expect(texts.elements(of: Float.self) == expected.texts)
    }
    #expect(seen.count == 12)
  }

  @Test func otherDataAreAnError() throws {
    let fixture = try ReinforceFixture()
    let path = try fixture.written()
    let data = try ReinforcedDataset(opening: path)
    let size = ImageSize(height: 8, width: 8)
    try data.check(DatasetIdentity(of: fixture.dataset), imageSize: size)

    let less = try DatasetIdentity(of: fixture.dataset.selecting(count: 3, seed: 1))
    #expect(
      throws: ReinforcementError.otherData(
        path: path, expected: "\(data.identity)", found: "\(less)")
    ) { try data.check(less, imageSize: size) }
    let text = reinforcementMessage { try data.check(less, imageSize: size) }
    #expect(text.contains("4 samples of kind folder"))
    #expect(text.contains("3 samples of kind folder"))

    try FileManager.default.moveItem(
      atPath: "\(fixture.folder)/data/bee/2.png", toPath: "\(fixture.folder)/data/bee/3.png")
    let renamed = try DatasetIdentity(of: Dataset.open(path: fixture.dataset.path))
    #expect(renamed.sampleCount == 4)
    #expect(throws: ReinforcementError.self) { try data.check(renamed, imageSize: size) }
  }

  @Test func anotherImageSizeIsAnErrorWhereAViewIsShifted() throws {
    let fixture = try ReinforceFixture()
    let identity = try DatasetIdentity(of: fixture.dataset)
    let other = ImageSize(height: 8, width: 16)
    let shifted = try ReinforcedDataset(opening: fixture.written())
    #expect(
      reinforcementMessage { try shifted.check(identity, imageSize: other) }
        .contains("shifted views of 8 by 8 pixels"))
    var builder = try fixture.builder()
    let crop = AugmentationParameters(
      crop: PixelRectangle(top: 1, left: 2, height: 3, width: 4), isFlipped: true)
    for row in 0..<12 { try builder.add(row / 3, row % 3, crop, ReinforceFixture.unit(row)) }
    try builder.write(to: fixture.file("b.h5"))
    try ReinforcedDataset(opening: fixture.file("b.h5")).check(identity, imageSize: other)
  }

  @Test func identitiesAreTheHashesOfTheSpecification() throws {
    // Made by another implementation of SHA-256 from the bytes that the specification lists.
    let files = try DatasetIdentity(of: .files(["x/é.png", "b"]))
    #expect(
      files.sha256 == "687ec248e08cf12ecaa0a969450568f64b6149946293835498a2e13ed0cf8464")
    #expect(files.sampleCount == 2 && files.kind == .files)
    let fixture = try ReinforceFixture()
    try FileManager.default.removeItem(atPath: "\(fixture.folder)/data/bee/2.png")
    let folder = try DatasetIdentity(of: Dataset.open(path: "\(fixture.folder)/data/"))
    #expect(
      folder.sha256 == "10c3ad5f8633ceac5b012c21db3f221badafa16edd7a189090746e87d6536ba5")
  }

  @Test func dataThatMovedAsAWholeStayTheSame() throws {
    let fixture = try ReinforceFixture()
    let before = try DatasetIdentity(of: fixture.dataset)
    try FileManager.default.moveItem(
      atPath: "\(fixture.folder)/data", toPath: "\(fixture.folder)/moved")
    #expect(try DatasetIdentity(of: Dataset.open(path: "\(fixture.folder)/moved")) == before)
    // Tables lie beside their images, and their own name does not matter.
    let table = Array("filepath,title\nx/1.png,one\nx/2.png,two\n".utf8)
    let exchanged = Array("filepath,title\nx/2.png,two\nx/1.png,one\n".utf8)
    let identities = try [("p/a.csv", table), ("q/b.csv", table), ("p/c.csv", exchanged)].map {
      try ReinforceFixture.write($0.1, to: fixture.file($0.0))
      return try DatasetIdentity(of: Dataset.open(path: fixture.file($0.0)))
    }
    #expect(identities[0] == identities[1])
    #expect(identities[0] != identities[2])
    #expect(identities[0].kind == .table)
  }
}
