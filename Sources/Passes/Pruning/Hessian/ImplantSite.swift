import GraphIR
import Operators
import TensorCore

/// A place in a graph where a low-rank path can stand for units that are gone: a linear operation
/// that contracts them, and what makes them.
struct ImplantSite {
  /// The units that the path stands for.
  struct Band {
    /// The group of the whole graph.
    let group: DependencyGroup
    /// Its units in the band.
    let units: [Int]
    /// Rows of a path for neurons; the width of each head of a path for heads.
    let rank: Int
  }

  /// The band.
  let band: Band
  /// What the names of the path begin with.
  let name: String
  /// The linear operation that contracts the units.
  let consumer: Node
  /// The attention between, for heads.
  let attention: Node?
  /// The linear operations that make the units: one, or those of queries, keys and values.
  let producers: [Node]

  /// The name of the path's last linear operation.
  var outName: String { name + ".out" }

  /// Finds the operations around `band` in `graph`; nil where they are not of that form.
  init?(_ band: Band, in graph: Graph) {
    let makers = Set(band.group.members.filter { $0.axis == 0 }.map(\.parameter))
    let readers = Set(band.group.members.filter { $0.axis == 1 }.map(\.parameter))
    func isLinear(_ node: Node, _ weights: Set<Value>) -> Bool {
      node.op is Linear && weights.contains(node.inputs[1])
    }
    let consumers = graph.nodes.filter { isLinear($0, readers) }
    let attention = graph.nodes.filter { node in
      node.op is Attention && band.group.values[node.outputs[0]] != nil
    }
    var producers = graph.nodes.filter { isLinear($0, makers) }
    guard consumers.count == 1, let consumer = consumers.first, !producers.isEmpty else {
      return nil
    }
    if band.group.kind == .heads {
      guard attention.count == 1, let node = attention.first, consumer.inputs[0] == node.outputs[0]
      else { return nil }
      producers = node.inputs.compactMap { input in
        producers.first { $0.outputs[0] == input }
      }
      guard producers.count == 3, Set(producers.map { $0.inputs[0] }).count == 1 else { return nil }
      self.attention = node
    } else {
      guard producers.count == 1, attention.isEmpty else { return nil }
      self.attention = nil
    }
    var name = "\(band.group.name).implant"
    while graph.value(named: name + ".out") != nil { name += "2" }
    self.name = name
    self.band = band
    self.consumer = consumer
    self.producers = producers
  }

  /// Adds the path, which gives zero as yet, to what `consumer` gives.
  func insert(into rewriter: inout Graph.Rewriter) throws(GraphError) {
    guard let source = producers.first?.inputs[0] else { return }
    let type = rewriter.source.tensorType(of: source)
    let width = type.extents.last?.fixedCount ?? 0
    let output = rewriter.source.tensorType(of: consumer.outputs[0]).extents.last?.fixedCount ?? 0
    let input = try rewriter.image(of: source)
    func linear(
      _ suffix: String, _ x: Value, _ out: Int, _ width: Int, hasBias: Bool = false
    ) throws(GraphError) -> Value {
      let name = "\(name).\(suffix)"
      func zeros(_ part: String, _ shape: [Int]) throws(GraphError) -> Value {
        try rewriter.result.addParameter(
          "\(name).\(part)", Parameter(Tensor(shape: shape, of: Float.self) { _ in }))
      }
      var operands = [x, try zeros("weight", [out, width])]
      if hasBias { operands.append(try zeros("bias", [out])) }
      return try rewriter.result.addNode(name, Linear(), operands)[0]
    }
    var inner: Value
    let inside: Int
    if let attention, let op = attention.op as? Attention {
      inside = band.rank * band.units.count
      let query = try linear("query", input, inside, width, hasBias: true)
      let key = try linear("key", input, inside, width)
      let value = try linear("value", input, inside, width)
      let narrow = Attention(headWidth: band.rank, scale: op.scale, isCausal: op.isCausal)
      inner = try rewriter.result.add("\(name).attention", narrow, query, key, value)
    } else {
      inside = band.rank
      inner = try linear("in", input, inside, width)
    }
    inner = try linear("out", inner, output, inside)
    let old = try rewriter.image(of: consumer.outputs[0])
    rewriter.setImage(
      of: consumer.outputs[0], to: try rewriter.result.add("\(name).sum", Add(), old, inner))
  }
}

extension Graph {
  /// The graph without `removals` and with a path that gives zero at each of `sites`.
  func implanting(
    _ sites: [ImplantSite], removing removals: [UnitRemoval]
  ) throws(GraphError) -> Graph {
    let byConsumer = Dictionary(sites.map { ($0.consumer.name, $0) }) { first, _ in first }
    return try removing(removals).rewritten { node, rewriter throws(GraphError) in
      try rewriter.copy(node)
      if let site = byConsumer[node.name] { try site.insert(into: &rewriter) }
    }
  }
}
