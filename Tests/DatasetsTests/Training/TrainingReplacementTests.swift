import Datasets
import Foundation
import Preprocessing
import Testing

@Suite struct TrainingReplacementTests {
  let folder: TemporaryFolder
  let good: [UInt8]

  init() throws {
    folder = try TemporaryFolder()
    good = try #require(ImageFixture.png.first).file
  }

  private func dataset(_ count: Int, broken: Set<Int>) throws -> Dataset {
    var table = "filepath,title\n"
    for index in 0..<count {
      let name = broken.contains(index) ? "broken\(index)" : "good\(index)"
      try folder.write("\(name).png", broken.contains(index) ? Array("none".utf8) : good)
      table += "\(name).png,text \(index)\n"
    }
    return try Dataset.open(path: folder.write("data.csv", table))
  }

  private func run(
    _ dataset: Dataset, threads: Int, steps: Int
  ) throws -> (batches: [TrainingBatch], warnings: [String]) {
    var options = TrainingBatches.Options(batchCount: 5)
    options.threads = threads
    options.augmentation.padding = 1
    var warnings: [String] = []
    let batches = try TrainingBatches(
      dataset: dataset, options: options, transform: TrainingData.transform,
      captions: TrainingData.captions([]), warn: { warnings.append($0) })
    let taken = try batches.take(steps)
    batches.stop()
    return (taken, warnings)
  }

  @Test func anotherSampleTakesThePlace() throws {
    let broken: Set = [2, 3, 4, 11]
    let dataset = try dataset(15, broken: broken)
    let (batches, warnings) = try run(dataset, threads: 1, steps: 9)
    let order = try run(self.dataset(15, broken: []), threads: 1, steps: 9).batches
    for (batch, intended) in zip(batches, order) {
      #expect(broken.isDisjoint(with: batch.sampleIndices))
      for (found, wanted) in zip(batch.sampleIndices, intended.sampleIndices) {
        #expect(broken.contains(wanted) || found == wanted)
      }
      // The caption is that of the image.
      #expect(batch.texts() == batch.sampleIndices.map { "text \($0)" })
    }
    #expect(warnings.count == 4)
    for index in broken {
      #expect(warnings.filter { $0.contains("broken\(index).png") }.count == 1)
    }
    _ = try self.dataset(15, broken: broken)
    for threads in [2, 5] {
      let other = try run(dataset, threads: threads, steps: 9)
      #expect(other.batches == batches)
      #expect(other.warnings == warnings)
    }
  }

  @Test(arguments: [5, 6, 8, 30])
  func oneGoodImageIsFound(_ count: Int) throws {
    let dataset = try dataset(count, broken: Set(0..<count).subtracting([count - 2]))
    let (batches, warnings) = try run(dataset, threads: 2, steps: 4)
    #expect(batches.allSatisfy { Set($0.sampleIndices) == [count - 2] })
    #expect(warnings.count == count - 1)
  }

  @Test func noGoodImageIsAnError() throws {
    let dataset = try dataset(7, broken: Set(0..<7))
    for threads in [1, 3] {
      expectDataError(.malformed, "data.csv", "none among 7 samples", "broken") {
        _ = try run(dataset, threads: threads, steps: 1)
      }
    }
  }
}
