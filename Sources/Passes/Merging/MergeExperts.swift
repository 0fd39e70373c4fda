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
    var source = graph
    var counts: [Value: Int] = [:]
    for layer in layers {
      guard let experts = merged[layer.name] else { continue }
      try source.setParameter(experts.routerValue, Parameter(experts.router))
      for node in layer.linears {
        counts[node.outputs[0]] = layer.expertCount
        for place in stride(from: 2, to: node.inputs.count, by: layer.expertCount) {
          let name = graph.name(of: node.inputs[place])
          for (expert, parameters) in experts.parameters.enumerated() {
            guard let parameter = parameters[name] else { throw .unknownName(name) }
            try source.setParameter(node.inputs[place + expert], parameter)
          }
        }
      }
    }
    let smaller = try source.rewritten { node, rewriter throws(GraphError) in
      guard let count = counts[node.outputs[0]], let op = node.op as? GroupedLinear else {
        return try rewriter.copy(node)
      }
      var operands: [Value] = []
      for (place, input) in node.inputs.enumerated()
      where place < 2 || (place - 2) % count < options.experts {
        operands.append(try rewriter.image(of: input))
      }
      let made = try rewriter.result.addNode(
        node.name,
        GroupedLinear(experts: options.experts, hasBias: op.hasBias, capacity: op.capacity),
        operands)
      rewriter.setImage(of: node.outputs[0], to: made[0])
    }
    var result = try smaller.removingUnread(since: graph)
    result.facts = result.facts.map { fact in
      fact.name.hasSuffix(".experts")
        ? Fact(name: fact.name, value: "\(options.experts)", source: Self.name) : fact
    }
    return result
  }
}
