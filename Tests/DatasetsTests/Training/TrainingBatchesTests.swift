import Datasets
import Foundation
import Preprocessing
import TensorCore
import Testing

@Suite struct TrainingBatchesTests {
  let data: TrainingData

  init() throws { data = try TrainingData() }

  private static let varied = Augmentation(
    crop: .init(areaRange: 0.5...1), padding: 2, flipProbability: 0.5, brightness: 0.2)

  private func options(_ batchCount: Int = 4, threads: Int = 2) -> TrainingBatches.Options {
    var options = TrainingBatches.Options(batchCount: batchCount)
    options.seed = 11
    options.threads = threads
    options.augmentation = Self.varied
    return options
  }

  @Test(arguments: [1, 2, 3, 8, 40])
  func threadsDoNotMatter(_ threads: Int) throws {
    let one = try data.batches(options(threads: 1)).take(9)
    let several = try data.batches(options(threads: threads)).take(9)
    #expect(one == several)
    #expect(Set(one.map { $0.pixels.elements(of: Float.self) }).count == 9)
  }

  @Test(arguments: [0, 1000, 1 << 20])
  func cacheDoesNotMatter(_ byteCount: Int) throws {
    for augmentation in [Self.varied, Augmentation(padding: 1, flipProbability: 0.5), .none] {
      var options = options()
      options.augmentation = augmentation
      let standard = try data.batches(options).take(12)
      options.cacheByteCount = byteCount
      #expect(try data.batches(options).take(12) == standard)
    }
  }

  @Test(arguments: [1, 4, 5, 6, 13])
  func laterStartsEqualSkippedSteps(_ first: Int) throws {
    let all = try data.batches(options()).take(first + 4)
    var later = options(threads: 3)
    later.firstStep = first
    let rest = try data.batches(later).take(4)
    #expect(rest == Array(all.dropFirst(first)))
    #expect(rest.map(\.step) == Array(first..<first + 4))
  }

  @Test func everyEpochIsAnotherPermutation() throws {
    let count = data.count
    let whole = try data.batches(options(count)).take(3)
    for batch in whole { #expect(batch.sampleIndices.sorted() == Array(0..<count)) }
    #expect(Set(whole.map(\.sampleIndices)).count == 3)
    #expect(whole.map(\.epoch) == [0, 1, 2])
    var other = options(count)
    other.seed += 1
    #expect(try data.batches(other).take(1).first?.sampleIndices != whole[0].sampleIndices)

    // The same permutations cut to batches, their remainder dropped.
    let batches = try data.batches(options(4))
    #expect(batches.stepsPerEpoch == count / 4)
    for epoch in 0..<3 {
      let steps = try batches.take(count / 4)
      #expect(steps.allSatisfy { $0.epoch == epoch })
      let expected = whole[epoch].sampleIndices.prefix(count / 4 * 4)
      #expect(steps.flatMap(\.sampleIndices) == Array(expected))
    }
  }

  @Test func rowsAreTheViewsOfTheirSamples() throws {
    for batch in try data.batches(options()).take(8) {
      #expect(batch.pixels.shape == [4, 3, 8, 8])
      #expect(batch.views == [Int](repeating: batch.epoch, count: 4))
      let values = batch.pixels.elements(of: Float.self)
      for (row, index) in batch.sampleIndices.enumerated() {
        let sample = try data.dataset.sample(at: index)
        let image = try sample.decode()
        let drawn = Self.varied.parameters(
          for: ImageSize(height: image.height, width: image.width), seed: 11, sample: index,
          view: batch.epoch)
        #expect(batch.parameters[row] == drawn)
        let pixels = try drawn.apply(to: image, transform: TrainingData.transform)
        #expect(Array(values[row * 192..<(row + 1) * 192]) == pixels)
        #expect(batch.classIndices?[row] == sample.classIndex.map { Int32($0) })
      }
    }
  }

  @Test func withoutAugmentationPixelsAreTheTransforms() throws {
    var plain = options(1)
    plain.augmentation = .none
    for batch in try data.batches(plain).take(data.count) {
      let image = try data.dataset.sample(at: batch.sampleIndices[0]).decode()
      #expect(batch.parameters == [.none])
      let pixels = try TrainingData.transform.pixels(of: image)
      #expect(batch.pixels.elements(of: Float.self) == pixels)
    }
  }

  @Test func viewsOfAFixedNumberComeInTurn() throws {
    var fixed = options(data.count)
    fixed.viewCount = 3
    var views: [Int: [Int]] = [:]
    var first: [Int: Int] = [:]
    for batch in try data.batches(fixed).take(6) {
      for (index, view) in zip(batch.sampleIndices, batch.views) {
        views[index, default: []].append(view)
        if batch.epoch == 0 { first[index] = view }
      }
    }
    for list in views.values {
      #expect(Set(list.prefix(3)) == [0, 1, 2])
      #expect(Array(list.prefix(3)) == Array(list.suffix(3)))
    }
    #expect(Set(first.values).count > 1)
  }

  @Test func storedViewsAreReplayed() throws {
    var drawn = options()
    drawn.viewCount = 2
    let original = try data.batches(drawn).take(10)
    var store: [[Int]: [Int32]] = [:]
    for batch in original {
      for (row, parameters) in batch.parameters.enumerated() {
        store[[batch.sampleIndices[row], batch.views[row]]] = parameters.packed
      }
    }
    var replayed = drawn
    replayed.augmentation = .none
    replayed.storedViews = { [store] sample, view in
      try AugmentationParameters(packed: store[[sample, view]] ?? [])
    }
    #expect(try data.batches(replayed).take(10) == original)
    replayed.storedViews = { _, _ in
      AugmentationParameters(crop: PixelRectangle(top: 0, left: 0, height: 500, width: 1))
    }
    let batches = try data.batches(replayed)
    expectDataError(.malformed, ".png", "view", "500") { _ = try batches.next() }
  }

  @Test func stoppingEndsTheWork() throws {
    let batches = try data.batches(options(threads: 3))
    _ = try batches.next()
    batches.stop()
    batches.stop()
    expectDataError(.missing, "stopped") { _ = try batches.next() }
    // Objects that were never asked, or asked once, go away without waiting for more.
    weak var gone: TrainingBatches?
    for taken in 0..<2 {
      let short = try data.batches(options(threads: 3))
      if taken == 1 { _ = try short.next() }
      gone = short
    }
    #expect(gone == nil)
  }

  @Test func impossibleOptionsAreErrors() throws {
    expectDataError(.malformed, "the \(data.count + 1) samples", "\(data.count)") {
      _ = try data.batches(options(data.count + 1))
    }
    expectDataError(.malformed, "images", "none") {
      _ = try TrainingBatches(
        dataset: .files([]), options: options(), transform: TrainingData.transform,
        captions: TrainingData.captions([]))
    }
    let changes: [(String, (inout TrainingBatches.Options) -> Void)] = [
      ("batch size", { $0.batchCount = 0 }), ("threads", { $0.threads = 0 }),
      ("first step", { $0.firstStep = -1 }), ("views", { $0.viewCount = 0 }),
      ("bytes of cache", { $0.cacheByteCount = -1 }),
      ("'pad=8'", { $0.augmentation.padding = 8 }),
      ("'flip=3.0'", { $0.augmentation.flipProbability = 3 }),
    ]
    for (words, change) in changes {
      var options = options()
      change(&options)
      expectDataError(.malformed, words) { _ = try data.batches(options) }
    }
  }
}
