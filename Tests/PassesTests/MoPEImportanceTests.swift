import GraphIR
import Passes
import TensorCore
import TestSupport
import Testing

/// Importances of units and layers, by what is measured without them and by gradients.
@Suite struct MoPEImportanceTests {
  private let graph: Graph
  private let pairs = randomPairs(.retrieval, images: 12)

  init() throws { graph = try RandomCLIP().graph(seed: 31) }

  /// The gradient of a mask against a difference of losses with the branch's weights scaled.
  @Test(arguments: [PairSet.Task.zeroShot, .retrieval])
  func gradientsOfMasksAreDifferencesOfTheLoss(_ task: PairSet.Task) throws {
    let random = randomPairs(task, images: 12)
    // A part leaves out captions without images, so that here all have one.
    let pairs = PairSet(
      task: task, pixels: random.pixels, texts: random.texts, candidates: random.candidates,
      targets: (0..<12).map { $0 % random.candidates.count })
    let scorer = try PairScorer(pairs, of: graph, threadCount: 1)
    let groups = graph.unitGroups
    let found = try UnitGradients(
      of: groups, scorer, partSize: pairs.imageCount, context: pairContext(pairs))
    for (group, parts) in zip(groups, found.values) {
      let member = try #require(group.members.first { $0.axis == 1 })
      let name = graph.name(of: member.parameter)
      let unit = group.unitCount - 1
      func loss(_ factor: Float) throws -> Double {
        let scaled = try graph.changing(name) { _, column, element in
          column / group.unit == unit ? element * factor : element
        }
        return try scorer.score(of: scaled).loss
      }
      let step: Float = 1 / 64
      let difference = (try loss(1 + step) - loss(1 - step)) / Double(2 * step)
      #expect(parts.count == 1)
      #expect(abs(parts[0][unit] - difference) < 2e-3 * max(1, abs(difference)), "\(group.name)")
    }
  }

  /// Parts are told apart by themselves, and each is squared before they are averaged.
  @Test func fisherIsTheMeanOverPartsOfSquares() throws {
    let scorer = try PairScorer(pairs, of: graph, threadCount: 1)
    let groups = graph.unitGroups
    let parts = try UnitGradients(
      of: groups, scorer, partSize: 6, context: pairContext(pairs))
    var mean = groups.map { [Double](repeating: 0, count: $0.unitCount) }
    for part in 0..<2 {
      let images = Array(stride(from: part, to: 12, by: 2))
      let texts = Set(images.map { pairs.targets[$0] }).sorted()
      let set = PairSet(
        task: .retrieval, pixels: pairs.pixels.selecting(images, onAxis: 0),
        texts: texts.map { pairs.texts[$0] }, candidates: texts.indices.map { [$0] },
        targets: images.compactMap { texts.firstIndex(of: pairs.targets[$0]) })
      let own = try UnitGradients(
        of: groups, PairScorer(set, of: graph, threadCount: 1), partSize: 6,
        context: pairContext(set))
      for (group, values) in own.values.enumerated() {
        for (unit, value) in values[0].enumerated() { mean[group][unit] += value * value / 2 }
      }
    }
    for (found, expected) in zip(parts.squares(), mean) {
      for (found, expected) in zip(found, expected) {
        #expect(abs(found - expected) <= 1e-4 * max(expected, 1e-6))
      }
    }
  }

  /// What is measured of a group is shared out among its units, and heads get their own.
  @Test(arguments: [true, false], MoPEImportance.Metric.allCases)
  func sharesAddUpToWhatWasMeasured(
    isPerParameter: Bool, metric: MoPEImportance.Metric
  ) throws {
    var options = MoPEImportance.Options()
    options.neuronGroups = 4
    options.isPerParameter = isPerParameter
    options.metric = metric
    let groups = graph.unitGroups
    let found = try MoPEImportance(options: options).importances(
      of: groups, in: graph, context: pairContext(pairs))
    let fisher = try FirstOrderImportance(.fisher).importances(
      of: groups, in: graph, context: pairContext(pairs))
    let dense = try PairScorer(pairs, of: graph, threadCount: 1)
    for (index, group) in groups.enumerated() {
      let order = fisher[index].indices.sorted { fisher[index][$0] < fisher[index][$1] }
      let count = group.kind == .heads ? group.unitCount : 4
      let size = group.unitCount / count
      for part in 0..<count {
        let units =
          group.kind == .heads ? [part] : Array(order[(part * size)..<((part + 1) * size)])
        let score = try dense.score(
          of: graph.masking([UnitRemoval(group: group, units: Set(units))]))
        var decline = decline(metric, score, dense.dense)
        if isPerParameter { decline /= Double(group.parameterCountPerUnit(in: graph)) }
        let sum = units.map { found[index][$0] }.reduce(0, +)
        #expect(abs(sum - decline) < 5e-5, "\(group.name) \(part)")
        // Within a group, the gradient decides.
        for (lower, upper) in zip(units, units.dropFirst()) {
          #expect(found[index][lower] <= found[index][upper])
        }
      }
    }
    // Some modules of a random model are better out: the sign stays.
    #expect(found.joined().contains { $0 < 0 } == (metric != .agreement))
  }

  private func decline(
    _ metric: MoPEImportance.Metric, _ score: PairScore, _ dense: PairScore
  ) -> Double {
    switch metric {
    case .value: dense.quality - score.quality + (score.loss - dense.loss) / 10
    case .loss: score.loss - dense.loss
    case .agreement: score.divergence
    }
  }

  /// The order of a layer's neurons is of no consequence: a permutation permutes importances.
  @Test func permutedNeuronsKeepTheirImportances() throws {
    let layer = "image.layers.0.mlp."
    let count = RandomCLIP().imageNeurons
    let order = (0..<count).map { $0 * 7 % count }
    var permuted = graph
    for (name, axis) in [("fc1.weight", 0), ("fc1.bias", 0), ("fc2.weight", 1)] {
      let value = try #require(graph.value(named: layer + name))
      let tensor = try #require(graph.parameter(value)).tensor
      try permuted.setParameter(value, Parameter(tensor.selecting(order, onAxis: axis)))
    }
    let scorer = try PairScorer(pairs, of: graph, threadCount: 1)
    #expect(abs(try scorer.score(of: permuted).loss - scorer.dense.loss) < 1e-5)
    let groups = graph.unitGroups
    let place = try #require(groups.firstIndex { $0.name == "image.layers.0.mlp" })
    let plain = try MoPEImportance().importances(
      of: groups, in: graph, context: pairContext(pairs))
    let other = try MoPEImportance().importances(
      of: groups, in: permuted, context: pairContext(pairs))
    let largest = plain[place].map { abs($0) }.max() ?? 0
    for (new, old) in order.enumerated() {
      #expect(abs(other[place][new] - plain[place][old]) < 1e-3 * largest)
    }
  }

  @Test func layersAreWorthWhatGoesWithThem() throws {
    let scorer = try PairScorer(pairs, of: graph, threadCount: 1)
    let layers = graph.prunableLayers(of: [.image, .text])
    var options = MoPEImportance.Options()
    options.isPerParameter = false
    options.metric = .loss
    let found = try MoPEImportance(options: options).importances(
      ofLayers: layers, in: graph, context: pairContext(pairs))
    #expect(layers.count == 4)
    for (layer, importance) in zip(layers, found) {
      let smaller = try FoldEmptyBranches().run(
        on: graph.removing(layer.removals), in: PassContext())
      let decline = try scorer.score(of: smaller).loss - scorer.dense.loss
      #expect(abs(importance - decline) < 1e-5 * max(1, abs(decline)))
    }
  }

  /// What cannot be measured is not to be touched.
  @Test func whatIsNoNumberIsWorthEverything() throws {
    let broken = try graph.changing("logit_scale") { _, _, _ in .nan }
    let groups = broken.unitGroups
    let found = try MoPEImportance().importances(
      of: groups, in: broken, context: pairContext(pairs))
    #expect(found.joined().allSatisfy { $0 == .infinity })
  }

  @Test func dataIsNeeded() {
    #expect(throws: PassError.self) {
      try MoPEImportance().importances(of: graph.unitGroups, in: graph, context: PassContext())
    }
  }

  @Test func resumedImportancesAreTheSame() throws {
    let records = MemoryRecords()
    let groups = graph.unitGroups
    let plain = try MoPEImportance().importances(
      of: groups, in: graph, context: pairContext(pairs))
    records.most = groups.count + 7
    #expect(throws: PassError.self) {
      try MoPEImportance().importances(
        of: groups, in: graph, context: pairContext(pairs, records: records))
    }
    records.most = .max
    #expect(
      try MoPEImportance().importances(
        of: groups, in: graph, context: pairContext(pairs, records: records)) == plain)
  }
}
