import GraphIR
import Operators
import TensorCore

extension MaskPlan {
  /// `graph` with these masks as parameters: what ``compacting(_:masks:)`` is held against.
  ///
  /// - Parameters:
  ///   - graph: what this plan was made for; its parameters may have changed.
  ///   - values: the elements of each mask; those of masks that are not learned do not matter.
  /// - Returns: the graph with a parameter for each learned mask.
  /// - Throws: ``GraphError`` when a mask has another number of elements.
  package func masking(_ graph: Graph, masks values: [[Float]]) throws(GraphError) -> Graph {
    try masking(graph) { builder throws(GraphError) in
      var open: [Value?] = []
      for (mask, elements) in zip(masks, values) {
        guard mask.isLearned else {
          open.append(nil)
          continue
        }
        open.append(
          try builder.graph.addParameter(
            "mask.\(mask.name)", Parameter(Tensor(shape: [mask.count], elements))))
      }
      return open
    }
  }

  /// `graph` with masks that `make` adds before everything else; one for each learned mask.
  ///
  /// Masks scale parameters, which are smaller than what they are multiplied with, except where a
  /// residual stream begins. Norms see only the channels whose mask is not zero.
  func masking(
    _ graph: Graph, by make: (inout GraphBuilder) throws(GraphError) -> [Value?]
  ) throws(GraphError) -> Graph {
    var placement: Placement?
    return try graph.rewritten { node, rewriter throws(GraphError) in
      var current: Placement
      if let made = placement {
        current = made
      } else {
        var builder = GraphBuilder(rewriter.result, scope: "mask")
        let open = try make(&builder)
        current = try Placement(self, open, &builder)
        rewriter.result = builder.graph
        placement = current
      }
      try current.rewrite(node, &rewriter)
    }
  }
}

/// The masks of a graph that is being made.
private struct Placement {
  let plan: MaskPlan
  let open: [Value?]
  /// Ones where a channel is there, for each width mask.
  var present: [Int: Value] = [:]

  init(_ plan: MaskPlan, _ open: [Value?], _ builder: inout GraphBuilder) throws(GraphError) {
    self.plan = plan
    self.open = open
    for index in Set(plan.norms.values).sorted() {
      if let mask = open[index] { present[index] = try builder.add(IsPositive(), mask) }
    }
  }

  func rewrite(_ node: Node, _ rewriter: inout Graph.Rewriter) throws(GraphError) {
    if let index = plan.streams[node.name], let mask = open[index] {
      try rewriter.copy(node)
      let value = try rewriter.image(of: node.outputs[0])
      rewriter.setImage(
        of: node.outputs[0],
        to: try rewriter.result.add(
          "mask.\(node.name)", ScaleAxis(axis: 2, unit: 1), value, mask))
    } else if let index = plan.norms[node.name], let present = present[index],
      let norm = node.op as? LayerNorm
    {
      var inputs: [Value] = []
      for input in node.inputs { inputs.append(try rewriter.image(of: input)) }
      let made = try rewriter.result.addNode(
        node.name, MaskedLayerNorm(epsilon: norm.epsilon), inputs + [present])
      rewriter.setImage(of: node.outputs[0], to: made[0])
    } else if let writer = plan.writers[node.name] {
      try rewrite(node, writer, &rewriter)
    } else {
      try rewriter.copy(node)
    }
  }

  private func rewrite(
    _ node: Node, _ writer: MaskPlan.Writer, _ rewriter: inout Graph.Rewriter
  ) throws(GraphError) {
    var inputs: [Value] = []
    for input in node.inputs { inputs.append(try rewriter.image(of: input)) }
    let name = "mask.\(node.name)"
    let rowCount = rewriter.result.tensorType(of: inputs[1]).extents[0].fixedCount ?? 0
    var rows: (mask: Value, unit: Int)?
    let branch = writer.branch.flatMap { open[$0] }
    if let width = writer.width.flatMap({ open[$0] }) {
      rows = (width, 1)
      if let branch {
        // Both act on rows: one mask of two is cheaper than two passes over the weights.
        let scale = ScaleAxis(axis: 0, unit: rowCount)
        rows = (try rewriter.result.add("\(name).rows", scale, width, branch), 1)
      }
    } else if let branch {
      rows = (branch, rowCount)
    }
    if let index = writer.units, let units = open[index] {
      inputs[1] = try rewriter.result.add(
        "\(name).units", ScaleAxis(axis: 1, unit: plan.masks[index].unit), inputs[1], units)
    }
    if let rows {
      let scale = ScaleAxis(axis: 0, unit: rows.unit)
      inputs[1] = try rewriter.result.add("\(name).weight", scale, inputs[1], rows.mask)
      if inputs.count == 3 {
        inputs[2] = try rewriter.result.add("\(name).bias", scale, inputs[2], rows.mask)
      }
    }
    let made = try rewriter.result.addNode(node.name, node.op, inputs)
    rewriter.setImage(of: node.outputs[0], to: made[0])
  }
}
