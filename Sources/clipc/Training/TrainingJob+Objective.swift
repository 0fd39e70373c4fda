import Datasets
import Evaluation
import GraphIR
import Operators
import TensorCore
import Training

extension TrainingJob {
  /// What the run minimizes, with what the losses ask of the teacher beforehand.
  func objective(
    _ teacher: OpenedModel, _ student: Graph, _ inputs: inout TrainingInputs
  ) throws -> Objective {
    let losses = try LossMixture(parsing: loss)
    let graph = try teacher.graphModel(for: Self.name)
    let width = graph.graph.embeddingWidth ?? 0
    var kind = Objective.Teacher.none
    if losses.needsTeacher {
      kind = inputs.reinforced.map { .stored(width: $0.embeddingWidth) } ?? .graph(graph.graph)
    }
    var objective = Objective(losses: losses, teacher: kind)
    objective.teacherScale = graph.graph.logitScale ?? 1
    objective.affinityScale = training.affinityScale == "own" ? nil : Float(training.affinityScale)
    objective.trainsScale =
      losses.contains(ContrastiveLoss.self) || losses.contains(InteractiveLoss.self)
      || (losses.contains(AffinityLoss.self) && objective.affinityScale == nil)
    objective.projects = training.project
    if losses.contains(NormAndDirectionLoss.self), inputs.reinforced != nil {
      throw Failure(
        .usage,
        "the loss norm-direction compares norms, which stored embeddings do not have: leave "
          + "--reinforced out")
    }
    let compares =
      losses.contains(FeatureLoss.self) || losses.contains(InteractiveLoss.self)
      || losses.contains(NormAndDirectionLoss.self) || losses.contains(ClassLogitsLoss.self)
    if compares, student.embeddingWidth != width, !training.project {
      throw Failure(
        .malformedInput,
        "the student's embeddings have \(student.embeddingWidth ?? 0) channels and the teacher's "
          + "\(width): --project trains a map between them, and the losses affinity and "
          + "contrastive need none")
    }
    guard losses.contains(ClassLogitsLoss.self) || losses.contains(NormAndDirectionLoss.self)
    else { return objective }
    let names = inputs.dataset.classNames
    let encoder = try ModelInputs(teacher, threadCount: common.threads)
    if losses.contains(ClassLogitsLoss.self) {
      guard !names.isEmpty else {
        throw Failure(.usage, "the loss promptkd needs classes: an image folder, or --classes")
      }
      let prompts = try data.templates.map { try Prompts(file: $0) } ?? .standard
      let rows = try ZeroShot.classEmbeddings(names, templates: prompts, encoder)
      objective.classes = Tensor(shape: [names.count, width], rows.values)
    }
    if losses.contains(NormAndDirectionLoss.self), !names.isEmpty {
      objective.directions = try classMeans(encoder, inputs.dataset, width)
      inputs.givesClasses = true
    }
    return objective
  }

  /// The normalized mean of the teacher's embeddings of each class, over at most 64 images of each.
  private func classMeans(
    _ teacher: ModelInputs, _ dataset: Dataset, _ width: Int
  ) throws -> Tensor {
    let count = dataset.classNames.count
    var taken = [Int](repeating: 0, count: count)
    let chosen = try dataset.filtered {
      guard let index = $0.classIndex, index < count, taken[index] < 64 else { return false }
      taken[index] += 1
      return true
    }
    var sums = [Float](repeating: 0, count: count * width)
    try ImagePipeline.forEachDecoded(
      chosen, threads: common.threads, transform: try teacher.pixelFunction()
    ) { sample, result in
      guard let pixels = try? result.get(), let index = sample.classIndex else { return }
      let row = try teacher.encoder.encodeImages(pixels, count: 1)
      for k in 0..<width { sums[index * width + k] += row[k] }
    }
    return Tensor(
      shape: [count, width], Embeddings(width: width, values: sums).normalized().values)
  }
}
