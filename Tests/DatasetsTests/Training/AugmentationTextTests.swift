import Datasets
import Foundation
import Testing

@Suite struct AugmentationTextTests {
  @Test func partsAreReadInAnyOrder() throws {
    let all = try Augmentation(parsing: "flip=0.5, brightness=0.2,crop=0.6,pad=4")
    let expected = Augmentation(
      crop: .init(areaRange: 0.6...1), padding: 4, flipProbability: 0.5, brightness: 0.2)
    #expect(all == expected)
    #expect(expected.crop?.aspectRange == 3.0 / 4...4.0 / 3)
    #expect(all.description == "crop=0.6,pad=4,flip=0.5,brightness=0.2")
    #expect(try Augmentation(parsing: " none ") == .none)
    #expect(Augmentation.none.description == "none")
  }

  @Test func textAndJSONKeepEveryNumber() throws {
    let augmentations = [
      Augmentation.none, Augmentation(padding: 3), Augmentation(flipProbability: 1 / 3),
      Augmentation(crop: .init(areaRange: 0.1...0.7), brightness: 1),
      Augmentation(
        crop: .init(areaRange: 1...1, aspectRange: 0.5...1 / 0.3), padding: 1,
        flipProbability: 1, brightness: 1e-7),
    ]
    for augmentation in augmentations {
      #expect(try Augmentation(parsing: augmentation.description) == augmentation)
      let json = try JSONEncoder().encode(augmentation)
      #expect(try JSONDecoder().decode(Augmentation.self, from: json) == augmentation)
    }
  }

  @Test(arguments: [
    "", "pad", "pad=", "pad=1.5", "pad=-1", "pad=99999", "flip=1.1", "flip=nan", "flip=x",
    "brightness=-0.1", "brightness=2.0", "crop=0.0", "crop=1.2", "crop=0.9:0.3", "crop=0.1:0.2:0.3",
    "aspect=1:2", "crop=0.5,aspect=2", "crop=0.5,aspect=0.0:1.0", "flip=0.5,flip=0.5", "turn=3",
    "none,pad=1", "pad=1,", "pad=1,,flip=1",
  ])
  func wrongPartsAreNamed(_ text: String) {
    let parts = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    let error = #expect(throws: DataError.self) { try Augmentation(parsing: text) }
    #expect(error?.kind == .malformed)
    let message = error?.description ?? ""
    #expect(parts.contains { message.contains("'\($0)'") }, "\(message)")
  }

  @Test func packedParametersComeBack() throws {
    let drawn = [
      AugmentationParameters.none,
      AugmentationParameters(
        crop: PixelRectangle(top: 0, left: 3, height: 5, width: 70_000), rowShift: -4,
        columnShift: 3, isFlipped: true, brightness: 0.7),
      AugmentationParameters(brightness: 2),
    ]
    for parameters in drawn {
      let packed = parameters.packed
      #expect(packed.count == AugmentationParameters.packedCount)
      #expect(try AugmentationParameters(packed: packed) == parameters)
    }
  }

  @Test(
    arguments: [
      (0, -1), (2, 0), (3, -5), (4, 1 << 20), (5, -(1 << 20)), (6, 2), (7, -1),
      (7, Int32(bitPattern: Float.nan.bitPattern)), (7, Int32(bitPattern: Float(3).bitPattern)),
    ] as [(Int, Int32)])
  func wrongPackedParametersAreFound(_ place: Int, _ value: Int32) throws {
    let crop = PixelRectangle(top: 1, left: 1, height: 2, width: 2)
    var packed = AugmentationParameters(crop: crop).packed
    packed[place] = value
    expectDataError(.malformed, "augmentation parameters") {
      _ = try AugmentationParameters(packed: packed)
    }
    expectDataError(.malformed, "8 integers", "7") {
      _ = try AugmentationParameters(packed: packed.dropLast())
    }
  }
}
