import Execution
import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport
import Testing

/// The loss on pairs against loops in float64.
@Suite struct PairLossTests {
  private func embeddings(_ graph: Graph, _ pairs: PairSet) throws -> (
    images: [[Double]], candidates: [[Double]]
  ) {
    let results = try Executor(graph, arithmetic: .float64).run([
      "pixel_values": pairs.pixels, "input_ids": pairs.tokenIDs(of: pairs.texts.indices),
    ])
    func rows(_ name: String) throws -> [[Double]] {
      let tensor = try #require(results[name])
      let elements = tensor.elements(of: Double.self)
      let width = tensor.shape[1]
      return (0..<tensor.shape[0]).map { Array(elements[($0 * width)..<(($0 + 1) * width)]) }
    }
    let texts = try rows("text_embeds")
    let candidates = pairs.candidates.map { own -> [Double] in
      let sum = texts[0].indices.map { k in own.reduce(0.0) { $0 + texts[$1][k] } }
      let length = sum.reduce(0) { $0 + $1 * $1 }.squareRoot()
      return sum.map { $0 / length }
    }
    return (try rows("image_embeds"), candidates)
  }

  private func crossEntropy(_ logits: [[Double]], _ targets: [[Double]]) -> Double {
    let rows = zip(logits, targets).map { logits, targets -> Double in
      let total = Double.log(logits.reduce(0) { $0 + Double.exp($1) })
      return zip(logits, targets).reduce(0) { $0 - $1.1 * ($1.0 - total) }
    }
    return rows.reduce(0, +) / Double(rows.count)
  }

  private func loss(_ graph: Graph, _ pairs: PairSet, part: Int = 0, of parts: Int = 1) throws
    -> Double
  {
    let loss = try PairLoss(graph, task: pairs.task)
    let batch = PairBatch(
      pairs, part: part, of: parts, imageCount: pairs.imageCount, textLimit: 99, turn: 0)
    let name = loss.graph.name(of: loss.loss)
    let result = try Executor(loss.graph, outputs: [name], arithmetic: .float64).run(batch.inputs)
    return try #require(result[name]).elements(of: Double.self)[0]
  }

  @Test func zeroShotLossIsTheCrossEntropyOfAllItsParts() throws {
    let extents = RandomCLIP()
    let graph = try extents.graph(seed: 2)
    let pairs = hessianPairs(extents, images: 7)
    let (images, candidates) = try embeddings(graph, pairs)
    let scale = Double(try #require(graph.logitScale))
    let logits = images.map { image in
      candidates.map { scale * zip(image, $0).reduce(0) { $0 + $1.0 * $1.1 } }
    }
    let targets = pairs.targets.map { target in candidates.indices.map { $0 == target ? 1.0 : 0 } }
    let expected = crossEntropy(logits, targets)
    #expect(abs(try loss(graph, pairs) - expected) <= 1e-6 * expected)
    let parts = try (0..<3).map { part in
      Double((7 - part + 2) / 3) * (try loss(graph, pairs, part: part, of: 3))
    }
    #expect(abs(parts.reduce(0, +) / 7 - expected) <= 1e-6 * expected)
  }

  @Test func captionsHaveSeveralPositivesInBothDirections() throws {
    let extents = RandomCLIP()
    let graph = try extents.graph(seed: 2)
    let pairs = hessianPairs(extents, task: .retrieval, images: 9)
    let (images, candidates) = try embeddings(graph, pairs)
    let used = Set(pairs.targets).sorted()
    #expect(used.count < 9)
    let scale = Double(try #require(graph.logitScale))
    let logits = images.map { image in
      used.map { scale * zip(image, candidates[$0]).reduce(0) { $0 + $1.0 * $1.1 } }
    }
    let targets = pairs.targets.map { target in used.map { $0 == target ? 1.0 : 0 } }
    let columns = used.indices.map { c in logits.map { $0[c] } }
    let reverse = used.indices.map { c -> [Double] in
      let row = targets.map { $0[c] }
      return row.map { $0 / row.reduce(0, +) }
    }
    let expected = (crossEntropy(logits, targets) + crossEntropy(columns, reverse)) / 2
    #expect(abs(try loss(graph, pairs) - expected) <= 1e-6 * expected)
  }

  /// `E[s sᵀ]` over the signs is what the second derivatives by a row's logits are.
  @Test func factorsMultiplyToTheSecondDerivatives() throws {
    let extents = RandomCLIP()
    var batch = PairBatch(
      hessianPairs(extents, images: 2), part: 0, of: 1, imageCount: 2, textLimit: 99, turn: 0)
    batch.distill(Tensor(shape: [2, 3], [Float(0.3), -1, 0.8, 2, 0, 1]))
    let targets = try #require(batch.inputs[PairLoss.targetsName]).elements(of: Float.self)
    var random = SplitMix64(seed: 4)
    let count = 40_000
    var sums = [Double](repeating: 0, count: 36)
    for _ in 0..<count {
      let s = batch.factor(signs: &random).elements(of: Float.self).map(Double.init)
      for i in 0..<6 { for j in 0..<6 { sums[i * 6 + j] += s[i] * s[j] / Double(count) } }
    }
    for i in 0..<6 {
      for j in 0..<6 {
        let (p, q) = (Double(targets[i]), Double(targets[j]))
        // A mean over two images; rows do not meet.
        let expected = i / 3 == j / 3 ? ((i == j ? p : 0) - p * q) / 2 : 0
        #expect(abs(sums[i * 6 + j] - expected) <= 0.005)
      }
    }
  }

  @Test func manyTextsTakeTurns() {
    let extents = RandomCLIP()
    let pairs = hessianPairs(extents)
    let seen = (0..<3).map { turn -> Tensor? in
      let batch = PairBatch(pairs, part: 0, of: 1, imageCount: 12, textLimit: 3, turn: turn)
      #expect(batch.inputs["input_ids"]?.shape[0] == 3)
      return batch.inputs["input_ids"]
    }
    #expect(seen[0] != seen[1])
    #expect(seen[1] != seen[2])
  }
}
