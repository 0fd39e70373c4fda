import Execution
import GraphIR
import Operators
import TensorCore

/// Leaves each mixture fewer experts: those used most, or means of those that are alike.
///
/// Experts are alike when the weights of one, its neurons in the order that fits best, are near those
/// of the other. The two that lie nearest, counted by how much they are used, become their mean
/// weighted by use, until few enough are left; what the router says for both becomes the same mean.
///
/// - Source: Li et al., "Merge, Then Compress: Demystify Efficient SMoE with Hints from Its Routing
///   Policy", ICLR 2024, arXiv:2310.01334, for alignment and means weighted by use. Differs: pairs
///   merge one after the other (Ward's criterion) instead of into groups around the most used, and
///   routers lose the rows of experts that are gone.
package struct MergeExperts: Pass {
  package static let name = "merge-experts"

  /// What becomes of the experts that are too many.
  package enum Method: String, Codable, Sendable, CaseIterable {
    /// They merge with those that are most like them.
    case merge
    /// Those used least go.
    case prune
  }

  /// The user's choices.
  package struct Options: Codable, Sendable {
    /// Experts that each layer is left with.
    package var experts = 2
    /// What becomes of the others.
    package var method = Method.merge

    /// The defaults of the command line.
    package init() {}
  }

  /// What became of a layer.
  package struct Row: Codable, Sendable, Equatable {
    /// The layer.
    package let layer: String
    /// The share of the tokens that each expert took on the data.
    package let use: [Double]
    /// The experts before that each one left comes from.
    package let groups: [[Int]]
  }

  /// What became of all layers.
  package struct Report: Codable, Sendable {
    /// The layers in order.
    package let rows: [Row]

    /// The report for people, a line each.
    package var lines: [String] {
      rows.map { row in
        let use = row.use.map { "\(Int(($0 * 100).rounded())) %" }.joined(separator: " ")
        let groups = row.groups.map { $0.map(String.init).joined(separator: "+") }
        return "\(row.layer): used \(use); left \(groups.joined(separator: ", "))"
      }
    }
  }

  package let options: Options

  package init(options: Options = Options()) { self.options = options }

  package func run(
    on graph: consuming Graph, in context: borrowing PassContext
  ) throws(PassError) -> Graph {
    let source = graph
    let layers = source.expertLayers
    guard !layers.isEmpty else {
      throw .unsuitable(pass: Self.name, "the model has no mixture of experts")
    }
    for layer in layers {
      let least = layer.expertsPerToken ?? 1
      guard (least...layer.expertCount).contains(options.experts) else {
        throw .option(
          name: "experts",
          expected: "in \(least)...\(layer.expertCount), of which \(layer.name) has "
            + "\(layer.expertCount) and a token takes \(least)",
          found: "\(options.experts)")
      }
    }
    let use = try use(of: layers, in: source, context)
    var merged: [String: MergedExperts] = [:]
    var rows: [Row] = []
    for layer in layers {
      let shares = use[layer.name] ?? []
      let experts = try MergedExperts(
        layer, in: source, shares: shares, options, pass: Self.name)
      merged[layer.name] = experts
      rows.append(Row(layer: layer.name, use: shares, groups: experts.groups))
    }
    let report = Report(rows: rows)
    for line in report.lines { context.report(.note(line)) }
    context.report(.result(report))
    do { return try replacing(layers, by: merged, in: source) } catch {
      throw .graph(pass: Self.name, error)
    }
  }

  /// The share of each expert of each layer on the calibration data, by the layer's name.
  private func use(
    of layers: [ExpertLayer], in graph: Graph, _ context: borrowing PassContext
  ) throws(PassError) -> [String: [Double]] {
    guard let source = context.calibration else { throw .needsData(pass: Self.name) }
    do {
      let counter = try ExpertCounter(graph, threadCount: context.threadCount)
      try source.forEachBatch { try counter.add($0.inputs) }
      var use: [String: [Double]] = [:]
      for layer in counter.layers {
        // Where no token came all count alike.
        let total = layer.counts.reduce(0, +)
        use[layer.name] =
          total > 0 ? layer.shares : layer.counts.map { _ in 1 / Double(layer.counts.count) }
      }
      return use
    } catch {
      throw .calibration(error)
    }
  }

  private func replacing(
    _ layers: [ExpertLayer], by merged: [String: MergedExperts], in graph: Graph
  ) throws(GraphError) -> Graph {
    var changed: [Value: (layer: ExpertLayer, experts: MergedExperts)] = [:]
    for layer in layers {
      guard let experts = merged[layer.name] else { continue }
      changed[layer.logits] = (layer, experts)
      for node in layer.linears { changed[node.outputs[0]] = (layer, experts) }
    }
    let count = options.experts
    let smaller = try graph.rewritten { node, rewriter throws(GraphError) in
      guard let (layer, experts) = changed[node.outputs[0]] else { return try rewriter.copy(node) }
      let input = try rewriter.image(of: node.inputs[0])
      let made: Value
      if node.outputs[0] == layer.logits {
        let name = graph.name(of: node.inputs[1])
        let router = try rewriter.result.addParameter("\(name).merged", Parameter(experts.router))
        made = try rewriter.result.add(node.name, node.op, input, router)
      } else {
        var operands = [input, try rewriter.image(of: node.inputs[1])]
        for place in stride(from: 2, to: node.inputs.count, by: layer.expertCount) {
          for expert in 0..<count {
            let name = graph.name(of: node.inputs[place + expert])
            guard let tensor = experts.tensors[expert][graph.name(of: node.inputs[place])] else {
              throw .unknownName(name)
            }
            operands.append(
              try rewriter.result.addParameter("\(name).merged", Parameter(tensor)))
          }
        }
        guard let op = node.op as? GroupedLinear else { return try rewriter.copy(node) }
        made = try rewriter.result.addNode(
          node.name,
          GroupedLinear(experts: count, hasBias: op.hasBias, capacity: op.capacity), operands)[0]
      }
      rewriter.setImage(of: node.outputs[0], to: made)
    }
    var result = try smaller.removingUnread(since: graph).renamingParameters {
      $0.hasSuffix(".merged") ? String($0.dropLast(".merged".count)) : $0
    }
    result.facts = result.facts.map { fact in
      fact.name.hasSuffix(".experts")
        ? Fact(name: fact.name, value: "\(count)", source: Self.name) : fact
    }
    return result
  }
}

extension Graph {
  /// The same graph with other names of parameters.
  fileprivate func renamingParameters(
    _ name: (String) -> String
  ) throws(GraphError) -> Graph {
    var result = Graph()
    result.facts = facts
    result.provenance = provenance
    var images: [Value: Value] = [:]
    for value in values {
      switch origin(of: value) {
      case .input: images[value] = try result.addInput(self.name(of: value), tensorType(of: value))
      case .parameter:
        guard let parameter = parameter(value) else { continue }
        images[value] = try result.addParameter(name(self.name(of: value)), parameter)
      case .node(let index):
        let node = nodes[index]
        guard value == node.outputs[0] else { continue }
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
