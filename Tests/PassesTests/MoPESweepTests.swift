import GraphIR
import Passes
import TensorCore
import TestSupport
import Testing

/// Modules taken out one at a time against models that lack them.
@Suite struct MoPESweepTests {
  private let graph: Graph

  init() throws { graph = try RandomCLIP().graph(seed: 12) }

  /// Every head, halves of every layer's neurons, branches and layers.
  private func modules(of graph: Graph) -> [PrunedModule] {
    var modules: [PrunedModule] = []
    for tower in Tower.allCases {
      let members = graph.values(of: tower)
      for group in graph.unitGroups where members.contains(group.members[0].parameter) {
        let sets: [Set<Int>] =
          group.kind == .heads
          ? (0..<group.unitCount).map { [$0] }
          : [0, 1].map { part in Set((0..<group.unitCount).filter { $0 % 2 == part }) }
        for (number, units) in (sets + [Set(0..<group.unitCount)]).enumerated() {
          modules.append(
            PrunedModule(
              name: "\(group.name) \(number)", tower: tower,
              removals: [UnitRemoval(group: group, units: units)]))
        }
      }
      for layer in graph.prunableLayers(of: [tower]) {
        modules.append(
          PrunedModule(name: layer.name, tower: tower, removals: layer.removals))
      }
    }
    return modules
  }

  @Test(arguments: [PairSet.Task.zeroShot, .retrieval])
  func scoresAreThoseOfMaskedAndOfSmallerModels(_ task: PairSet.Task) throws {
    let pairs = randomPairs(task)
    let scorer = try PairScorer(pairs, of: graph, threadCount: 1)
    let modules = modules(of: graph)
    let found = try MoPESweep(scorer).scores(without: modules, context: pairContext(pairs))
    for (module, score) in zip(modules, found) {
      let masked = try scorer.score(of: graph.masking(module.removals))
      let smaller = try scorer.score(of: graph.removing(module.removals))
      #expect(abs(score.loss - masked.loss) <= 1e-5 * max(1, masked.loss), "\(module.name)")
      #expect(abs(score.loss - smaller.loss) <= 1e-5 * max(1, smaller.loss), "\(module.name)")
      #expect(score.quality == masked.quality && score.quality == smaller.quality)
      #expect(abs(score.loss - scorer.dense.loss) > 2e-5, "\(module.name)")
    }
  }

  /// What adds nothing changes no bit, wherever it stands.
  @Test func modulesThatAddNothingAreWorthNothing() throws {
    var silent = graph
    let heads = ["image.layers.0": 8, "image.layers.1": 8, "text.layers.0": 8, "text.layers.1": 8]
    for (layer, width) in heads {
      silent = try silent.changing(layer + ".attention.output.weight") { _, column, element in
        column / width == 1 ? 0 : element
      }
      silent = try silent.changing(layer + ".mlp.fc2.weight") { _, column, element in
        column % 4 == 3 ? 0 : element
      }
    }
    let pairs = randomPairs(.retrieval)
    let scorer = try PairScorer(pairs, of: silent, threadCount: 2)
    var modules: [PrunedModule] = []
    for tower in Tower.allCases {
      let members = silent.values(of: tower)
      for group in silent.unitGroups where members.contains(group.members[0].parameter) {
        let units = group.kind == .heads ? [1] : Set((0..<group.unitCount).filter { $0 % 4 == 3 })
        modules.append(
          PrunedModule(
            name: group.name, tower: tower, removals: [UnitRemoval(group: group, units: units)]))
      }
    }
    #expect(modules.count == 8)
    let found = try MoPESweep(scorer).scores(
      without: modules, context: pairContext(pairs, threadCount: 2))
    for score in found { #expect(score == scorer.dense) }
  }

  /// What is kept of the activations changes when they are computed, not what they are.
  @Test func memoryChangesNoBit() throws {
    let pairs = randomPairs(.zeroShot, images: 70)
    let scorer = try PairScorer(pairs, of: graph, threadCount: 2)
    let modules = modules(of: graph)
    let context = pairContext(pairs, threadCount: 2)
    let plain = try MoPESweep(scorer).scores(without: modules, context: context)
    for budget in [0, 1 << 16] {
      var sweep = MoPESweep(scorer)
      sweep.memoryBudget = budget
      #expect(try sweep.scores(without: modules, context: context) == plain)
    }
    let reversed = try MoPESweep(scorer).scores(without: modules.reversed(), context: context)
    #expect(reversed.reversed() == plain)
  }

  @Test func aCutOffSweepGoesOnWhereItWas() throws {
    let pairs = randomPairs(.retrieval)
    let scorer = try PairScorer(pairs, of: graph, threadCount: 1)
    let modules = modules(of: graph)
    let plain = try MoPESweep(scorer).scores(without: modules, context: pairContext(pairs))
    let records = MemoryRecords()
    records.most = 5
    #expect(throws: PassError.self) {
      try MoPESweep(scorer).scores(
        without: modules, context: pairContext(pairs, records: records))
    }
    #expect(records.values.count == 5)
    records.most = .max
    var steps: [Int] = []
    let resumed = try MoPESweep(scorer).scores(
      without: modules,
      context: pairContext(pairs, records: records) { event in
        if case .progress(_, let done, _) = event { steps.append(done) }
      })
    #expect(resumed == plain)
    #expect(steps == Array(6...modules.count))
    // Records of another model are of no use.
    let other = try graph.changing("text.layers.0.mlp.fc1.bias") { _, _, element in element + 1 }
    let again = try PairScorer(pairs, of: other, threadCount: 1)
    let expected = try MoPESweep(again).scores(without: modules, context: pairContext(pairs))
    #expect(
      try MoPESweep(again).scores(
        without: modules, context: pairContext(pairs, records: records)) == expected)
    #expect(expected != plain)
  }

  @Test func modulesWithoutAnythingAreTheWholeModel() throws {
    let pairs = randomPairs(.zeroShot)
    let scorer = try PairScorer(pairs, of: graph, threadCount: 1)
    let nothing = PrunedModule(name: "nothing", tower: .text, removals: [])
    let empty = PrunedModule(
      name: "no units", tower: .image,
      removals: [UnitRemoval(group: graph.unitGroups[0], units: [])])
    let found = try MoPESweep(scorer).scores(
      without: [nothing, empty], context: pairContext(pairs))
    #expect(found == [scorer.dense, scorer.dense])
  }

  @Test func widthIsNoModule() throws {
    let pairs = randomPairs(.zeroShot)
    let scorer = try PairScorer(pairs, of: graph, threadCount: 1)
    let width = try #require(graph.dependencyGroups().first { $0.kind == .width })
    let module = PrunedModule(
      name: "width", tower: .image, removals: [UnitRemoval(group: width, units: [0])])
    #expect(throws: PassError.self) {
      try MoPESweep(scorer).scores(without: [module], context: pairContext(pairs))
    }
  }
}
