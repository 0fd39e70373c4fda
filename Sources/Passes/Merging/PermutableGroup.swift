import GraphIR
import Operators
import TensorCore

/// Units of a graph that can change places without a change of what the graph computes.
package struct PermutableGroup: Sendable {
  /// The coupled axes.
  package let group: DependencyGroup
  /// The axes on which the products of queries and keys depend, where the channels of a head may
  /// change places too; empty otherwise.
  package let scores: [DependencyGroup.Member]
  /// All other axes.
  package let others: [DependencyGroup.Member]
  /// Whether the channels within a unit may change places, ``scores`` apart from ``others``.
  package let permutesWithin: Bool

  /// How many channels there are.
  package var channelCount: Int { group.unit * group.unitCount }

  /// Whether every order of the channels will do, not of whole units alone.
  package var isFree: Bool { group.unit == 1 }
}

/// Where the channels of a group come from: those of one model in the order of another's.
package struct ChannelOrder: Sendable, Equatable {
  /// For each unit the one that takes its place.
  package var units: [Int]
  /// For each channel of ``PermutableGroup/scores`` the one that takes its place.
  package var scores: [Int]
  /// The same for ``PermutableGroup/others``.
  package var others: [Int]

  /// Moves whole units of `width` channels.
  package init(units: [Int], width: Int) {
    self.units = units
    scores = units.flatMap { ($0 * width)..<(($0 + 1) * width) }
    others = scores
  }

  /// Moves units, and the channels within them on both sides by themselves.
  package init(units: [Int], scores: [Int], others: [Int]) {
    self.units = units
    self.scores = scores
    self.others = others
  }

  /// Whether nothing moves.
  package var isIdentity: Bool {
    scores.indices.allSatisfy { scores[$0] == $0 && others[$0] == $0 }
  }
}

extension Graph {
  /// The groups of units that can change places: heads with their channels, neurons, and the
  /// channels of the residual stream of a tower; those that span a whole tower first.
  ///
  /// - Source: Ainsworth, Hayase and Srinivasa, "Git Re-Basin", ICLR 2023, arXiv:2209.04836.
  package func permutableGroups() -> [PermutableGroup] {
    let consumers = consumers()
    let all = dependencyGroups().filter { group in
      // A parameter with two axes in one group would ask for a quadratic assignment.
      Set(group.members.map(\.parameter)).count == group.members.count
    }
    let ordered = all.filter { $0.kind == .width } + all.filter { $0.kind != .width }
    return ordered.map { group in
      guard group.kind == .heads, let scores = scoreMembers(of: group, consumers) else {
        return PermutableGroup(
          group: group, scores: [], others: group.members, permutesWithin: false)
      }
      return PermutableGroup(
        group: group, scores: scores, others: group.members.filter { !scores.contains($0) },
        permutesWithin: true)
    }
  }

  /// The axes of weights and biases of queries and keys; nil unless the group is that of one
  /// attention and of the linear layers around it, and nothing else sees its channels.
  private func scoreMembers(
    of group: DependencyGroup, _ consumers: [[Int]]
  ) -> [DependencyGroup.Member]? {
    let mixing = nodes.filter { node in
      node.op is Attention && node.inputs.contains { group.values[$0] != nil }
    }
    guard mixing.count == 1, let attention = mixing.first, attention.inputs.count == 3 else {
      return nil
    }
    let known = Set(attention.inputs + attention.outputs)
    guard Set(attention.inputs).count == 3, Set(group.values.keys) == known else { return nil }
    let hidden = attention.inputs.allSatisfy { consumers[Int($0.index)].count == 1 }
    guard hidden, !outputs.contains(where: { known.contains($0.value) }) else { return nil }
    let compared = Set(attention.inputs[..<2])
    var scores: [DependencyGroup.Member] = []
    for member in group.members {
      let readers = consumers[Int(member.parameter.index)]
      guard readers.count == 1, nodes[readers[0]].op is Linear else { return nil }
      if compared.contains(nodes[readers[0]].outputs[0]) { scores.append(member) }
    }
    return scores
  }

  /// The graph with the channels of `group` in another order: it computes the same.
  ///
  /// - Throws: ``GraphError`` when a tensor does not fit its place.
  package func permuting(
    _ group: PermutableGroup, by order: ChannelOrder
  ) throws(GraphError) -> Graph {
    var graph = self
    for (members, indices) in [(group.scores, order.scores), (group.others, order.others)] {
      for member in members {
        guard var parameter = graph.parameter(member.parameter) else { continue }
        parameter.tensor = parameter.tensor.selecting(indices, onAxis: member.axis)
        parameter.mask = parameter.mask?.selecting(indices, onAxis: member.axis)
        try graph.setParameter(member.parameter, parameter)
      }
    }
    return graph
  }
}
