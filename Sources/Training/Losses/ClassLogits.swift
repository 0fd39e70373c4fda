import GraphIR
import Operators
import TensorCore

/// PromptKD: the student's images get the teacher's probabilities over stored class embeddings.
///
/// `L = τ² KL(softmax(â Î Wᵀ / τ), softmax(a I Wᵀ / τ)) / C`, a mean over the images; `W` holds the
/// teacher's embeddings of `C` classes. The division by `C` is why the paper weights it with 1000.
///
/// - Source: Li et al., "PromptKD: Unsupervised Prompt Distillation for Vision-Language Models",
///   CVPR 2024, arXiv:2403.02781.
package struct ClassLogitsLoss: DistillationLoss {
  package static let name = "promptkd"

  /// τ, by which logits are divided.
  package let temperature: Float

  /// Makes the loss.
  package init(temperature: Float = 1) { self.temperature = temperature }

  package func value(
    of operands: LossOperands, _ builder: inout GraphBuilder
  ) throws(GraphError) -> Value {
    let student = try require(operands.projected, "embeddings in the teacher's space")
    let teacher = try require(operands.teacher, "teacher")
    let classes = try require(operands.classes, "class embeddings")
    func logits(_ images: Value, _ scale: Value) throws(GraphError) -> Value {
      try builder.logits(images, classes, scale: try builder.scaled(scale, by: 1 / temperature))
    }
    let divergence = try builder.divergence(
      teacher: try logits(
        teacher.image, try require(operands.teacherScale, "teacher's logit scale")),
      student: try logits(student.image, operands.studentScale))
    let count = builder.graph.tensorType(of: classes).extents[0].fixedCount ?? 1
    return try builder.scaled(divergence, by: temperature * temperature / Float(count))
  }
}
