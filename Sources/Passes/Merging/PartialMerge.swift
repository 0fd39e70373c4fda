import GraphIR
import Operators
import TensorCore

/// Two models merged where they are alike: heads and neurons that answer alike are averaged, the
/// others stand side by side, and every linear layer is solved for the mean of both models'
/// features.
///
/// The residual stream keeps its width: both models' streams are put in one order by their weights
/// and averaged.
///
/// - Source: Nasery et al., "PLeaS: Merging Models with Permutations and Least Squares", CVPR 2025,
///   arXiv:2407.02447.
package struct PartialMerge: Sendable {
  /// The choices.
  package struct Options: Codable, Sendable, Equatable {
    /// How many heads and neurons a layer has relative to one of the models, 1 to 2.
    package var budget = 1.2
    /// What is added to the diagonal of the moments of a layer's inputs, as a share of its mean.
    package var ridge = 1e-4

    /// The defaults.
    package init() {}
  }

  /// What became of one group of units.
  package struct Row: Codable, Sendable {
    /// What the names of the group's parameters begin with.
    package let group: String
    /// `heads` or `neurons`.
    package let kind: String
    /// Units of each model.
    package let units: Int
    /// Units that both share in the merged model.
    package let shared: Int
    /// Units of the merged model.
    package let merged: Int
    /// The mean correlation of the pairs, those that stay apart included.
    package let correlation: Double
  }

  /// The merged model.
  package let graph: Graph
  /// The groups.
  package let rows: [Row]
  /// How far the layers are from the mean of both models' features.
  package let layers: [LayerFit.Row]

  /// Merges `second` into `first`, of one architecture.
  ///
  /// - Throws: ``PassError`` when an option is out of range, there are no data, or a run fails.
  package init(
    _ first: Graph, _ second: Graph, options: Options, in context: borrowing PassContext
  ) throws(PassError) {
    guard (1...2).contains(options.budget) else {
      throw .option(name: "--budget", expected: "1 to 2", found: "\(options.budget)")
    }
    guard options.ridge > 0, options.ridge.isFinite else {
      throw .option(name: "--ridge", expected: "a positive number", found: "\(options.ridge)")
    }
    let aligned = try WeightMatching(second, to: first, in: context).graph
    let matching = try FeatureMatching(
      first, aligned, groups: first.permutableGroups().filter { $0.canGrow(in: first) },
      in: context)
    let layouts = matching.matches.map { match in
      PartialLayout(
        match.group, similarities: match.similarities,
        separating: Int(
          ((options.budget - 1) * Double(match.group.group.unitCount)).rounded()))
    }
    let start = try Self.widened(first, matching.second, layouts)
    let fit = try LayerFit.solve(
      first, matching.second, merged: start, layouts, ridge: options.ridge, in: context)
    graph = fit.graph
    layers = fit.rows
    rows = zip(matching.matches, layouts).map { match, layout in
      let group = match.group.group
      return Row(
        group: group.name, kind: group.kind.rawValue, units: group.unitCount,
        shared: layout.shared.count / group.unit, merged: layout.width / group.unit,
        correlation: match.similarities.reduce(0, +) / Double(max(group.unitCount, 1)))
    }
  }

  /// The mean of both graphs, with the channels that each keeps for itself.
  private static func widened(
    _ first: Graph, _ second: Graph, _ layouts: [PartialLayout]
  ) throws(PassError) -> Graph {
    var result = try Merging.average([first, second])
    do {
      for layout in layouts where !layout.separate.isEmpty {
        for member in layout.group.group.members {
          guard var parameter = result.parameter(member.parameter),
            let own = first.parameter(member.parameter)?.tensor,
            let theirs = second.parameter(member.parameter)?.tensor
          else { continue }
          let isWeight = first.nodes.contains { node in
            node.op is Linear && node.inputs[1] == member.parameter
          }
          parameter.tensor = layout.merged(
            parameter.tensor, own, theirs, axis: member.axis, halves: isWeight && member.axis == 1)
          try result.setParameter(member.parameter, parameter)
        }
      }
      try result.inferTypes()
    } catch {
      throw .graph(pass: Merging.name, error)
    }
    return result
  }
}
