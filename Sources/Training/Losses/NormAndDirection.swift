import GraphIR
import Operators

/// Pulls each image's embedding, before it is normalized, to the teacher's norm at least and into
/// the direction of its class: `L = mean(1 - <s, e> / max(|s|, |t|))`.
///
/// The direction `e` is the normalized mean of the teacher's embeddings of the class; for pairs
/// without classes the teacher's embedding of the caption.
///
/// - Source: Wang et al., "Improving Knowledge Distillation via Regularizing Feature Norm and
///   Direction", arXiv:2305.17007.
package struct NormAndDirectionLoss: DistillationLoss {
  package static let name = "norm-direction"

  /// Makes the loss.
  package init() {}

  package func value(
    of operands: LossOperands, _ builder: inout GraphBuilder
  ) throws(GraphError) -> Value {
    let student = try require(operands.projected, "embeddings in the teacher's space").rawImage
    let teacher = try require(operands.teacher, "teacher").rawImage
    let direction = try require(operands.directions, "directions")
    func square(_ x: Value) throws(GraphError) -> Value {
      try builder.add(Sum(over: .last), try builder.product(x, x))
    }
    // The larger of two squares: b + max(a - b, 0).
    let own = try square(student)
    let other = try square(teacher)
    let excess = try builder.add(Clamp(0), try builder.difference(own, other))
    let inverseNorm = try builder.add(ReciprocalSquareRoot(), try builder.sum(other, excess))
    let along = try builder.add(Sum(over: .last), try builder.product(student, direction))
    let agreement = try builder.add(
      Sum(over: .all, isMean: true), try builder.product(along, inverseNorm))
    return try builder.add(Offset(by: 1), try builder.scaled(agreement, by: -1))
  }
}
