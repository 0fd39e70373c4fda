import GraphIR
import Operators
import TensorCore

/// Puts the units of one model beside those of another that have the most similar weights.
///
/// Coordinate descent: the order of one group's channels after the other's is the exact solution of
/// an assignment problem while the others stay; no step makes the sum of products of the weights of
/// both models smaller. The first round compares only weights whose other axes are in order
/// already, which finds the order of a permuted copy from what no permutation touches, such as
/// pixels, positions and the vocabulary.
///
/// - Source: Ainsworth, Hayase and Srinivasa, "Git Re-Basin: Merging Models modulo Permutation
///   Symmetries", ICLR 2023, arXiv:2209.04836.
package struct WeightMatching: Sendable {
  /// What became of one group.
  package struct Row: Codable, Sendable {
    /// What the names of the group's parameters begin with.
    package let group: String
    /// `heads`, `neurons` or `width`.
    package let kind: String
    /// How many units there are.
    package let units: Int
    /// How many of them were put elsewhere.
    package let moved: Int
    /// The cosine of both models' weights of the group as they came.
    package let cosineBefore: Double
    /// The same as they stand now.
    package let cosineAfter: Double
  }

  /// The other model with its units in the order of the first.
  package let graph: Graph
  /// The groups.
  package let rows: [Row]
  /// How many rounds over all groups it took.
  package let sweepCount: Int

  /// At most so many rounds.
  private static let sweepLimit = 100

  /// Matches `other` to `first`, of one architecture.
  ///
  /// - Parameters:
  ///   - other: the graph whose units move.
  ///   - first: the graph that stays.
  ///   - context: lends seed and threads; told of progress.
  /// - Throws: ``PassError`` when products of weights exceed float32, or the matrix library is absent.
  package init(
    _ other: Graph, to first: Graph, in context: borrowing PassContext
  ) throws(PassError) {
    do { try Matrix.open() } catch { throw .calibration(error) }
    let groups = first.permutableGroups()
    let start = try Merging.restated(other, as: first)
    var state = MatchingState(
      first: first, other: start, groups: groups,
      threadCount: context.threadCount)
    var random = SplitMix64(seed: context.seed)
    var sweeps = 0
    for sweep in 0..<Self.sweepLimit {
      var order = Array(groups.indices)
      if sweep > 0 { order.shuffle(using: &random) }
      var hasGained = false
      for (place, index) in order.enumerated() {
        let known = sweep == 0 ? Set(order[..<place]) : Set(order)
        if try state.improve(index, known: known) { hasGained = true }
        context.report(
          .progress(stage: "matching", done: sweep * groups.count + place + 1, total: 0))
      }
      sweeps += 1
      // The first round has not compared everything yet.
      if !hasGained, sweep > 0 { break }
    }
    graph = state.other
    sweepCount = sweeps
    rows = groups.indices.map { index in
      let group = groups[index].group
      return Row(
        group: group.name, kind: group.kind.rawValue, units: group.unitCount,
        moved: state.units[index].enumerated().count { $0.offset != $0.element },
        cosineBefore: cosine(group, first, start), cosineAfter: cosine(group, first, state.other))
    }
  }
}

/// A model on its way into the order of another.
private struct MatchingState {
  let first: Graph
  var other: Graph
  let groups: [PermutableGroup]
  /// For each group where its units came from.
  var units: [[Int]]
  let threadCount: Int
  private let groupsOfParameter: [Value: [Int]]

  init(first: Graph, other: Graph, groups: [PermutableGroup], threadCount: Int) {
    self.first = first
    self.other = other
    self.groups = groups
    self.threadCount = threadCount
    units = groups.map { Array(0..<$0.group.unitCount) }
    var owners: [Value: [Int]] = [:]
    for (index, group) in groups.enumerated() {
      for member in group.group.members { owners[member.parameter, default: []].append(index) }
    }
    groupsOfParameter = owners
  }

  /// Puts group `index` into its best order, by the weights on whose other axes are `known` groups
  /// or none; whether that was a gain.
  mutating func improve(_ index: Int, known: Set<Int>) throws(PassError) -> Bool {
    let group = groups[index]
    func similarity(_ members: [DependencyGroup.Member]) throws(PassError) -> ChannelSimilarity {
      var result = ChannelSimilarity(count: group.channelCount)
      for member in members {
        let touching = groupsOfParameter[member.parameter, default: []]
        guard touching.allSatisfy({ $0 == index || known.contains($0) }),
          let own = first.parameter(member.parameter)?.tensor,
          let theirs = other.parameter(member.parameter)?.tensor
        else { continue }
        result.add(own, theirs, axis: member.axis, threadCount: threadCount)
      }
      guard result.isFinite else {
        throw .unsuitable(
          pass: Merging.name,
          "the products of the weights of \(group.group.name) exceed the numbers of float32")
      }
      return result
    }
    let match = ChannelMatch(
      group, scores: try similarity(group.scores), others: try similarity(group.others))
    guard match.isGain else { return false }
    do { other = try other.permuting(group, by: match.order) } catch {
      throw .graph(pass: Merging.name, error)
    }
    units[index] = match.order.units.map { units[index][$0] }
    return true
  }
}

/// The cosine of the weights of `group` in two graphs of one architecture.
private func cosine(_ group: DependencyGroup, _ first: Graph, _ other: Graph) -> Double {
  var (product, own, theirs) = (0.0, 0.0, 0.0)
  for parameter in Set(group.members.map(\.parameter)).sorted(by: { $0.index < $1.index }) {
    guard let a = first.parameter(parameter)?.tensor,
      let b = other.parameter(parameter)?.tensor
    else { continue }
    a.withElements(of: Float.self) { a in
      b.withElements(of: Float.self) { b in
        for index in a.indices {
          product += Double(a[index]) * Double(b[index])
          own += Double(a[index]) * Double(a[index])
          theirs += Double(b[index]) * Double(b[index])
        }
      }
    }
  }
  return own > 0 && theirs > 0 ? product / (own * theirs).squareRoot() : 0
}
