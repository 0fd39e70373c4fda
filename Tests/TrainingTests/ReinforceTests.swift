import Datasets
import Foundation
import Preprocessing
import TensorCore
import Testing
import Training

@Suite struct ReinforceTests {
  @Test func everythingComesBackBitForBit() throws {
    let fixture = try ReinforceFixture()
    let data = try ReinforcedDataset(opening: fixture.written())
    #expect(try data.identity == DatasetIdentity(of: fixture.dataset))
    #expect(data.teacherSHA256 == ReinforceFixture.teacher)
    #expect(data.logitScale == 14.25)
    #expect(data.imageSize == ImageSize(height: 8, width: 8))
    #expect((data.viewCount, data.embeddingWidth, data.textCount) == (3, 5, 3))
    for sample in 0..<4 {
      for view in 0..<3 {
        #expect(try data.parameters(sample: sample, view: view) == fixture.drawn(sample, view))
        #expect(
          try data.imageEmbedding(sample, view) == ReinforceFixture.image(sample, view))
      }
    }
    for (index, tokens) in ReinforceFixture.texts.enumerated() {
      #expect(try data.textEmbedding(tokens) == ReinforceFixture.text(index))
      #expect(try data.textEmbedding(tokens + [0, 0]) == ReinforceFixture.text(index))
    }
    #expect(data.classEmbeddings == Tensor(shape: [2, 5], ReinforceFixture.classes()))
  }

  @Test func theOrderOfViewsDoesNotShowInTheFile() throws {
    let fixture = try ReinforceFixture()
    try fixture.full().write(to: fixture.file("a.h5"))
    try fixture.full(reversed: true).write(to: fixture.file("b.h5"))
    let files = try ["a.h5", "b.h5"].map {
      try Data(contentsOf: URL(fileURLWithPath: fixture.file($0)))
    }
    #expect(files[0] == files[1])
  }

  @Test func textsAndClassesMayBeAbsent() throws {
    let fixture = try ReinforceFixture()
    var builder = try fixture.builder()
    for row in 0..<12 { try builder.add(row / 3, row % 3, .none, ReinforceFixture.unit(row)) }
    try builder.write(to: fixture.file("a.h5"))
    let data = try ReinforcedDataset(opening: fixture.file("a.h5"))
    #expect(data.textCount == 0)
    #expect(data.classEmbeddings == nil)
    #expect(try data.imageEmbedding(3, 2) == ReinforceFixture.unit(11))
  }

  @Test func lookupsOutsideTheFileAreErrors() throws {
    let fixture = try ReinforceFixture()
    let path = try fixture.written()
    let data = try ReinforcedDataset(opening: path)
    for (sample, view) in [(4, 0), (-1, 0), (0, 3), (0, -1)] {
      let expected = ReinforcementError.absentView(path: path, sample: sample, view: view)
      #expect(throws: expected) { try data.imageEmbedding(sample, view) }
      #expect(throws: expected) { try data.parameters(sample: sample, view: view) }
    }
    #expect(throws: ReinforcementError.absentText(path: path, tokens: [9, 4])) {
      try data.textEmbedding([9, 4, 0])
    }
    #expect(throws: ReinforcementError.absentText(path: path, tokens: [])) {
      try data.textEmbedding([])
    }
  }

  @Test func missingViewsLeaveAnOlderFileAlone() throws {
    let fixture = try ReinforceFixture()
    let path = try fixture.written()
    var builder = try fixture.builder()
    for row in [0, 1, 2, 3, 5, 11] {
      try builder.add(row / 3, row % 3, .none, ReinforceFixture.unit(row))
    }
    #expect(throws: ReinforcementError.incomplete(count: 6, sample: 1, view: 1)) {
      try builder.write(to: path)
    }
    #expect(try ReinforcedDataset(opening: path).textCount == 3)
  }
}

@Suite struct ReinforceBuilderTests {
  private typealias Fixture = ReinforceFixture

  /// What a builder says of `change`.
  private func refusal(_ change: (inout ReinforcedDatasetBuilder) throws -> Void) throws -> String {
    let fixture = try ReinforceFixture()
    var builder = try fixture.builder()
    try builder.add(0, 0, .none, Fixture.unit(0))
    try builder.addText([1, 2], Fixture.unit(0))
    return reinforcementMessage { try change(&builder) }
  }

  @Test func viewsThatCannotBeStoredAreNamed() throws {
    let unit = Fixture.unit(1)
    #expect(try refusal { try $0.add(0, 0, .none, unit) }.contains("view 0: expected each view"))
    #expect(try refusal { try $0.add(0, 3, .none, unit) }.contains("4 samples of 3 views"))
    #expect(try refusal { try $0.add(-1, 0, .none, unit) }.contains("4 samples of 3 views"))
    #expect(try refusal { try $0.add(1, 0, .none, unit + [0]) }.contains("5 numbers, found 6"))
    #expect(
      try refusal { try $0.add(1, 0, .none, unit.map { $0 * 1.01 }) }.contains("add up to 1"))
    #expect(
      try refusal { try $0.add(1, 2, .none, unit.map { $0 * .nan }) }
        .contains("sample 1, view 2: expected numbers"))
    for wrong in [
      AugmentationParameters(rowShift: 1 << 40), AugmentationParameters(brightness: .nan),
      AugmentationParameters(crop: PixelRectangle(top: 0, left: 0, height: 0, width: 0)),
    ] {
      #expect(try refusal { try $0.add(1, 0, wrong, unit) }.contains("that can be stored"))
    }
  }

  @Test func textsAndClassesThatCannotBeStoredAreNamed() throws {
    let unit = Fixture.unit(1)
    #expect(try refusal { try $0.addText([1, 2, 0], unit) }.contains("each text once"))
    #expect(try refusal { try $0.addText([0, 0], unit) }.contains("ids of 0 and more, one"))
    #expect(try refusal { try $0.addText([-1, 5], unit) }.contains("ids of 0 and more, one"))
    #expect(try refusal { try $0.addText([3], [1]) }.contains("text 1: expected 5 numbers"))
    #expect(
      try refusal { try $0.setClassEmbeddings(Tensor(shape: [1, 4], [1, 0, 0, 0] as [Float])) }
        .contains("5 numbers for each class"))
    #expect(
      try refusal { try $0.setClassEmbeddings(Tensor(shape: [2, 5], unit + unit.map { -2 * $0 })) }
        .contains("class 1: expected numbers whose squares"))
    let classes = Tensor(shape: [1, 5], unit)
    #expect(
      try refusal {
        try $0.setClassEmbeddings(classes)
        try $0.setClassEmbeddings(classes)
      }.contains("found them again"))
    let fixture = try ReinforceFixture()
    var builder = try fixture.builder()
    try builder.addText([1, 2], unit)
    #expect(builder.hasText([1, 2]) && builder.hasText([1, 2, 0]) && !builder.hasText([1]))
  }

  @Test func everyByteIsCountedAgainstTheLimit() throws {
    let fixture = try ReinforceFixture()
    let whole = try fixture.full().byteCount
    // Views, sides and scale; texts of at most 5 ids with their lengths; classes.
    #expect(whole == 12 * 4 * (8 + 5) + 12 + 3 * 4 * (5 + 1 + 5) + 2 * 4 * 5)
    let path = try fixture.written()
    #expect(try ReinforcedDataset(opening: path, byteLimit: whole).textCount == 3)
    #expect(
      reinforcementMessage { _ = try ReinforcedDataset(opening: path, byteLimit: whole - 1) }
        .contains("at most \(whole - 1) bytes in all datasets"))

    let views = 12 * 4 * (8 + 5) + 12
    #expect(throws: ReinforcementError.tooLarge(byteCount: views, limit: views - 1)) {
      try fixture.builder(byteLimit: views - 1)
    }
    var builder = try fixture.builder(byteLimit: views + 28)
    try builder.addText([1], Fixture.unit(0))
    #expect(throws: ReinforcementError.tooLarge(byteCount: views + 56, limit: views + 28)) {
      try builder.addText([2], Fixture.unit(0))
    }
    #expect(!builder.hasText([2]))
  }

  @Test func countsThatNoFileHoldsAreRefusedBeforeMemoryIsTaken() throws {
    let identity = try DatasetIdentity(of: ReinforceFixture().dataset)
    func refusal(_ views: Int, _ width: Int, scale: Float = 1, sha: String = Fixture.teacher)
      -> ReinforcementError?
    {
      do throws(ReinforcementError) {
        _ = try ReinforcedDatasetBuilder(
          identity: identity, viewCount: views, embeddingWidth: width,
          imageSize: ImageSize(height: 8, width: 8), teacherSHA256: sha, logitScale: scale)
        return nil
      } catch { return error }
    }
    #expect(
      refusal(10_000_000, 512)
        == .tooLarge(byteCount: 83_200_000_012, limit: 4_294_967_296))
    #expect(refusal(.max, 512) == .tooLarge(byteCount: nil, limit: 4_294_967_296))
    #expect(refusal(2, .max) == .tooLarge(byteCount: nil, limit: 4_294_967_296))
    #expect("\(refusal(0, 512).map { "\($0)" } ?? "")".contains("views: expected 1 at least"))
    #expect("\(refusal(1, 0).map { "\($0)" } ?? "")".contains("numbers of an embedding"))
    for scale in [0, -1, .infinity, .nan] as [Float] {
      #expect("\(refusal(1, 1, scale: scale).map { "\($0)" } ?? "")".contains("logit scale"))
    }
    #expect("\(refusal(1, 1, sha: "AB").map { "\($0)" } ?? "")".contains("SHA-256"))
  }
}
