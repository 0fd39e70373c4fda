import Evaluation
import Operators
import TensorCore
import TestSupport
import Testing

@Suite struct MetricsTests {
  init() throws { try Matrix.open() }

  func unit(_ count: Int, of width: Int) -> Embeddings {
    var values = [Float](repeating: 0, count: count * width)
    for index in 0..<count { values[index * width + index % width] = 1 }
    return Embeddings(width: width, values: values)
  }

  @Test func identityScoresAreAHundredPercent() {
    let rows = unit(20, of: 20)
    let labels = Array(0..<20)
    #expect(Metrics.zeroShot(images: rows, labels: labels, classes: rows).top1 == 1)
    let recall = Metrics.retrieval(images: rows, captions: rows, owners: labels)
    #expect(recall.imageToText.at1 == 1 && recall.textToImage.at1 == 1)
    let agreement = Metrics.agreement(rows, rows)
    #expect(agreement.mean == 1 && agreement.minimum == 1)
  }

  @Test func equalScoresRankByIndex() {
    let scores: [Float] = [0.5, 0.9, 0.5, .nan]
    #expect(Metrics.rank(of: 0, in: scores[...]) == 1)
    #expect(Metrics.rank(of: 2, in: scores[...]) == 2)
    #expect(Metrics.rank(of: 3, in: scores[...]) == 3, "what is no number ranks last")
  }

  @Test func anyCaptionOfAnImageCounts() {
    // Two images with two captions each; the second caption of image 0 points at image 1.
    let images = unit(2, of: 2)
    let captions = Embeddings(width: 2, values: [1, 0, 0, 1, 0, 1, 0, 1])
    let recall = Metrics.retrieval(images: images, captions: captions, owners: [0, 0, 1, 1])
    #expect(recall.imageToText.at1 == 0.5, "caption 1 outranks image 1's own by its index")
    #expect(recall.textToImage.at1 == 0.75)
    #expect(recall.textToImage.at5 == 1)
  }

  @Test func agreesWithANaiveCountOnRandomRows() {
    var random = SplitMix64(seed: 4)
    let images = Embeddings(width: 8, values: random.normals(300 * 8)).normalized()
    let captions = Embeddings(width: 8, values: random.normals(600 * 8)).normalized()
    let owners = (0..<600).map { $0 % 300 }
    let recall = Metrics.retrieval(images: images, captions: captions, owners: owners)
    var found = 0
    for caption in 0..<600 {
      func score(_ image: Int) -> Double {
        zip(images[image], captions[caption]).reduce(0) { $0 + Double($1.0) * Double($1.1) }
      }
      let own = score(owners[caption])
      found += (0..<300).count { score($0) > own } < 10 ? 1 : 0
    }
    #expect(abs(recall.textToImage.at10 - Double(found) / 600) < 0.002)
  }

  @Test func meanOfPromptsIsNormalizedTwice() {
    let prompts = Embeddings(width: 2, values: [10, 0, 0, 1])
    let mean = Array(prompts.normalizedMean())
    #expect(abs(mean[0] - 0.70710678) < 1e-6 && abs(mean[1] - 0.70710678) < 1e-6)
  }
}
