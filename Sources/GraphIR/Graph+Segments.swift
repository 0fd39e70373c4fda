extension Graph {
  /// The values through which all that `output` takes from the inputs passes, in order.
  ///
  /// Between two neighbours lies a part that can be run by itself. The residual stream between two
  /// blocks is such a value; what stands in a block beside a residual connection is not. Inputs of
  /// the graph may be read anywhere.
  package func bottlenecks(before output: Value) -> [Value] {
    let needed = ancestors(of: [output], stoppingAt: [])
    let computed = dependentValues()
    var readers = [Int](repeating: 0, count: values.count)
    let own = nodes.filter { $0.outputs.contains(where: needed.contains) }
    for node in own { for input in Set(node.inputs) { readers[Int(input.index)] += 1 } }
    var live = Set<Value>()
    var found: [Value] = []
    for node in own {
      for input in Set(node.inputs) {
        readers[Int(input.index)] -= 1
        if readers[Int(input.index)] == 0 { live.remove(input) }
      }
      for made in node.outputs where computed.contains(made) && readers[Int(made.index)] > 0 {
        live.insert(made)
      }
      if live.count == 1, let only = live.first, found.last != only { found.append(only) }
    }
    return found
  }

  /// The part of the graph that computes `outputs` from `boundary`, whose values become inputs.
  ///
  /// Values keep their names; outputs are named after them.
  package func segment(
    computing outputs: [Value], from boundary: Set<Value>
  ) throws(GraphError) -> Graph {
    let needed = ancestors(of: outputs, stoppingAt: boundary)
    var part = Graph()
    part.facts = facts
    var images: [Value: Value] = [:]
    for value in values where needed.contains(value) {
      let name = self.name(of: value)
      if boundary.contains(value) {
        images[value] = try part.addInput(name, tensorType(of: value))
        continue
      }
      switch origin(of: value) {
      case .input: images[value] = try part.addInput(name, tensorType(of: value))
      case .parameter:
        if let parameter = parameter(value) {
          images[value] = try part.addParameter(name, parameter)
        }
      case .node: continue
      }
    }
    for node in nodes
    where node.outputs.contains(where: { needed.contains($0) && images[$0] == nil }) {
      let made = try part.addNode(node.name, node.op, node.inputs.compactMap { images[$0] })
      for (old, new) in zip(node.outputs, made) where images[old] == nil { images[old] = new }
    }
    for output in outputs {
      guard let image = images[output] else { throw .unknownName(name(of: output)) }
      try part.addOutput(name(of: output), image)
    }
    return part
  }

  /// `outputs` and all that they are computed from, up to and with `boundary`.
  private func ancestors(of outputs: [Value], stoppingAt boundary: Set<Value>) -> Set<Value> {
    var needed = Set(outputs)
    for node in nodes.reversed() {
      guard node.outputs.contains(where: { needed.contains($0) && !boundary.contains($0) }) else {
        continue
      }
      needed.formUnion(node.inputs)
    }
    return needed
  }

  /// The computed values that depend on an input of the graph.
  private func dependentValues() -> Set<Value> {
    var dependent = Set(inputs)
    for node in nodes where node.inputs.contains(where: dependent.contains) {
      dependent.formUnion(node.outputs)
    }
    return dependent
  }
}
