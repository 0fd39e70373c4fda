import GraphIR
import TensorCore

extension MaskPlan {
  /// `graph` with masks folded into its parameters and without the units whose mask is zero.
  ///
  /// Computes what ``masking(_:masks:)`` computes, with the usual operations alone. Rows of the
  /// projections are not scaled, since a norm, which masks do not scale, stands before them.
  ///
  /// - Parameters:
  ///   - graph: what this plan was made for; its parameters may have changed.
  ///   - values: the elements of each mask, none negative; those that are not learned do not matter.
  /// - Returns: the smaller graph.
  /// - Throws: ``GraphError`` when a tower would lose all of its channels, or when nothing can take
  ///   in what a branch without units still adds.
  package func compacting(_ graph: Graph, masks values: [[Float]]) throws(GraphError) -> Graph {
    var graph = graph
    for node in graph.nodes {
      guard let writer = writers[node.name] else { continue }
      try fold(writer, of: node, values, &graph)
    }
    for (member, width) in embeddings where masks[width].isLearned {
      try graph.scale(member.parameter, axis: member.axis, unit: 1, by: values[width])
    }
    let closed = closedUnits(values)
    for (index, mask) in masks.enumerated()
    where mask.kind == .width && closed[index].count == mask.count {
      throw .invariant(node: mask.name, "would lose all of its channels")
    }
    let removals = masks.indices.compactMap { index in
      masks[index].group.map { UnitRemoval(group: $0, units: closed[index]) }
    }
    let smaller = try graph.removing(removals)
    do {
      return try FoldEmptyBranches().run(on: smaller, in: PassContext())
    } catch PassError.graph(_, let error) {
      throw error
    } catch {
      throw .invariant(node: "mask", "\(error)")
    }
  }

  /// The units that go with masks of these elements; all of a branch that is closed.
  private func closedUnits(_ values: [[Float]]) -> [Set<Int>] {
    var closed = masks.indices.map { index -> Set<Int> in
      guard masks[index].isLearned else { return [] }
      return Set(values[index].indices.filter { values[index][$0] == 0 })
    }
    for (branch, units) in unitsOfBranch where !closed[branch].isEmpty {
      closed[units] = Set(0..<masks[units].count)
    }
    return closed
  }

  private func fold(
    _ writer: Writer, of node: Node, _ values: [[Float]], _ graph: inout Graph
  ) throws(GraphError) {
    let learned = { (index: Int?) in index.flatMap { masks[$0].isLearned ? values[$0] : nil } }
    if let index = writer.units, let units = learned(writer.units) {
      try graph.scale(node.inputs[1], axis: 1, unit: masks[index].unit, by: units)
    }
    let rowCount = graph.parameter(node.inputs[1])?.tensor.shape.first ?? 0
    let width = learned(writer.width)
    let branch = learned(writer.branch)?.first
    guard width != nil || branch != nil else { return }
    let rows = (width ?? [Float](repeating: 1, count: rowCount)).map { $0 * (branch ?? 1) }
    for input in node.inputs.dropFirst() { try graph.scale(input, axis: 0, unit: 1, by: rows) }
  }
}

extension Graph {
  /// Multiplies the slices of `axis` of the parameter behind `value`, `unit` neighbours by a factor.
  fileprivate mutating func scale(
    _ value: Value, axis: Int, unit: Int, by factors: [Float]
  ) throws(GraphError) {
    guard var parameter = parameter(value) else {
      throw .invariant(node: name(of: value), "is masked and is no parameter")
    }
    let shape = parameter.tensor.shape
    let inner = shape[(axis + 1)...].reduce(1, *) * unit
    let source = parameter.tensor
    parameter.tensor = Tensor(shape: shape, of: Float.self) { target in
      source.withElements(of: Float.self) { elements in
        for block in 0..<(inner == 0 ? 0 : elements.count / inner) {
          let factor = factors[block % factors.count]
          for index in (block * inner)..<((block + 1) * inner) {
            target[index] = elements[index] * factor
          }
        }
      }
    }
    try setParameter(value, parameter)
  }
}
