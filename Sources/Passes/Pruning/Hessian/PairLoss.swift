import GraphIR
import Operators
import TensorCore

/// A model with the loss of telling images and texts apart, as a graph that can be differentiated
/// twice.
///
/// A candidate's embedding is the normalized mean of its texts' embeddings. With logits
/// `S = a Î Ĉᵀ` of images `Î`, candidates `Ĉ` and the model's factor `a`, the loss is the cross
/// entropy of the rows of `softmax(S)` with target distributions, a mean over the images. For
/// captions it is the mean of that and of the same for the columns, a mean over the candidates.
///
/// - Source: Radford et al., ICML 2021, arXiv:2103.00020, for both tasks' logits.
package struct PairLoss: Sendable {
  /// What the distributions of the targets are.
  package enum Targets: String, Codable, Sendable, CaseIterable {
    /// The candidate that an image belongs to; the images that belong to a candidate.
    case labels
    /// What the model itself says, held fast: its gradient is zero, and its second derivative is
    /// the Gauss-Newton matrix, which has no negative direction.
    case distillation
  }

  /// The input that takes, for each candidate, the weights of the texts: `[candidates, texts]`.
  package static let mixtureName = "pair_mixture"
  /// The input that takes the target distributions of images, `[batch, candidates]`.
  package static let targetsName = "pair_targets"
  /// The input that takes the target distributions of candidates, `[candidates, batch]`.
  package static let reverseTargetsName = "pair_reverse_targets"

  /// The model and its loss.
  package let graph: Graph
  /// The loss, a scalar.
  package let loss: Value
  /// The logits, `[batch, candidates]`.
  package let logits: Value
  /// Whether candidates are told apart by their images too.
  package let isSymmetric: Bool

  /// Adds the loss of `task` to `model`.
  ///
  /// - Throws: ``GraphError`` when the model lacks a tower.
  package init(_ model: Graph, task: PairSet.Task) throws(GraphError) {
    let model = try model.selectingEarly()
    guard let images = model.output(named: "image_embeds") else {
      throw .unknownName("image_embeds")
    }
    guard let texts = model.output(named: "text_embeds") else { throw .unknownName("text_embeds") }
    isSymmetric = task == .retrieval
    var builder = GraphBuilder(model, scope: "pair")
    let count = Extent.symbol("candidates")
    let batch = model.tensorType(of: images).extents[0]
    let textCount = model.tensorType(of: texts).extents[0]
    let mixture = try builder.graph.addInput(
      Self.mixtureName, TensorType(.float32, [count, textCount]))
    let targets = try builder.graph.addInput(
      Self.targetsName, TensorType(.float32, [batch, count]))
    let candidates = try builder.add(L2Normalize(), try builder.add(MatMul(), mixture, texts))
    let scale = model.logitScale ?? 1
    func product(_ a: Value, _ b: Value) throws(GraphError) -> Value {
      try builder.scaled(try builder.add(MatMul(transposesB: true), a, b), by: scale)
    }
    func crossEntropy(_ logits: Value, _ targets: Value) throws(GraphError) -> Value {
      let terms = try builder.product(targets, try builder.add(LogSoftmax(), logits))
      let rows = try builder.add(Sum(over: .last), terms)
      return try builder.scaled(try builder.add(Sum(over: .all, isMean: true), rows), by: -1)
    }
    logits = try product(images, candidates)
    var loss = try crossEntropy(logits, targets)
    if isSymmetric {
      let reverse = try builder.graph.addInput(
        Self.reverseTargetsName, TensorType(.float32, [count, batch]))
      let columns = try crossEntropy(try product(candidates, images), reverse)
      loss = try builder.scaled(try builder.sum(loss, columns), by: 0.5)
    }
    self.loss = loss
    graph = builder.graph
  }
}
