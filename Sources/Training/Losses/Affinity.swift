import GraphIR

/// Affinity mimicking: the student's similarities within a batch become those of the teacher.
///
/// `L = 1/2 (KL(Â_I2T, A_I2T) + KL(Â_T2I, A_T2I))` with `A_I2T = softmax(a I Tᵀ)` by rows and
/// `A_T2I = softmax(a T Iᵀ)`; hats are the teacher's. The paper's cross entropy less the teacher's
/// entropy: the same gradients, and zero when the student equals the teacher. Widths may differ.
/// The paper's scripts set both factors `a` and `â` to 50.
///
/// - Source: Wu et al., "TinyCLIP: CLIP Distillation via Affinity Mimicking and Weight Inheritance",
///   ICCV 2023, arXiv:2309.12314.
package struct AffinityLoss: DistillationLoss {
  package static let name = "affinity"

  /// Makes the loss.
  package init() {}

  package func value(
    of operands: LossOperands, _ builder: inout GraphBuilder
  ) throws(GraphError) -> Value {
    let student = operands.student
    let teacher = try require(operands.teacher, "teacher")
    let scale = operands.affinityScale ?? operands.studentScale
    let teacherScale = try require(
      operands.affinityScale ?? operands.teacherScale, "teacher's logit scale")
    let images = try builder.divergence(
      teacher: try builder.logits(teacher.image, teacher.text, scale: teacherScale),
      student: try builder.logits(student.image, student.text, scale: scale))
    let texts = try builder.divergence(
      teacher: try builder.logits(teacher.text, teacher.image, scale: teacherScale),
      student: try builder.logits(student.text, student.image, scale: scale))
    return try builder.mean(images, texts)
  }
}
