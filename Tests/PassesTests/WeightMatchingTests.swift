import GraphIR
import Passes
import TensorCore
import TestSupport
import Testing

/// The laws of permutations: no change of the function, and a permuted copy is found out.
@Suite struct WeightMatchingTests {
  private func extents(_ seed: UInt64) -> RandomCLIP {
    var extents = RandomCLIP()
    extents.usesQuickGELU = seed % 2 == 0
    return extents
  }

  @Test(arguments: UInt64(0)..<6)
  func permutedModelsComputeTheSame(_ seed: UInt64) throws {
    let graph = try extents(seed).graph(seed: seed)
    let groups = graph.permutableGroups()
    #expect(groups.count == 10)
    #expect(groups.prefix(2).allSatisfy { $0.group.kind == .width })
    #expect(groups.allSatisfy { $0.permutesWithin == ($0.group.kind == .heads) })
    let permuted = try graph.shuffled(seed: seed + 50)
    #expect(permuted.largestParameterDifference(to: graph) > 0.5)
    let inputs = extents(seed).inputs(seed: seed, items: 3)
    #expect(try difference(of: graph, to: permuted, inputs) <= 1e-5)
  }

  /// What the test above could not tell: channels of heads that move on one side alone do change
  /// the function.
  @Test func ordersThatAreNone() throws {
    let graph = try extents(0).graph(seed: 3)
    let group = try #require(graph.permutableGroups().first { $0.group.kind == .heads })
    let still = Array(0..<group.channelCount)
    let crossing =
      [group.group.unit] + still[1..<group.group.unit] + [0]
      + still[(group.group.unit + 1)...]
    let order = ChannelOrder(
      units: Array(0..<group.group.unitCount), scores: crossing, others: still)
    let inputs = extents(0).inputs(seed: 1)
    let changed = try graph.permuting(group, by: order)
    #expect(try difference(of: graph, to: changed, inputs) > 1e-3)
  }

  @Test(arguments: UInt64(0)..<8)
  func permutedCopiesMergeToTheModel(_ seed: UInt64) throws {
    let graph = try extents(seed).graph(seed: seed)
    let permuted = try graph.shuffled(seed: seed + 9)
    let matching = try WeightMatching(permuted, to: graph, in: PassContext(seed: seed))
    #expect(matching.graph.largestParameterDifference(to: graph) == 0)
    #expect(matching.rows.allSatisfy { abs($0.cosineAfter - 1) < 1e-9 })
    #expect(matching.rows.contains { $0.moved > 0 && $0.cosineBefore < 0.9 })
    let merged = try Merging.average([graph, matching.graph])
    let inputs = extents(seed).inputs(seed: seed)
    #expect(try difference(of: graph, to: merged, inputs) <= 1e-5)
  }

  @Test(arguments: UInt64(0)..<4)
  func disturbedCopiesAreFoundTooAndNothingElseMoves(_ seed: UInt64) throws {
    let graph = try extents(seed).graph(seed: seed)
    let near = try graph.disturbed(seed: seed + 1)
    let same = try WeightMatching(near, to: graph, in: PassContext())
    #expect(same.graph.largestParameterDifference(to: near) == 0)
    #expect(same.rows.allSatisfy { $0.moved == 0 })
    let found = try WeightMatching(
      try near.shuffled(seed: seed + 2), to: graph, in: PassContext(seed: seed))
    #expect(found.graph.largestParameterDifference(to: near) == 0)
    let inputs = extents(seed).inputs(seed: seed)
    #expect(try difference(of: near, to: found.graph, inputs) <= 1e-5)
  }

  /// Models that have nothing in common: products of weights never fall, the function stays.
  @Test(arguments: UInt64(0)..<3)
  func strangersComeNearer(_ seed: UInt64) throws {
    let first = try extents(0).graph(seed: seed)
    let second = try extents(0).graph(seed: seed + 40)
    let matching = try WeightMatching(second, to: first, in: PassContext(seed: 3))
    func product(_ graph: Graph) -> Double {
      first.parameterValues.reduce(0) { sum, value in
        let own = first.parameter(value)?.tensor.elements(of: Float.self) ?? []
        let theirs = graph.parameter(value)?.tensor.elements(of: Float.self) ?? []
        return sum + zip(own, theirs).reduce(0) { $0 + Double($1.0) * Double($1.1) }
      }
    }
    #expect(product(matching.graph) > product(second) + 1)
    let inputs = extents(0).inputs(seed: seed)
    #expect(try difference(of: second, to: matching.graph, inputs) <= 1e-5)
    // Where it ends, it stays.
    let again = try WeightMatching(matching.graph, to: first, in: PassContext(seed: 3))
    #expect(product(again.graph) >= product(matching.graph) - 1e-6)
    let repeated = try WeightMatching(second, to: first, in: PassContext(seed: 3))
    #expect(repeated.graph.largestParameterDifference(to: matching.graph) == 0)
  }

  @Test func weightsBeyondFloat32AreRefused() throws {
    let graph = try extents(0).graph(seed: 1).changingElements { name, elements in
      if name == "text.token_embedding" { elements[3] = 3e38 }
    }
    #expect(throws: PassError.self) { try WeightMatching(graph, to: graph, in: PassContext()) }
  }
}
