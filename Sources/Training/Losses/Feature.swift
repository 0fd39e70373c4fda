import GraphIR
import Operators

/// The mean squared error of the student's embeddings against the teacher's, images plus texts.
///
/// Embeddings have length one and the mean is over their elements, so that the loss is small; the
/// paper weights it with 2000.
///
/// - Source: Yang et al., "CLIP-KD: An Empirical Study of CLIP Model Distillation", CVPR 2024,
///   arXiv:2307.12732.
package struct FeatureLoss: DistillationLoss {
  package static let name = "feature"

  /// Makes the loss.
  package init() {}

  package func value(
    of operands: LossOperands, _ builder: inout GraphBuilder
  ) throws(GraphError) -> Value {
    let student = try require(operands.projected, "embeddings in the teacher's space")
    let teacher = try require(operands.teacher, "teacher")
    func error(_ a: Value, _ b: Value) throws(GraphError) -> Value {
      let gap = try builder.difference(a, b)
      return try builder.add(Sum(over: .all, isMean: true), try builder.product(gap, gap))
    }
    let images = try error(student.image, teacher.image)
    return try builder.sum(images, try error(student.text, teacher.text))
  }
}
