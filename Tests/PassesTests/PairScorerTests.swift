import Foundation
import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport
import Testing

/// Scores of embeddings against the definition, written out in float64.
@Suite struct PairScorerTests {
  /// The definition: every probability by its own sum.
  private struct Definition {
    let task: PairTask
    let width: Int
    let scale: Double

    func logits(_ images: [Double], _ texts: [Double]) -> [[Double]] {
      let rows = task.candidates.map { members -> [Double] in
        var mean = [Double](repeating: 0, count: width)
        for text in members { for k in 0..<width { mean[k] += texts[text * width + k] } }
        // A caption's embedding is taken as it is.
        if members.count == 1 { return mean }
        let norm = sqrt(mean.map { $0 * $0 }.reduce(0, +))
        return mean.map { $0 / norm }
      }
      return task.targets.indices.map { image in
        rows.map { row in
          scale * (0..<width).map { images[image * width + $0] * row[$0] }.reduce(0, +)
        }
      }
    }

    func loss(_ images: [Double], _ texts: [Double]) -> Double {
      let logits = logits(images, texts)
      var rows = 0.0
      for (image, row) in logits.enumerated() {
        rows -= log(exp(row[task.targets[image]]) / row.map { exp($0) }.reduce(0, +))
      }
      rows /= Double(logits.count)
      guard task.task == .retrieval else { return rows }
      var columns: [Double] = []
      for candidate in task.candidates.indices {
        let own = logits.indices.filter { task.targets[$0] == candidate }
        guard !own.isEmpty else { continue }
        let all = logits.map { exp($0[candidate]) }.reduce(0, +)
        columns.append(-log(own.map { exp(logits[$0][candidate]) }.reduce(0, +) / all))
      }
      return (rows + columns.reduce(0, +) / Double(columns.count)) / 2
    }

    /// The divergence of the probabilities that `images` give from those that `others` give.
    func divergence(_ images: [Double], _ others: [Double], _ texts: [Double]) -> Double {
      func mean(_ rows: [([Double], [Double])]) -> Double {
        let sums = rows.map { own, other in
          let (a, b) = (own.map { exp($0) }, other.map { exp($0) })
          let (total, whole) = (a.reduce(0, +), b.reduce(0, +))
          return zip(a, b).map { $1 / whole * log(($1 / whole) / ($0 / total)) }.reduce(0, +)
        }
        return sums.reduce(0, +) / Double(sums.count)
      }
      let (own, other) = (logits(images, texts), logits(others, texts))
      let rows = mean(Array(zip(own, other)))
      guard task.task == .retrieval else { return rows }
      let asked = Set(task.targets).sorted()
      return (rows + mean(asked.map { c in (own.map { $0[c] }, other.map { $0[c] }) })) / 2
    }

    func quality(_ images: [Double], _ texts: [Double]) -> Double {
      let logits = logits(images, texts)
      let right = logits.enumerated().filter { $1[task.targets[$0]] == $1.max() }.count
      let share = Double(right) / Double(logits.count)
      guard task.task == .retrieval else { return share }
      var asked = 0
      var found = 0
      for candidate in task.candidates.indices {
        let own = logits.indices.filter { task.targets[$0] == candidate }
        guard !own.isEmpty else { continue }
        asked += 1
        let most = logits.map { $0[candidate] }.max()
        found += own.contains { logits[$0][candidate] == most } ? 1 : 0
      }
      return (share + Double(found) / Double(asked)) / 2
    }
  }

  private func rows(_ count: Int, width: Int, seed: UInt64) -> [Float] {
    var random = SplitMix64(seed: seed)
    return (0..<count).flatMap { _ -> [Float] in
      let row = random.normals(width)
      let norm = row.reduce(0) { $0 + $1 * $1 }.squareRoot()
      return row.map { $0 / norm }
    }
  }

  init() throws { try Matrix.open() }

  @Test(arguments: [PairSet.Task.zeroShot, .retrieval])
  func scoresAreThoseOfTheDefinition(_ task: PairSet.Task) {
    let pairs = randomPairs(task, images: 23)
    let relation = PairTask(pairs)
    let width = 7
    let images = rows(23, width: width, seed: 5)
    let texts = rows(pairs.texts.count, width: width, seed: 6)
    let others = rows(23, width: width, seed: 7)
    let reference = relation.logits(images: others, texts: texts, width: width, scale: 9)
    let found = relation.score(
      images: images, texts: texts, width: width, scale: 9, reference: reference)
    let definition = Definition(task: relation, width: width, scale: 9)
    let (i, t) = (images.map { Double($0) }, texts.map { Double($0) })
    #expect(abs(found.loss - definition.loss(i, t)) < 1e-5)
    #expect(found.quality == definition.quality(i, t))
    let divergence = definition.divergence(i, others.map { Double($0) }, t)
    #expect(divergence > 0.1 && abs(found.divergence - divergence) < 1e-5)
    let same = relation.score(
      images: others, texts: texts, width: width, scale: 9, reference: reference)
    #expect(same.divergence == 0)
    #expect(found.quality > 0 && found.quality < 1)
    #expect(found.value == found.quality - 0.1 * found.loss)
  }

  @Test(arguments: [PairSet.Task.zeroShot, .retrieval])
  func gradientsAreDifferencesOfTheLoss(_ task: PairSet.Task) {
    let pairs = randomPairs(task, images: 9)
    let relation = PairTask(pairs)
    let width = 4
    let images = rows(9, width: width, seed: 8)
    let texts = rows(pairs.texts.count, width: width, seed: 9)
    let found = relation.gradients(images: images, texts: texts, width: width, scale: 6)
    let definition = Definition(task: relation, width: width, scale: 6)
    let (i, t) = (images.map { Double($0) }, texts.map { Double($0) })
    let step = 1e-5
    func difference(_ place: Int, ofImage: Bool) -> Double {
      func loss(_ sign: Double) -> Double {
        var (images, texts) = (i, t)
        if ofImage { images[place] += sign * step } else { texts[place] += sign * step }
        return definition.loss(images, texts)
      }
      return (loss(1) - loss(-1)) / (2 * step)
    }
    for place in images.indices {
      #expect(abs(Double(found.images[place]) - difference(place, ofImage: true)) < 1e-5)
    }
    for place in texts.indices {
      #expect(abs(Double(found.texts[place]) - difference(place, ofImage: false)) < 1e-5)
    }
  }

  /// Some of the images keep their own candidates.
  @Test func partsOfASetAreToldApartByThemselves() {
    let classes = PairTask(randomPairs(.zeroShot)).selecting([4, 1])
    #expect(classes.task.candidates == [[0, 4], [1], [2, 3, 5]])
    #expect(classes.task.targets == [28 % 3, 7 % 3])
    let captions = PairTask(randomPairs(.retrieval)).selecting([4, 1, 6])
    #expect(captions.texts == [2, 3])
    #expect(captions.task.candidates == [[0], [1]])
    #expect(captions.task.targets == [1, 0, 0])
  }

  /// A tower that did not change is not run again, and the score is the same.
  @Test(arguments: [PairSet.Task.zeroShot, .retrieval])
  func aChangedTowerIsScoredAsIfBothWereRun(_ task: PairSet.Task) throws {
    let graph = try RandomCLIP().graph(seed: 4)
    let pairs = randomPairs(task)
    let scorer = try PairScorer(pairs, of: graph, threadCount: 2)
    #expect(try scorer.score(of: graph) == scorer.dense)
    for name in ["image.layers.0.mlp.fc2.weight", "text.layers.1.attention.output.weight"] {
      let changed = try graph.changing(name) { row, _, element in row == 2 ? -element : element }
      let score = try scorer.score(of: changed)
      let both = try PairScorer(pairs, of: changed, threadCount: 2).dense
      #expect(score.loss == both.loss && score.quality == both.quality)
      #expect(score.divergence > 0 && both.divergence == 0)
      #expect(score.loss != scorer.dense.loss)
    }
  }

  /// Embeddings are those of the whole graph run at once.
  @Test func lossIsThatOfTheModelsOwnEmbeddings() throws {
    let extents = RandomCLIP()
    let graph = try extents.graph(seed: 4)
    let pairs = randomPairs(.zeroShot)
    let found = try PairScorer(pairs, of: graph, threadCount: 1).dense
    var images: [Float] = []
    var texts: [Float] = []
    for index in 0..<pairs.imageCount {
      let pixels = pairs.pixels.selecting([index], onAxis: 0)
      let ids = pairs.tokenIDs(of: [index % pairs.texts.count])
      let made = try outputs(graph, ["pixel_values": pixels, "input_ids": ids])
      images += made[..<extents.projection]
      if index < pairs.texts.count { texts += made[extents.projection...] }
    }
    let definition = Definition(
      task: PairTask(pairs), width: extents.projection, scale: exp(Double(Float(2.6))))
    let loss = definition.loss(images.map { Double($0) }, texts.map { Double($0) })
    #expect(abs(found.loss - loss) < 1e-4 * max(1, loss))
  }

  @Test func setsThatSayNothingAreRefused() throws {
    let graph = try RandomCLIP().graph(seed: 4)
    let good = randomPairs(.zeroShot)
    func refusal(_ pairs: PairSet) -> String {
      do {
        _ = try PairScorer(pairs, of: graph, threadCount: 1)
        return "accepted"
      } catch {
        return "\(error)"
      }
    }
    let one = PairSet(
      task: .zeroShot, pixels: good.pixels, texts: good.texts, candidates: [[0, 1]],
      targets: [Int](repeating: 0, count: good.imageCount))
    #expect(
      refusal(one)
        == "mope: the calibration data has one class alone, expected two at least to tell images "
        + "apart by")
    let caption = PairSet(
      task: .retrieval, pixels: good.pixels, texts: good.texts, candidates: [[0]],
      targets: [Int](repeating: 0, count: good.imageCount))
    #expect(refusal(caption).contains("one caption alone"))
    let none = PairSet(
      task: .zeroShot, pixels: Tensor(shape: [0, 3, 8, 8], [Float]()), texts: good.texts,
      candidates: good.candidates, targets: [])
    #expect(refusal(none) == "mope: the calibration data has no images")
    let large = PairSet(
      task: .zeroShot, pixels: Tensor(shape: [1, 3, 4, 4], [Float](repeating: 0, count: 48)),
      texts: good.texts, candidates: good.candidates, targets: [0])
    #expect(refusal(large) == "mope: images are 3 x 4 x 4, expected 3 x 8 x 8")
    let words = PairSet(
      task: .zeroShot, pixels: good.pixels, texts: [[1, 28], [99, 28]], candidates: [[0], [1]],
      targets: good.targets.map { $0 % 2 })
    #expect(refusal(words) == "mope: token id 99 lies outside the vocabulary of 29")
    let long = PairSet(
      task: .zeroShot, pixels: good.pixels, texts: [[1, 28], [Int32](repeating: 2, count: 10)],
      candidates: [[0], [1]], targets: good.targets.map { $0 % 2 })
    #expect(refusal(long) == "mope: a text has 10 tokens, expected 1 to 9")
  }
}
