import Execution
import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport
import Testing

/// Masks learned for a task over frozen weights.
@Suite struct MaskTuningTests {
  let extents = RandomCLIP()
  let graph: Graph
  let pairs: PairSet
  let weights: [Value]

  init() throws {
    graph = try extents.graph(seed: 3)
    weights = graph.prunableWeights(of: [.image])
    var random = SplitMix64(seed: 8)
    let texts = (0..<6).map { _ in
      (0..<5).map { _ in Int32(random.nextIndex(below: 27)) } + [28]
    }
    pairs = PairSet(
      task: .zeroShot,
      pixels: extents.inputs(seed: 4, items: 12)["pixel_values"] ?? Tensor(scalar: 0),
      texts: texts, candidates: [[0, 1], [2], [3, 4, 5]], targets: (0..<12).map { $0 % 3 })
  }

  func context(_ pairs: PairSet? = nil, seed: UInt64 = 0) -> PassContext {
    let lent = pairs ?? self.pairs
    return PassContext(seed: seed, threadCount: 2, pairs: { lent })
  }

  func tuned(
    _ change: (inout MaskTuning.Options) -> Void, in graph: Graph? = nil
  ) throws -> [Value: [UInt8]] {
    var options = MaskTuning.Options()
    options.batch = 12
    change(&options)
    return try MaskTuning(options).masks(for: weights, in: graph ?? self.graph, context: context())
      .mapValues { $0.elements(of: UInt8.self) }
  }

  /// The mean cross entropy of the images' candidates, in float64 and in plain loops.
  func crossEntropy(_ graph: Graph) throws -> Double {
    var inputs = ["pixel_values": pairs.pixels]
    inputs["input_ids"] = pairs.tokenIDs(of: pairs.texts.indices)
    let results = try Executor(graph, arithmetic: .float64).run(inputs)
    let images = try #require(results["image_embeds"]).elements(of: Double.self)
    let texts = try #require(results["text_embeds"]).elements(of: Double.self)
    let width = extents.projection
    let classes = pairs.candidates.map { members -> [Double] in
      let sum = (0..<width).map { k in members.reduce(0) { $0 + texts[$1 * width + k] } }
      let norm = sum.reduce(0) { $0 + $1 * $1 }.squareRoot()
      return sum.map { $0 / norm }
    }
    var loss = 0.0
    for (image, target) in pairs.targets.enumerated() {
      let logits = classes.map { row in
        (0..<width).reduce(0) { $0 + row[$1] * images[image * width + $1] } * Double.exp(2.6)
      }
      loss -= logits[target] - Double.log(logits.reduce(0) { $0 + Double.exp($1) })
    }
    return loss / Double(pairs.imageCount)
  }

  @Test func probabilityIsThatOfTheFormula() {
    for (a, b) in [(2.0, 1.0), (0.3, 5), (-1, -4), (-0.2, -0.1)] {
      #expect(abs(GradientDropout.keepProbability(task: a, divergence: b) - 1) < 1e-6)
    }
    for (a, b) in [(2.0, -1.0), (-0.3, 5), (1, -4), (-0.2, 0.1)] {
      let wanted = abs(a) / (abs(a) + abs(b))
      #expect(abs(GradientDropout.keepProbability(task: a, divergence: b) - wanted) < 1e-6)
    }
    #expect(GradientDropout.keepProbability(task: 0, divergence: 1) == 0.5)
    var random = SplitMix64(seed: 1)
    let used = (0..<20_000).map { _ in
      GradientDropout.used(task: 1, divergence: -3, level: 0.3, uniform: random.nextUniform())
    }
    #expect(Set(used) == [1, 0.7])
    #expect(
      abs(Double(used.count { $0 == 1 }) / 20_000 - 0.25) < 4 * (0.1875 / 20_000).squareRoot())
  }

  @Test func beginsWithAllOnes() throws {
    let masks = try tuned {
      $0.steps = 3
      $0.rate = 1e-12
    }
    #expect(Set(masks.keys) == Set(weights))
    #expect(masks.values.allSatisfy { $0.allSatisfy { $0 == 1 } })
  }

  @Test func firstStepGoesAgainstTheGradientOfDifferences() throws {
    // Adam's first step is the rate against the sign, here past the threshold.
    let masks = try tuned {
      $0.steps = 1
      $0.rate = 6e-3
      $0.prior = 0
      $0.dropout = 0
    }
    var random = SplitMix64(seed: 6)
    var checked = 0
    for weight in weights {
      let old = try #require(graph.parameter(weight)).tensor
      for _ in 0..<4 {
        let place = random.nextIndex(below: old.count)
        func changed(_ factor: Float) throws -> Double {
          var elements = old.elements(of: Float.self)
          elements[place] *= factor
          var graph = graph
          try graph.setParameter(weight, Parameter(Tensor(shape: old.shape, elements)))
          return try crossEntropy(graph)
        }
        let slope = (try changed(1.015625) - changed(0.984375)) / 0.03125
        guard abs(slope) > 3e-5 else { continue }
        checked += 1
        #expect(masks[weight]?[place] == (slope > 0 ? 0 : 1), "\(graph.name(of: weight)) \(slope)")
      }
    }
    #expect(checked > 20)
  }

  @Test func learnedMasksLowerTheLoss() throws {
    let masks = try tuned {
      $0.steps = 40
      $0.rate = 1e-3
    }
    var masked = graph
    for (weight, mask) in masks {
      let old = try #require(graph.parameter(weight))
      try masked.setParameter(
        weight, Parameter(old.tensor, mask: Tensor(shape: old.tensor.shape, mask)))
    }
    let zeros = masks.values.reduce(0) { $0 + $1.count { $0 == 0 } }
    #expect(zeros > 0)
    #expect(try crossEntropy(masked) < crossEntropy(graph) * 0.8)
  }

  @Test(arguments: PruningScope.allCases)
  func sparsityIsExact(_ scope: PruningScope) throws {
    for sparsity in [0, 0.37, 0.9] {
      let masks = try tuned {
        $0.steps = 5
        $0.sparsity = sparsity
        $0.scope = scope
      }
      let zeros = weights.map { weight in masks[weight]?.count { $0 == 0 } ?? -1 }
      let counts = weights.map { graph.parameter($0)?.tensor.count ?? 0 }
      if scope == .layer {
        #expect(zeros == counts.map { Int((sparsity * Double($0)).rounded(.down)) })
      } else {
        let total = counts.reduce(0, +)
        #expect(zeros.reduce(0, +) == Int((sparsity * Double(total)).rounded(.down)))
      }
    }
  }

  @Test func sameSeedSameMasksAndWhatIsHiddenStaysHidden() throws {
    var pruned = graph
    let hidden = try WeightMasks(RandomImportance(seed: 2)).perLayer(
      weights, in: graph, sparsity: 0.2)
    for (weight, mask) in hidden {
      let tensor = try #require(graph.parameter(weight)).tensor
      try pruned.setParameter(weight, Parameter(tensor, mask: mask))
    }
    for sparsity in [nil, 0.5] {
      let change: (inout MaskTuning.Options) -> Void = {
        $0.steps = 6
        $0.batch = 5
        $0.rate = 1e-3
        $0.sparsity = sparsity
      }
      let (first, second) = (try tuned(change, in: pruned), try tuned(change, in: pruned))
      #expect(first == second)
      for (weight, mask) in hidden {
        let old = mask.elements(of: UInt8.self)
        let new = try #require(first[weight])
        #expect(zip(old, new).allSatisfy { $0 == 1 || $1 == 0 })
      }
      guard sparsity != nil else { continue }
      let zeros = first.values.reduce(0) { $0 + $1.count { $0 == 0 } }
      let total = first.values.reduce(0) { $0 + $1.count }
      #expect(zeros == Int((0.5 * Double(total)).rounded(.down)))
    }
  }

  @Test func refusalsSayWhat() throws {
    func message(
      _ weights: [Value], _ context: PassContext,
      _ change: (inout MaskTuning.Options) -> Void = { _ in }
    ) -> String {
      var options = MaskTuning.Options()
      change(&options)
      do {
        _ = try MaskTuning(options).masks(for: weights, in: graph, context: context)
        return "nothing"
      } catch { return "\(error)" }
    }
    #expect(message(weights, PassContext()).contains("needs calibration data"))
    #expect(
      message(graph.prunableWeights(of: [.text]), context()).contains("image tower"))
    let one = PairSet(
      task: .zeroShot, pixels: pairs.pixels, texts: pairs.texts, candidates: pairs.candidates,
      targets: [Int](repeating: 1, count: 12))
    #expect(message(weights, context(one)).contains("belong to one text"))
    #expect(message(weights, context()) { $0.sparsity = 1 }.contains("sparsity must be"))
    #expect(message(weights, context()) { $0.rate = 0 }.contains("rate must be positive"))
    #expect(message(weights, context()) { $0.steps = 0 }.contains("steps must be positive"))
  }
}
