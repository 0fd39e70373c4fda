import GraphIR
import Operators
import TensorCore

/// One expert of every mixture, trained as the feed-forward parts of a dense model.
///
/// All tokens go through that expert; everything else stays as it is.
///
/// - Source: Zhang et al., "CLIP-MoE: Towards Building Mixture of Experts for CLIP with Diversified
///   Multiplet Upcycling", 2024, arXiv:2409.19291.
package final class ExpertForm: TrainedForm {
  package let graph: Graph
  package let weights: [String]
  private let source: Graph
  private let routing: RoutingTraining

  /// Trains an expert of `source`.
  ///
  /// - Parameters:
  ///   - source: a model with mixtures of experts, its weights float32.
  ///   - dense: the model in which the expert stands for each mixture, its parameters' names those of
  ///     `source`.
  ///   - routing: the dropout in the expert.
  /// - Throws: ``GraphError`` when the experts are codes.
  package init(
    _ source: Graph, as dense: Graph, routing: RoutingTraining = RoutingTraining()
  ) throws(GraphError) {
    self.source = source
    self.routing = routing
    let experts = source.expertParameterNames
    graph = try routing.applied(to: dense) { experts.contains($0) }
    weights = dense.parameterValues.map { dense.name(of: $0) }.filter { experts.contains($0) }
    for name in weights {
      guard source.parameter(named: name)?.tensor.dtype == .float32 else {
        throw .parameter(name: name, expected: "float32 to be trained", found: "codes")
      }
    }
  }

  package func inputs(atStep step: Int, seed: UInt64) -> [String: Tensor] {
    routing.inputs(atStep: step, seed: seed)
  }

  package func prepare(gradients: ParameterBlock) { clearMasked(gradients) }

  package func constrain(weights: ParameterBlock, controls: ParameterBlock) {
    clearMasked(weights)
  }

  private func clearMasked(_ block: ParameterBlock) {
    for name in weights { block.clear(name, whereHiddenBy: source.parameter(named: name)?.mask) }
  }

  package func result(
    weights: ParameterBlock, controls: ParameterBlock
  ) throws(GraphError) -> Graph {
    var graph = source
    for entry in weights.entries {
      guard let value = graph.value(named: entry.name), var parameter = graph.parameter(value)
      else { continue }
      parameter.tensor = weights.tensor(of: entry)
      try graph.setParameter(value, parameter)
    }
    return graph
  }
}

extension Graph {
  /// The names of the weights and biases of all experts.
  var expertParameterNames: Set<String> {
    Set(
      expertLayers.flatMap { layer in
        (0..<layer.expertCount).flatMap { layer.parameters(ofExpert: $0) }
      }.map { name(of: $0) })
  }
}
