extension Graph {
  /// Adds the operations of `other` to this graph.
  ///
  /// Inputs of the same name and type become one; everything else of `other` gets `prefix` before
  /// its name. Its outputs do not become outputs.
  ///
  /// - Returns: What stands here for each value of `other`.
  package mutating func merge(
    _ other: Graph, prefix: String
  ) throws(GraphError) -> [Value: Value] {
    var images: [Value: Value] = [:]
    for value in other.values {
      let name = other.name(of: value)
      switch other.origin(of: value) {
      case .input:
        if let own = self.value(named: name), origin(of: own) == .input,
          tensorType(of: own) == other.tensorType(of: value)
        {
          images[value] = own
        } else {
          images[value] = try addInput(prefix + name, other.tensorType(of: value))
        }
      case .parameter:
        guard let parameter = other.parameter(value) else { continue }
        images[value] = try addParameter(prefix + name, parameter)
      case .node: continue
      }
    }
    for node in other.nodes {
      let made = try addNode(prefix + node.name, node.op, node.inputs.compactMap { images[$0] })
      for (old, new) in zip(node.outputs, made) { images[old] = new }
    }
    return images
  }
}
