import GraphIR
import Operators
import TensorCore

/// The losses of a batch from embeddings that are inputs.
struct LossGraph {
  let graph: Graph
  let loss: String
  let terms: [String]
  /// By the parameter, or by which of the embeddings.
  let gradients: [String: String]

  init(
    _ student: Graph, _ values: [Value], _ objective: Objective
  ) throws(GraphError) {
    var graph = Graph()
    var inputs: [Value] = []
    for (name, value) in zip(["image", "text", "raw_image", "raw_text"], values) {
      inputs.append(try graph.addInput("student." + name, student.tensorType(of: value)))
    }
    if let scale = student.parameter(named: TrainingName.logitScale) {
      _ = try graph.addParameter(TrainingName.logitScale, Parameter(scale.materialized))
    }
    let pair = PairEmbeddings(
      image: inputs[0], text: inputs[1], rawImage: inputs[2], rawText: inputs[3])
    var builder = GraphBuilder(graph, scope: "loss")
    var kind = objective.teacher
    var givesRaw = false
    if case .graph(let teacher) = kind {
      kind = .stored(width: teacher.embeddingWidth ?? 1)
      givesRaw = true
    }
    let teacher = try TrainingGraph.addTeacher(
      kind, like: pair, givesRaw: givesRaw, &builder)
    let operands = try objective.operands(student: pair, teacher: teacher, &builder)
    let (total, terms) = try objective.losses.value(of: operands, &builder)
    graph = builder.graph
    var names = ["image", "text", "raw_image", "raw_text"]
    var targets = inputs
    for (name, isTrained) in [
      (TrainingName.projection, true), (TrainingName.logitScale, objective.trainsScale),
    ] where isTrained {
      if let value = graph.value(named: name) {
        names.append(name)
        targets.append(value)
      }
    }
    let made = try graph.addGradients(of: total, withRespectTo: targets)
    var gradients: [String: String] = [:]
    for (name, value) in zip(names, made) {
      if let value { gradients[name] = graph.name(of: value) }
    }
    self.graph = graph
    loss = graph.name(of: total)
    self.terms = terms.map { graph.name(of: $0) }
    self.gradients = gradients
  }
}

/// The student's gradients from those of its embeddings.
struct BackwardGraph {
  let graph: Graph
  let gradients: [String: String]
  let penalty: String?

  init(
    _ form: any TrainedForm, _ student: Graph, _ values: [Value], penalty: Value?,
    recomputes: Bool, gradientBitCount: Int?
  ) throws(GraphError) {
    var seeds: [(value: Value, gradient: Value)] = []
    var graph = student
    for (name, value) in zip(["image", "text", "raw_image", "raw_text"], values) {
      seeds.append((value, try graph.addInput("seed." + name, graph.tensorType(of: value))))
    }
    if let penalty {
      seeds.append((penalty, try graph.addInput("seed.penalty", graph.tensorType(of: penalty))))
    }
    let names = form.weights + form.controls.map(\.name)
    let targets = names.compactMap { graph.value(named: $0) }
    let made = try graph.addGradients(
      of: seeds, withRespectTo: targets,
      keeping: recomputes ? TrainingGraph.blockValues(of: student) : nil)
    var builder = GraphBuilder(graph, scope: "gradient")
    gradients = try TrainingGraph.gradientNames(of: names, made, &builder)
    self.penalty = penalty.map { graph.name(of: $0) }
    self.graph =
      try gradientBitCount.map { bits throws(GraphError) in
        try builder.graph.quantizingLinearGradients(bitCount: bits)
      } ?? builder.graph
  }
}
