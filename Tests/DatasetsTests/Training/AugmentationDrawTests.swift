import Datasets
import Foundation
import Preprocessing
import Testing

@Suite struct AugmentationDrawTests {
  private let size = ImageSize(height: 60, width: 80)

  private func draw(
    _ augmentation: Augmentation, _ count: Int, in size: ImageSize? = nil
  ) -> [AugmentationParameters] {
    (0..<count).map {
      augmentation.parameters(for: size ?? self.size, seed: 5, sample: $0 / 7, view: $0 % 7)
    }
  }

  @Test func argumentsAloneDecide() {
    let augmentation = Augmentation(
      crop: .init(areaRange: 0.1...1), padding: 4, flipProbability: 0.5, brightness: 0.3)
    func one(seed: UInt64, sample: Int, view: Int) -> AugmentationParameters {
      augmentation.parameters(for: size, seed: seed, sample: sample, view: view)
    }
    #expect(one(seed: 1, sample: 2, view: 3) == one(seed: 1, sample: 2, view: 3))
    // Arguments that add up to the same are different all the same.
    let others =
      [(2, 2, 3), (1, 3, 3), (1, 2, 4), (1, 3, 2), (2, 1, 3), (3, 2, 1)] as [(UInt64, Int, Int)]
    let all = others.map { one(seed: $0.0, sample: $0.1, view: $0.2) }
    #expect(Set(all + [one(seed: 1, sample: 2, view: 3)]).count == 7)
  }

  @Test func nothingIsDrawnForNone() {
    #expect(draw(.none, 100).allSatisfy { $0 == .none })
  }

  @Test func flipsShiftsAndBrightnessFollowTheirDistributions() {
    let count = 20_000
    let drawn = draw(Augmentation(padding: 2, flipProbability: 0.3, brightness: 0.4), count)
    // Bounds of five standard deviations of each estimate.
    let flips = Double(drawn.filter(\.isFlipped).count) / Double(count)
    #expect(abs(flips - 0.3) < 5 * (0.3 * 0.7 / Double(count)).squareRoot())
    for shift in -2...2 {
      for shifts in [drawn.map(\.rowShift), drawn.map(\.columnShift)] {
        let share = Double(shifts.filter { $0 == shift }.count) / Double(count)
        #expect(abs(share - 0.2) < 5 * (0.2 * 0.8 / Double(count)).squareRoot())
      }
    }
    #expect(drawn.allSatisfy { abs($0.rowShift) <= 2 && abs($0.columnShift) <= 2 })
    let factors = drawn.map { Double($0.brightness) }
    #expect(factors.allSatisfy { $0 >= 0.6 - 1e-6 && $0 <= 1.4 + 1e-6 })
    let deviation = 0.8 / 12.0.squareRoot()
    let mean = factors.reduce(0, +) / Double(count)
    #expect(abs(mean - 1) < 5 * deviation / Double(count).squareRoot())
    let variance = factors.map { ($0 - 1) * ($0 - 1) }.reduce(0, +) / Double(count)
    #expect(abs(variance - deviation * deviation) < 0.002)
    // Row and column are drawn apart: their product has mean zero.
    let products = drawn.map { Double($0.rowShift * $0.columnShift) }.reduce(0, +) / Double(count)
    #expect(abs(products) < 5 * 2 / Double(count).squareRoot())
  }

  @Test func certainFlipsAndImpossibleOnes() {
    #expect(draw(Augmentation(flipProbability: 1), 500).allSatisfy { $0.isFlipped })
    #expect(draw(Augmentation(flipProbability: 0), 500).allSatisfy { !$0.isFlipped })
  }

  @Test func cropsLieWithinTheirRanges() throws {
    // At most a third of the image, every draw fits at the first try, so the law is seen unchanged.
    let crop = Augmentation.ResizedCrop(areaRange: 0.1...0.3, aspectRange: 0.8...1.25)
    let large = ImageSize(height: 900, width: 1000)
    let crops = try draw(Augmentation(crop: crop), 5000, in: large).map { try #require($0.crop) }
    var areas: [Double] = []
    var aspects: [Double] = []
    var tops: [Double] = []
    for crop in crops {
      #expect(crop.top >= 0 && crop.top + crop.height <= 900)
      #expect(crop.left >= 0 && crop.left + crop.width <= 1000)
      areas.append(Double(crop.height * crop.width) / 900_000)
      aspects.append(log(Double(crop.width) / Double(crop.height)))
      tops.append(Double(crop.top) / Double(900 - crop.height))
    }
    #expect(areas.allSatisfy { $0 > 0.099 && $0 < 0.301 })
    #expect(aspects.allSatisfy { abs($0) < log(1.25) + 0.01 })
    func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(values.count) }
    #expect(abs(mean(areas) - 0.2) < 5 * 0.2 / (12.0 * 5000).squareRoot())
    #expect(abs(mean(aspects)) < 5 * 2 * log(1.25) / (12.0 * 5000).squareRoot())
    #expect(abs(mean(tops) - 0.5) < 5 / (12.0 * 5000).squareRoot())
  }

  @Test(arguments: [(1, 400), (400, 1), (1, 1), (3, 2), (32, 32)])
  func cropsFitImagesOfAnyProportions(_ height: Int, _ width: Int) throws {
    let size = ImageSize(height: height, width: width)
    let augmentation = Augmentation(crop: .init(areaRange: 0.9...1))
    for parameters in draw(augmentation, 300, in: size) {
      let crop = try #require(parameters.crop)
      #expect(crop.top >= 0 && crop.height >= 1 && crop.top + crop.height <= height)
      #expect(crop.left >= 0 && crop.width >= 1 && crop.left + crop.width <= width)
    }
  }

  @Test func hopelessTriesEndWithTheCentre() {
    let augmentation = Augmentation(crop: .init(areaRange: 1...1, aspectRange: 0.5...2))
    let wide = draw(augmentation, 20, in: ImageSize(height: 10, width: 100))
    #expect(wide.allSatisfy { $0.crop == PixelRectangle(top: 0, left: 40, height: 10, width: 20) })
    let high = draw(augmentation, 20, in: ImageSize(height: 100, width: 10))
    #expect(high.allSatisfy { $0.crop == PixelRectangle(top: 40, left: 0, height: 20, width: 10) })
  }
}
