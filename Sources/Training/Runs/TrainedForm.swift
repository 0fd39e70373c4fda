import GraphIR
import TensorCore

/// A student as it is trained: its graph, which of its parameters change, and how.
package protocol TrainedForm {
  /// The graph that is trained; it computes `image_embeds` and `text_embeds`.
  var graph: Graph { get }

  /// The float32 parameters of ``graph`` that follow the run's learning rate.
  var weights: [String] { get }

  /// Parameters of ``graph`` with a fixed learning rate of their own, such as masks and multipliers;
  /// a negative rate climbs.
  var controls: [(name: String, rate: Double)] { get }

  /// Adds a scalar that joins the loss, such as a price of size; nil for none.
  func penalty(_ builder: inout GraphBuilder) throws(GraphError) -> Value?

  /// Whether the penalty is that of a batch: the whole batch then has the mean over its parts.
  var penaltyIsOfBatch: Bool { get }

  /// Values of ``graph`` that the log shows at every step, each a scalar.
  var shown: [(label: String, value: String)] { get }

  /// Inputs of ``graph`` beside pixels and ids, such as noise, decided by seed and step alone.
  func inputs(atStep step: Int, seed: UInt64) -> [String: Tensor]

  /// Whether the graph computes with other numbers than the trained weights, those that
  /// ``begin(_:)`` leaves.
  var transformsWeights: Bool { get }

  /// Prepares a step: makes what the graph computes with from the trained weights where
  /// ``transformsWeights``, and sets controls that are computed.
  func begin(_ context: StepContext)

  /// Turns gradients with respect to what the graph computed with into those of the weights and the
  /// controls, before ``prepare(gradients:)``; called only where ``transformsWeights``.
  func pullBack(_ context: StepContext)

  /// Values of ``graph``, or of what ``penalty(_:)`` added, that ``observe(_:)`` is told of after each
  /// step; their extents are fixed.
  var observed: [String] { get }

  /// Takes in the elements of the values of ``observed``, one value behind the other, each the mean
  /// over the parts of the batch.
  func observe(_ values: [Float])

  /// Figures of the step that no graph computes, for the log.
  var measures: [(label: String, value: Double)] { get }

  /// What later steps depend on beside weights and controls, in a fixed order.
  var state: [NamedTensor] { get }

  /// Continues from `state`, which a form of the same configuration gave.
  func restore(_ state: [NamedTensor]) throws(TrainingStateError)

  /// Changes the gradients of the weights before they are clipped and used.
  func prepare(gradients: ParameterBlock)

  /// Restores after an update what has to hold, such as bounds.
  func constrain(weights: ParameterBlock, controls: ParameterBlock)

  /// The student's graph with what was trained.
  func result(weights: ParameterBlock, controls: ParameterBlock) throws(GraphError) -> Graph
}

extension TrainedForm {
  package var controls: [(name: String, rate: Double)] { [] }

  package func penalty(_ builder: inout GraphBuilder) throws(GraphError) -> Value? { nil }

  package var penaltyIsOfBatch: Bool { false }

  package var shown: [(label: String, value: String)] { [] }

  package func inputs(atStep step: Int, seed: UInt64) -> [String: Tensor] { [:] }

  package var transformsWeights: Bool { false }

  package func begin(_ context: StepContext) {}

  package func pullBack(_ context: StepContext) {}

  package var observed: [String] { [] }

  package func observe(_ values: [Float]) {}

  package var measures: [(label: String, value: Double)] { [] }

  package var state: [NamedTensor] { [] }

  package func restore(_ state: [NamedTensor]) throws(TrainingStateError) {
    let saved = try SavedTensors(state)
    try saved.finish()
  }

  package func prepare(gradients: ParameterBlock) {}

  package func constrain(weights: ParameterBlock, controls: ParameterBlock) {}
}
