import GraphIR
import TensorCore

extension Graph {
  /// The same graph with the choice of one token a tower made as early as it can be.
  ///
  /// What works on rows one by one then works on the chosen rows alone: in the last block that is
  /// everything after attention, experts and their routing among it where no capacity lets tokens
  /// compete. Values in between lose their axis of tokens. Results are the same within rounding.
  package func selectingEarly() throws(GraphError) -> Graph {
    let plan = SelectionPlan(self)
    guard !plan.selections.isEmpty else { return self }
    var selected: [Value: Value] = [:]
    return try rewritten { node, rewriter throws(GraphError) in
      /// What `op` makes, under `name`, of the chosen rows of `node`'s operands.
      func made(
        _ name: String, _ op: any RowwiseOp, of node: Node, by selection: Int,
        _ rewriter: inout Rewriter
      ) throws(GraphError) -> Value {
        var inputs: [Value] = []
        for (index, input) in node.inputs.enumerated() {
          inputs.append(
            op.rowInputs.contains(index)
              ? try image(of: input, by: selection, &rewriter) : try rewriter.image(of: input))
        }
        let made = try rewriter.result.addNode(name, op, inputs)[0]
        selected[node.outputs[0]] = made
        return made
      }
      func image(
        of value: Value, by selection: Int, _ rewriter: inout Rewriter
      ) throws(GraphError) -> Value {
        if let known = selected[value] { return known }
        if let maker = plan.integerMakers[value], let op = nodes[maker].op as? any RowwiseOp {
          return try made(
            "\(name(of: value)).selected", op, of: nodes[maker], by: selection, &rewriter)
        }
        let select = nodes[selection]
        var inputs = [try rewriter.image(of: value)]
        for other in select.inputs.dropFirst() { inputs.append(try rewriter.image(of: other)) }
        let made = try rewriter.result.addNode(
          "\(name(of: value)).selected", select.op, inputs)[0]
        selected[value] = made
        return made
      }
      if let selection = plan.ownSelection(of: node) {
        rewriter.setImage(
          of: node.outputs[0], to: try image(of: node.inputs[0], by: selection, &rewriter))
      } else if let selection = plan.selections[node.outputs[0]],
        let op = node.op as? any RowwiseOp
      {
        _ = try made(node.name, op, of: node, by: selection, &rewriter)
      } else {
        try rewriter.copy(node)
      }
    }
  }
}

/// Which values are read at one token of each item alone.
private struct SelectionPlan {
  /// The index of the node that chooses the token, by value.
  var selections: [Value: Int] = [:]
  /// The node that makes an integer value row by row, from rows that can be chosen: the value is
  /// made anew from these, since what chooses tokens takes floats.
  private(set) var integerMakers: [Value: Int] = [:]
  private var own: [Value: Int] = [:]

  init(_ graph: Graph) {
    for (index, node) in graph.nodes.enumerated() {
      if node.op is SelectToken || node.op is SelectEndToken { own[node.outputs[0]] = index }
      guard let op = node.op as? any RowwiseOp, !op.rowInputs.isEmpty, node.outputs.count == 1,
        graph.tensorType(of: node.outputs[0]).dtype == .int32,
        op.rowInputs.allSatisfy({ isSelectable(node.inputs[$0], in: graph) })
      else { continue }
      integerMakers[node.outputs[0]] = index
    }
    var blocked = Set<Value>()
    while true {
      selections = Self.selections(in: graph, own: own, blocked: blocked)
      let stuck = graph.nodes.filter { node in
        guard let selection = selections[node.outputs[0]], let op = node.op as? any RowwiseOp
        else { return false }
        return !op.rowInputs.filter({ $0 < node.inputs.count }).allSatisfy {
          selections[node.inputs[$0]] == selection || isSelectable(node.inputs[$0], in: graph)
        }
      }
      if stuck.isEmpty { return }
      blocked.formUnion(stuck.map { $0.outputs[0] })
    }
  }

  /// Whether the rows of one token can be had from the whole of `value`.
  private func isSelectable(_ value: Value, in graph: Graph) -> Bool {
    let type = graph.tensorType(of: value)
    return type.dtype == .float32 && type.rank == 3 || integerMakers[value] != nil
  }

  /// The selections of values, none of them in `blocked`, by what reads them.
  private static func selections(
    in graph: Graph, own: [Value: Int], blocked: Set<Value>
  ) -> [Value: Int] {
    let consumers = graph.consumers()
    let results = Set(graph.outputs.map(\.value))
    var selections: [Value: Int] = [:]
    for node in graph.nodes.reversed() {
      guard let op = node.op as? any RowwiseOp, !op.rowInputs.isEmpty, node.outputs.count == 1
      else { continue }
      let value = node.outputs[0]
      let readers = consumers[Int(value.index)]
      guard (3...4).contains(graph.tensorType(of: value).rank), !results.contains(value),
        !blocked.contains(value)
      else { continue }
      let chosen = Set(
        readers.map { reader -> Int? in
          let reading = graph.nodes[reader]
          if own[reading.outputs[0]] != nil, reading.inputs[0] == value { return reader }
          guard let op = reading.op as? any RowwiseOp,
            reading.inputs.indices.allSatisfy({
              reading.inputs[$0] != value || op.rowInputs.contains($0)
            })
          else { return nil }
          return selections[reading.outputs[0]]
        })
      if chosen.count == 1, let first = chosen.first, let selection = first {
        selections[value] = selection
      }
    }
    return selections
  }

  /// The index of `node` where it chooses a token whose value is computed for it alone.
  func ownSelection(of node: Node) -> Int? {
    guard let index = own[node.outputs[0]], selections[node.inputs[0]] == index else { return nil }
    return index
  }
}
