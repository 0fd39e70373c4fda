import GraphIR
import Operators
import TensorCore

/// What a model makes of a batch of pairs, as values of a graph.
package struct PairEmbeddings: Sendable {
  /// Image embeddings of length one, `[batch, width]`.
  package var image: Value
  /// Text embeddings of length one, `[texts, width]`, as many as images.
  package var text: Value
  /// Image embeddings before they are normalized.
  package var rawImage: Value
  /// Text embeddings before they are normalized.
  package var rawText: Value

  /// Names the values.
  package init(image: Value, text: Value, rawImage: Value, rawText: Value) {
    self.image = image
    self.text = text
    self.rawImage = rawImage
    self.rawText = rawText
  }
}

/// What losses are made of.
package struct LossOperands: Sendable {
  /// What the student makes of the batch.
  package var student: PairEmbeddings
  /// The student's factor from cosine to logit, a scalar.
  package var studentScale: Value
  /// What the teacher makes of the batch, where there is one.
  package var teacher: PairEmbeddings?
  /// The teacher's factor from cosine to logit, a scalar.
  package var teacherScale: Value?
  /// The factor that the affinity loss uses for both models; nil for each model's own.
  package var affinityScale: Value?
  /// The student's embeddings in the teacher's space; those of ``student`` where the spaces have
  /// the same width.
  package var projected: PairEmbeddings?
  /// The direction that each image's embedding shall have, rows of length one.
  package var directions: Value?
  /// The teacher's class embeddings, rows of length one.
  package var classes: Value?

  /// Names what every loss needs.
  package init(student: PairEmbeddings, studentScale: Value) {
    self.student = student
    self.studentScale = studentScale
  }
}

/// A number that says how far a student is from what it shall become.
package protocol DistillationLoss: Sendable {
  /// The name on the command line.
  static var name: String { get }

  /// Whether it compares with a teacher.
  static var needsTeacher: Bool { get }

  /// Adds the loss, a scalar.
  func value(
    of operands: LossOperands, _ builder: inout GraphBuilder
  ) throws(GraphError) -> Value
}

extension DistillationLoss {
  package static var needsTeacher: Bool { true }

  /// The operands of a loss that compares with a teacher.
  func require<Operand>(
    _ operand: Operand?, _ what: String
  ) throws(GraphError) -> Operand {
    guard let operand else { throw .invariant(node: "loss \(Self.name)", "has no \(what)") }
    return operand
  }
}

extension GraphBuilder {
  /// `scale * a bᵀ` for rows `a` and `b` and a scalar `scale`.
  mutating func logits(_ a: Value, _ b: Value, scale: Value) throws(GraphError) -> Value {
    let cosines = try add(MatMul(transposesB: true), a, b)
    return try product(cosines, try add(Broadcast(over: .all), scale, cosines))
  }

  /// The mean over rows of the Kullback-Leibler divergence of `softmax(student)` from
  /// `softmax(teacher)`.
  mutating func divergence(teacher: Value, student: Value) throws(GraphError) -> Value {
    let target = try add(Softmax(), teacher)
    let gap = try difference(try add(LogSoftmax(), teacher), try add(LogSoftmax(), student))
    let rows = try add(Sum(over: .last), try product(target, gap))
    return try add(Sum(over: .all, isMean: true), rows)
  }

  /// The mean over rows of the cross entropy of `softmax(logits)` with the diagonal.
  mutating func diagonalCrossEntropy(_ logits: Value) throws(GraphError) -> Value {
    let diagonal = try add(Diagonal(), try add(LogSoftmax(), logits))
    return try scaled(try add(Sum(over: .all, isMean: true), diagonal), by: -1)
  }

  /// The mean of two scalars.
  mutating func mean(_ a: Value, _ b: Value) throws(GraphError) -> Value {
    try scaled(try sum(a, b), by: 0.5)
  }
}
