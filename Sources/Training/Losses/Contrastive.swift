import GraphIR

/// CLIP's own loss: every image is told from the others by its text, and every text by its image.
///
/// `L = 1/2 (CE(a I Tᵀ, diagonal) + CE(a T Iᵀ, diagonal))`, a mean over the pairs.
///
/// - Source: Radford et al., "Learning Transferable Visual Models From Natural Language
///   Supervision", ICML 2021, arXiv:2103.00020.
package struct ContrastiveLoss: DistillationLoss {
  package static let name = "contrastive"
  package static let needsTeacher = false

  /// Makes the loss.
  package init() {}

  package func value(
    of operands: LossOperands, _ builder: inout GraphBuilder
  ) throws(GraphError) -> Value {
    let (pair, scale) = (operands.student, operands.studentScale)
    let images = try builder.logits(pair.image, pair.text, scale: scale)
    let texts = try builder.logits(pair.text, pair.image, scale: scale)
    return try builder.mean(
      try builder.diagonalCrossEntropy(images), try builder.diagonalCrossEntropy(texts))
  }
}
