import GraphIR

/// Interactive contrastive learning: the student's images are told apart by the teacher's texts,
/// and its texts by the teacher's images.
///
/// `L = 1/2 (CE(a I T̂ᵀ, diagonal) + CE(a T Îᵀ, diagonal))`.
///
/// - Source: Yang et al., "CLIP-KD: An Empirical Study of CLIP Model Distillation", CVPR 2024,
///   arXiv:2307.12732.
package struct InteractiveLoss: DistillationLoss {
  package static let name = "interactive"

  /// Makes the loss.
  package init() {}

  package func value(
    of operands: LossOperands, _ builder: inout GraphBuilder
  ) throws(GraphError) -> Value {
    let student = try require(operands.projected, "embeddings in the teacher's space")
    let teacher = try require(operands.teacher, "teacher")
    let scale = operands.studentScale
    let images = try builder.logits(student.image, teacher.text, scale: scale)
    let texts = try builder.logits(student.text, teacher.image, scale: scale)
    return try builder.mean(
      try builder.diagonalCrossEntropy(images), try builder.diagonalCrossEntropy(texts))
  }
}
