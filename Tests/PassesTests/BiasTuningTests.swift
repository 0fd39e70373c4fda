import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport
import Testing

@Suite struct BiasTuningTests {
  private let graph: Graph
  private let quantized: Graph
  private let pairs: PairSet

  init() throws {
    graph = try RandomCLIP().graph(seed: 81)
    var quantized = graph
    for value in graph.multipliedWeights {
      guard let parameter = graph.parameter(value) else { continue }
      try quantized.setParameter(
        value, try WeightQuantizer(bitCount: 2).quantize(parameter, named: "w"))
    }
    self.quantized = quantized
    var random = SplitMix64(seed: 4)
    let extents = RandomCLIP()
    let texts = (0..<40).map { index in
      (0..<(3 + index % 4)).map { _ in Int32(random.nextIndex(below: extents.vocabulary - 1)) }
        + [Int32(extents.vocabulary - 1)]
    }
    pairs = PairSet(
      task: .zeroShot, pixels: random.normalTensor([60, 3, extents.imageSize, extents.imageSize]),
      texts: texts, candidates: [[0, 1, 2], [3], [4, 5], Array(6..<40)],
      targets: (0..<60).map { $0 % 4 })
  }

  private func options(_ change: (inout BiasTuning.Options) -> Void = { _ in })
    -> BiasTuning.Options
  {
    var options = BiasTuning.Options()
    options.steps = 60
    options.batch = 16
    options.rate = 5e-3
    change(&options)
    return options
  }

  @Test func distributionsComeCloserAndCodesStay() throws {
    let tuned = try BiasTuning(options: options()).run(
      on: quantized, like: graph, in: pairContext(pairs, threadCount: 2))
    #expect(tuned.rows.map(\.tower) == [.image, .text])
    #expect(tuned.rows[0].after < 0.8 * tuned.rows[0].before)
    #expect(tuned.rows[1].after <= tuned.rows[1].before)
    let scorer = try PairScorer(pairs, of: graph, threadCount: 2)
    let (before, after) = (
      try scorer.score(of: quantized).divergence, try scorer.score(of: tuned.graph).divergence
    )
    #expect(after < before)
    var changed: [String] = []
    for value in quantized.parameterValues
    where quantized.parameter(value) != tuned.graph.parameter(value) {
      changed.append(quantized.name(of: value))
    }
    #expect(!changed.isEmpty)
    #expect(changed.allSatisfy { $0.hasSuffix(".bias") || $0.contains("norm") })
  }

  @Test func divergencesAreThoseOfTheDefinition() throws {
    let row = try BiasTuning(options: options { $0.steps = 1 }).run(
      on: quantized, like: graph, in: pairContext(pairs)
    ).rows[0]
    // Held out are twelve of sixty images, evenly taken.
    let images = try [graph, quantized].map { model in
      try float64(
        try model.extracting(outputs: ["image_embeds"]), ["pixel_values": pairs.pixels],
        "image_embeds")
    }
    var classes: [[Double]] = []
    for members in pairs.candidates {
      var sum = [Double](repeating: 0, count: 12)
      for text in members {
        let embedding = try float64(
          try graph.extracting(outputs: ["text_embeds"]),
          ["input_ids": pairs.tokenIDs(of: [text])], "text_embeds")
        for place in 0..<12 { sum[place] += embedding[place] }
      }
      let norm = sum.reduce(0) { $0 + $1 * $1 }.squareRoot()
      classes.append(sum.map { $0 / norm })
    }
    let scale = Double(try #require(graph.logitScale))
    func distribution(_ rows: [Double], _ image: Int) -> [Double] {
      let powers = classes.map { row in
        Double.exp(scale * (0..<12).reduce(0) { $0 + rows[image * 12 + $1] * row[$1] })
      }
      return powers.map { $0 / powers.reduce(0, +) }
    }
    var sum = 0.0
    for image in stride(from: 0, to: 60, by: 5) {
      let (p, q) = (distribution(images[0], image), distribution(images[1], image))
      sum += zip(p, q).reduce(0) { $0 + $1.0 * Double.log($1.0 / $1.1) } / 12
    }
    #expect(abs(row.before - sum) < 1e-4 * sum)
  }

  @Test func whatDoesNotHelpIsUndone() throws {
    let tuned = try BiasTuning(options: options { $0.rate = 10 }).run(
      on: quantized, like: graph, in: pairContext(pairs))
    for row in tuned.rows where row.after == row.before {
      for value in quantized.values(of: row.tower) where quantized.parameter(value) != nil {
        #expect(quantized.parameter(value) == tuned.graph.parameter(value))
      }
    }
    #expect(tuned.rows.contains { $0.after == $0.before })
  }

  @Test func theSameSeedGivesTheSameBits() throws {
    let made = try [1, 2].map { _ in
      try BiasTuning(options: options { $0.steps = 10 }).run(
        on: quantized, like: graph, in: pairContext(pairs))
    }
    #expect(made[0].rows == made[1].rows)
    #expect(throws: PassError.self) {
      try BiasTuning(options: options { $0.steps = 0 }).run(
        on: quantized, like: graph, in: pairContext(pairs))
    }
    #expect(throws: PassError.self) {
      try BiasTuning().run(on: quantized, like: graph, in: PassContext())
    }
    let few = try BiasTuning().run(
      on: quantized, like: graph, in: pairContext(randomPairs(.zeroShot)))
    #expect(few.rows.isEmpty)
  }
}
