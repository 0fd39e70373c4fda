import GraphIR
import Operators
import TensorCore

extension Graph {
  /// Adds the gradients of `result` with respect to `values`, by reverse accumulation.
  ///
  /// The graph that comes out computes both, and can be differentiated again: that is how products
  /// with second derivatives are made.
  ///
  /// - Parameters:
  ///   - result: a scalar that this graph computes.
  ///   - values: parameters, inputs or computed values that it may depend on.
  ///   - kept: where given, the backward half reads only these of the computed values and computes
  ///     the others anew from them, segment by segment: less memory for about a third more work.
  /// - Returns: A gradient for each of `values`, of its type; nil where `result` does not depend
  ///   on it.
  /// - Throws: ``GraphError`` when an operation between them has no gradient.
  package mutating func addGradients(
    of result: Value, withRespectTo values: [Value], keeping kept: Set<Value>? = nil
  ) throws(GraphError) -> [Value?] {
    guard tensorType(of: result).rank == 0 else {
      throw .invariant(node: name(of: result), "is differentiated but is no scalar")
    }
    var builder = GraphBuilder(self, scope: "gradient")
    let one = try builder.add(Fill(with: 1), result)
    return try addGradients(
      of: [(result, one)], withRespectTo: values, keeping: kept, &builder)
  }

  /// Adds the gradients of `Σ <value, gradient>` over `results` with respect to `values`.
  ///
  /// - Parameters:
  ///   - results: values of this graph, each with a value of its type.
  ///   - values: as above.
  ///   - kept: as above.
  /// - Returns: As above.
  /// - Throws: As above.
  package mutating func addGradients(
    of results: [(value: Value, gradient: Value)], withRespectTo values: [Value],
    keeping kept: Set<Value>? = nil
  ) throws(GraphError) -> [Value?] {
    var builder = GraphBuilder(self, scope: "gradient")
    return try addGradients(of: results, withRespectTo: values, keeping: kept, &builder)
  }

  private mutating func addGradients(
    of results: [(value: Value, gradient: Value)], withRespectTo values: [Value],
    keeping kept: Set<Value>?, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    var walk = ReverseWalk(self, builder, from: values)
    for (value, gradient) in results { try walk.add(gradient, to: value) }
    if let kept {
      try walk.recompute(nodes, keeping: kept)
    } else {
      try walk.reverse(nodes)
    }
    self = walk.builder.graph
    return values.map { walk.gradients[$0] }
  }
}

/// Reverse accumulation over a list of nodes.
private struct ReverseWalk {
  var builder: GraphBuilder
  private(set) var gradients: [Value: Value] = [:]
  /// Values that depend on those asked for.
  private var active: Set<Value>
  /// What the backward half reads instead of a value of the forward half.
  private var copies: [Value: Value] = [:]

  init(_ graph: Graph, _ builder: GraphBuilder, from values: [Value]) {
    self.builder = builder
    active = Set(values)
    spread(over: graph.nodes)
  }

  private mutating func spread(over nodes: some Sequence<Node>) {
    for node in nodes where node.inputs.contains(where: active.contains) {
      active.formUnion(node.outputs)
    }
  }

  /// Adds `gradient` to what has arrived at `value`.
  mutating func add(_ gradient: Value, to value: Value) throws(GraphError) {
    let graph = builder.graph
    guard graph.tensorType(of: gradient) == graph.tensorType(of: value) else {
      throw .invariant(
        node: graph.name(of: value),
        "is \(graph.tensorType(of: value)), its gradient \(graph.tensorType(of: gradient))")
    }
    guard let sum = gradients[value] else {
      gradients[value] = gradient
      return
    }
    gradients[value] = try builder.add(Add(), sum, gradient)
  }

  /// Passes gradients through `nodes`, the last first.
  mutating func reverse(_ nodes: some BidirectionalCollection<Node>) throws(GraphError) {
    for node in nodes.reversed() where node.inputs.contains(where: active.contains) {
      let arrived = node.outputs.map { gradients[$0] }
      guard arrived.contains(where: { $0 != nil }) else { continue }
      builder.scope = "gradient.\(node.name)"
      if let op = node.op as? any DifferentiableOp {
        let pullback = Pullback(
          inputs: node.inputs.map { copies[$0] ?? $0 },
          outputs: node.outputs.map { copies[$0] ?? $0 }, gradients: arrived,
          isWanted: node.inputs.map(active.contains))
        let passed = try op.pullback(pullback, &builder)
        for (input, gradient) in zip(node.inputs, passed) where active.contains(input) {
          if let gradient { try add(gradient, to: input) }
        }
      } else if let op = node.op as? any DecomposableOp {
        try reverse(op, of: node, arrived)
      } else {
        throw .invariant(
          node: node.name, "operator \(type(of: node.op).name) has no gradient")
      }
    }
  }

  /// Passes gradients through what the fused operation of `node` consists of.
  private mutating func reverse(
    _ op: any DecomposableOp, of node: Node, _ arrived: [Value?]
  ) throws(GraphError) {
    let first = builder.graph.nodes.count
    let results = try op.decomposition(of: node.inputs.map { copies[$0] ?? $0 }, &builder)
    let parts = Array(builder.graph.nodes[first...])
    for input in node.inputs where active.contains(input) {
      if let copy = copies[input] { active.insert(copy) }
    }
    spread(over: parts)
    for (result, gradient) in zip(results, arrived) {
      if let gradient { try add(gradient, to: result) }
    }
    try reverse(parts)
    for input in Set(node.inputs) where active.contains(input) {
      guard let copy = copies[input], let gradient = gradients.removeValue(forKey: copy) else {
        continue
      }
      try add(gradient, to: input)
    }
  }

  /// Passes gradients through `nodes` a segment at a time, each computed anew beforehand.
  ///
  /// A segment ends with a node that makes a value of `kept`.
  mutating func recompute(_ nodes: [Node], keeping kept: Set<Value>) throws(GraphError) {
    var end = nodes.count
    // What stands after the last kept value is at hand when the backward half begins.
    var isLast = true
    while end > 0 {
      var start = end - 1
      while start > 0, !nodes[start - 1].outputs.contains(where: kept.contains) { start -= 1 }
      let segment = nodes[start..<end]
      if !isLast { try copy(segment, keeping: kept) }
      try reverse(segment)
      isLast = false
      end = start
    }
  }

  private mutating func copy(
    _ segment: ArraySlice<Node>, keeping kept: Set<Value>
  ) throws(GraphError) {
    for node in segment
    where node.inputs.contains(where: active.contains)
      && !node.outputs.allSatisfy(kept.contains)
    {
      builder.scope = "again.\(node.name)"
      let made = try builder.addNode(node.op, node.inputs.map { copies[$0] ?? $0 })
      for (old, new) in zip(node.outputs, made) { copies[old] = new }
    }
  }
}
