import GraphIR
import Operators
import TensorCore

/// What an element of a learned mask opens and closes.
package enum MaskKind: String, Codable, Sendable, CaseIterable {
  /// Heads of an attention.
  case heads
  /// Neurons of a feed-forward network.
  case neurons
  /// Channels of a tower's residual stream.
  case width
  /// Whole residual branches: the attention or the feed-forward network of a layer.
  case layers
}

/// Where a graph can be masked, and what each mask frees.
///
/// Every structure that could have a mask has an entry, learned or not: sizes are products over all.
package struct MaskPlan: Sendable {
  /// One mask.
  package struct Mask: Sendable {
    /// What it opens and closes.
    package let kind: MaskKind
    /// The structure and the kind, such as `image.layers.0.mlp.neurons`.
    package let name: String
    /// How many elements the mask has.
    package let count: Int
    /// How many neighbouring indices an element stands for.
    package let unit: Int
    /// Whether it is learned; it is one everywhere otherwise.
    package let isLearned: Bool
    /// The axes that lose units; nil for a branch.
    package let group: DependencyGroup?
    /// The tower it belongs to.
    package let tower: Tower
  }

  /// The masks of one operation that writes into the residual stream, by their indices.
  struct Writer: Sendable {
    /// Over the axis that is contracted.
    var units: Int?
    /// Over the rows.
    var width: Int?
    /// Over everything.
    var branch: Int?
  }

  /// The masked structures: branches first, then heads and neurons, then widths.
  package private(set) var masks: [Mask] = []
  /// The towers' parameters, tables that are looked up aside, as a function of what is left.
  package private(set) var size = SizePolynomial()
  /// The masks of `Linear` nodes by node name.
  private(set) var writers: [String: Writer] = [:]
  /// The width masks of values that begin a residual stream, by the name of their node.
  private(set) var streams: [String: Int] = [:]
  /// The width masks of norms by node name.
  private(set) var norms: [String: Int] = [:]
  /// Axes of the parameters that make up the values of ``streams``, with their width masks.
  private(set) var embeddings: [(member: DependencyGroup.Member, width: Int)] = []
  /// For each branch, the mask over its heads or neurons.
  private(set) var unitsOfBranch: [Int: Int] = [:]

  /// Finds what can be masked in `graph`.
  ///
  /// - Parameters:
  ///   - graph: a model without quantized parameters.
  ///   - kinds: what is learned.
  /// - Throws: ``GraphError`` when the residual stream of a tower is written by operations that
  ///   masks cannot scale.
  package init(_ graph: Graph, learning kinds: Set<MaskKind>) throws(GraphError) {
    let towers = Tower.allCases.map { ($0, graph.values(of: $0)) }
    let groups = graph.dependencyGroups()
    let owner = { (value: Value) in towers.first { $0.1.contains(value) }?.0 }
    let unitGroups = groups.filter { $0.kind != .width }
    let branches = graph.branches(endingIn: unitGroups).filter { owner($0.end.outputs[0]) != nil }
    for branch in branches {
      guard let tower = owner(branch.end.outputs[0]) else { continue }
      masks.append(
        Mask(
          kind: .layers, name: "\(branch.end.name).branch", count: 1, unit: 1,
          isLearned: kinds.contains(.layers), group: nil, tower: tower))
    }
    for group in unitGroups + groups.filter({ $0.kind == .width }) {
      guard let first = group.members.first?.parameter, let tower = owner(first) else { continue }
      let kind: MaskKind =
        switch group.kind {
        case .heads: .heads
        case .neurons: .neurons
        case .width: .width
        }
      let isPlaced = kind == .width || graph.nodes.contains { group.isContracted(by: $0) }
      masks.append(
        Mask(
          kind: kind, name: "\(group.name).\(kind.rawValue)", count: group.unitCount,
          unit: group.unit, isLearned: isPlaced && kinds.contains(kind), group: group,
          tower: tower))
    }
    try placeMasks(in: graph, branches)
    measure(graph, branches)
  }

  /// The indices of the learned masks.
  package var learned: [Int] { masks.indices.filter { masks[$0].isLearned } }

  /// The counts of units where nothing is taken out.
  package var fullCounts: [Double] { masks.map { Double($0.count) } }

  private mutating func placeMasks(
    in graph: Graph, _ branches: [ResidualBranch]
  ) throws(GraphError) {
    for (index, branch) in branches.enumerated() {
      writers[branch.end.name, default: Writer()].branch = index
    }
    for (index, mask) in masks.enumerated() {
      guard let group = mask.group else { continue }
      if mask.kind == .width {
        if mask.isLearned { try placeWidth(index, group, in: graph, branches) }
        continue
      }
      for node in graph.nodes where group.isContracted(by: node) {
        writers[node.name, default: Writer()].units = index
        if let branch = writers[node.name]?.branch { unitsOfBranch[branch] = index }
      }
    }
    for (index, branch) in branches.enumerated() where unitsOfBranch[index] == nil {
      throw .invariant(node: branch.end.name, "ends a branch without units")
    }
  }

  /// Finds what writes the residual stream of `group`, and what normalizes it.
  private mutating func placeWidth(
    _ index: Int, _ group: DependencyGroup, in graph: Graph, _ branches: [ResidualBranch]
  ) throws(GraphError) {
    let ends = Set(branches.map(\.end.name))
    for node in graph.nodes {
      guard let axes = group.values[node.outputs[0]],
        axes == [graph.tensorType(of: node.outputs[0]).rank - 1]
      else { continue }
      switch node.op {
      case is LayerNorm: norms[node.name] = index
      case is AddPositions:
        streams[node.name] = index
        try placeEmbeddings(node, index, group, in: graph)
      case is Add:
        for operand in node.inputs {
          guard case .node(let place) = graph.origin(of: operand) else { continue }
          let writer = graph.nodes[place]
          if ends.contains(writer.name) {
            writers[writer.name, default: Writer()].width = index
          } else if !(writer.op is Add || writer.op is AddPositions || writer.op is LayerNorm) {
            throw .invariant(node: writer.name, "writes a residual stream and cannot be masked")
          }
        }
      default: break
      }
    }
    guard streams.values.contains(index) else {
      throw .invariant(node: group.name, "has no embeddings that a mask could scale")
    }
  }

  /// Finds the parameters whose sum a stream begins with.
  private mutating func placeEmbeddings(
    _ node: Node, _ width: Int, _ group: DependencyGroup, in graph: Graph
  ) throws(GraphError) {
    for (place, input) in node.inputs.enumerated() {
      if graph.parameter(input) != nil {
        let members = group.members.filter { member in
          // A linear layer's rows are the stream's channels; its columns are those of what it reads.
          member.parameter == input && !(node.op is Linear && place == 1 && member.axis == 1)
        }
        let readers = graph.nodes.filter { $0.inputs.contains(input) }
        guard readers.count == 1, members.count == 1 else {
          throw .invariant(node: graph.name(of: input), "is read in several ways")
        }
        embeddings += members.map { ($0, width) }
        continue
      }
      guard !(node.op is Linear || node.op is Embedding) else { continue }
      guard case .node(let index) = graph.origin(of: input) else {
        throw .invariant(node: node.name, "begins a residual stream with an input")
      }
      let writer = graph.nodes[index]
      guard writer.op is Linear || writer.op is Embedding || writer.op is PrependToken else {
        throw .invariant(node: writer.name, "begins a residual stream and cannot be masked")
      }
      try placeEmbeddings(writer, width, group, in: graph)
    }
  }

  /// Counts what the parameters of all towers have left.
  private mutating func measure(_ graph: Graph, _ branches: [ResidualBranch]) {
    var axes: [DependencyGroup.Member: Int] = [:]
    for (index, mask) in masks.enumerated() {
      for member in mask.group?.members ?? [] { axes[member] = index }
    }
    for value in graph.parameters(of: Tower.allCases) {
      var factor = 1
      var variables = branches.indices.filter { branches[$0].parameters.contains(value) }
      for (axis, extent) in (graph.parameter(value)?.tensor.shape ?? []).enumerated() {
        if let mask = axes[DependencyGroup.Member(parameter: value, axis: axis)] {
          factor *= masks[mask].unit
          variables.append(mask)
        } else {
          factor *= extent
        }
      }
      size.add(factor, times: variables)
    }
  }
}

/// A sum's operand that is made from the other operand alone.
struct ResidualBranch {
  /// The operation that ends the branch.
  let end: Node
  /// The parameters that nothing else reads.
  let parameters: Set<Value>
}

extension DependencyGroup {
  /// Whether `node` is a linear layer that contracts over this group's units.
  func isContracted(by node: Node) -> Bool {
    node.op is Linear && members.contains(Member(parameter: node.inputs[1], axis: 1))
  }
}

extension Graph {
  /// The branches that end in a linear layer over units of `groups` and are added to what they read.
  fileprivate func branches(endingIn groups: [DependencyGroup]) -> [ResidualBranch] {
    let all = needed(without: nil)
    var branches: [ResidualBranch] = []
    for node in nodes where node.op is Add && all.contains(node.outputs[0]) {
      let ends = node.inputs.compactMap { input -> Node? in
        guard case .node(let index) = origin(of: input) else { return nil }
        return groups.contains { $0.isContracted(by: nodes[index]) } ? nodes[index] : nil
      }
      guard ends.count == 1, let end = ends.first else { continue }
      let left = needed(without: (node, end.outputs[0]))
      let parameters = Set(parameterValues).intersection(all).subtracting(left)
      branches.append(ResidualBranch(end: end, parameters: parameters))
    }
    return branches
  }

  /// The values that the outputs need when a sum does without one of its operands.
  private func needed(without removed: (sum: Node, operand: Value)?) -> Set<Value> {
    var needed = Set(outputs.map(\.value))
    for node in nodes.reversed() where node.outputs.contains(where: needed.contains) {
      if let removed, node.outputs == removed.sum.outputs {
        needed.formUnion(node.inputs.filter { $0 != removed.operand })
      } else {
        needed.formUnion(node.inputs)
      }
    }
    return needed
  }
}
