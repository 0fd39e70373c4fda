import GraphIR

/// Removes operations that no output needs, and parameters that only they read.
///
/// Parameters that nothing reads from the start, such as a logit scale, stay.
package struct RemoveUnread: Pass {
  package static let name = "remove-unread"

  /// There is nothing to choose.
  package struct Options: Codable, Sendable {
    /// The only value.
    package init() {}
  }

  package let options: Options

  package init(options: Options = Options()) { self.options = options }

  package func run(
    on graph: consuming Graph, in context: borrowing PassContext
  ) throws(PassError) -> Graph {
    do { return try graph.removingUnread() } catch { throw .graph(pass: Self.name, error) }
  }
}

extension Graph {
  /// The graph without operations that no output needs and parameters that only they read.
  ///
  /// - Parameter source: what the graph was made of; its nodes count as well.
  /// - Returns: The smaller graph.
  /// - Throws: ``GraphError`` where the graph is broken.
  package func removingUnread(since source: Graph? = nil) throws(GraphError) -> Graph {
    var needed = Set(outputs.map(\.value))
    for node in nodes.reversed() where node.outputs.contains(where: needed.contains) {
      needed.formUnion(node.inputs)
    }
    var read = Set(nodes.flatMap(\.inputs))
    for name in source.map({ source in source.nodes.flatMap(\.inputs).map(source.name) }) ?? [] {
      if let value = value(named: name) { read.insert(value) }
    }
    var result = Graph()
    result.facts = facts
    result.provenance = provenance
    var images: [Value: Value] = [:]
    for value in values {
      switch origin(of: value) {
      case .input: images[value] = try result.addInput(name(of: value), tensorType(of: value))
      case .parameter:
        guard needed.contains(value) || !read.contains(value), let parameter = parameter(value)
        else { continue }
        images[value] = try result.addParameter(name(of: value), parameter)
      case .node(let index):
        let node = nodes[index]
        guard value == node.outputs[0], node.outputs.contains(where: needed.contains) else {
          continue
        }
        let made = try result.addNode(node.name, node.op, node.inputs.compactMap { images[$0] })
        for (old, new) in zip(node.outputs, made) { images[old] = new }
      }
    }
    for output in outputs {
      if let image = images[output.value] { try result.addOutput(output.name, image) }
    }
    return result
  }
}
