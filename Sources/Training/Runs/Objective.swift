import GraphIR
import Operators
import TensorCore

/// What a run minimizes.
package struct Objective: Sendable {
  /// Where the teacher's embeddings come from.
  package enum Teacher: Sendable {
    /// There is none.
    case none
    /// A graph that embeds the batch along with the student.
    case graph(Graph)
    /// Inputs of every step: embeddings of this width, computed before.
    case stored(width: Int)
  }

  /// The losses.
  package var losses: LossMixture
  /// The teacher.
  package var teacher: Teacher
  /// The teacher's factor from cosine to logit.
  package var teacherScale: Float
  /// The factor of both models in the affinity loss; nil for the teacher's own and the student's.
  package var affinityScale: Float?
  /// Whether the student's factor is trained.
  package var trainsScale: Bool
  /// The teacher's class embeddings, `[classes, width]`, where a loss compares with them.
  package var classes: Tensor?
  /// The directions of the classes, `[classes, width]`; nil for those of the captions.
  package var directions: Tensor?
  /// Whether a trained map takes the student's embeddings to the teacher's space.
  package var projects: Bool

  /// Minimizes `losses` against `teacher`.
  package init(losses: LossMixture, teacher: Teacher) {
    self.losses = losses
    self.teacher = teacher
    teacherScale = 1
    trainsScale = false
    projects = false
  }
}

/// The names of values in graphs of training.
enum TrainingName {
  static let teacherPrefix = "teacher."
  static let projection = "projection.weight"
  static let logitScale = "logit_scale"
  static let classIndices = "class_indices"
  static let gradientSeed = "gradient_seed"
  static let dropoutSeed = "dropout_seed"
}

extension Objective {
  /// The operands of the losses, added around the student's embeddings.
  ///
  /// - Parameters:
  ///   - student: the student's embeddings in the builder's graph.
  ///   - teacher: the teacher's, where there is one.
  ///   - builder: where parameters and inputs of the losses are added.
  /// - Returns: What every loss can ask for.
  /// - Throws: ``GraphError`` when a name is taken.
  func operands(
    student: PairEmbeddings, teacher: PairEmbeddings?, _ builder: inout GraphBuilder
  ) throws(GraphError) -> LossOperands {
    let logarithm: Value
    if let own = builder.graph.value(named: TrainingName.logitScale) {
      logarithm = own
    } else {
      logarithm = try builder.graph.addParameter(
        TrainingName.logitScale, Parameter(Tensor(scalar: Float.log(teacherScale))))
    }
    var operands = LossOperands(
      student: student, studentScale: try builder.add(Exponential(), logarithm))
    if let affinityScale {
      operands.affinityScale = try builder.graph.addParameter(
        "affinity_scale", Parameter(Tensor(scalar: affinityScale)))
    }
    if let teacher {
      operands.teacher = teacher
      operands.teacherScale = try builder.graph.addParameter(
        "teacher_scale", Parameter(Tensor(scalar: teacherScale)))
      operands.projected = try projected(student, teacher, &builder)
      operands.directions = teacher.text
    }
    if let classes {
      operands.classes = try builder.graph.addParameter("classes", Parameter(classes))
    }
    if let directions, losses.contains(NormAndDirectionLoss.self) {
      let table = try builder.graph.addParameter("directions", Parameter(directions))
      let rows = builder.graph.tensorType(of: student.image).extents[0]
      let ids = try builder.graph.addInput(
        TrainingName.classIndices, TensorType(.int32, [rows, 1]))
      let looked = try builder.add(Embedding(), ids, table)
      operands.directions = try builder.add(SelectToken(index: 0), looked)
    }
    return operands
  }

  private func projected(
    _ student: PairEmbeddings, _ teacher: PairEmbeddings, _ builder: inout GraphBuilder
  ) throws(GraphError) -> PairEmbeddings? {
    let graph = builder.graph
    guard let from = graph.tensorType(of: student.image).extents[1].fixedCount,
      let to = graph.tensorType(of: teacher.image).extents[1].fixedCount
    else { return nil }
    guard projects else { return from == to ? student : nil }
    var random = SplitMix64(seed: 0x5EED)
    let scale = 1 / Double(from).squareRoot()
    let weight = try builder.graph.addParameter(
      TrainingName.projection,
      Parameter(
        Tensor(
          shape: [to, from],
          (0..<(to * from)).map { _ in Float(random.nextNormal() * scale) })))
    let image = try builder.add(Linear(), student.rawImage, weight)
    let text = try builder.add(Linear(), student.rawText, weight)
    return PairEmbeddings(
      image: try builder.add(L2Normalize(), image), text: try builder.add(L2Normalize(), text),
      rawImage: image, rawText: text)
  }
}
