import Execution
import GraphIR
import Operators
import TensorCore

/// Runs a batch in parts and leaves the gradient of the whole batch's loss, exactly.
///
/// Embeddings of all parts are computed first; the loss and its gradient with respect to the
/// embeddings are those of the whole batch; then each part is run again and passes its embeddings'
/// gradients back. Memory is that of one part.
///
/// - Source: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup",
///   RepL4NLP 2021, arXiv:2101.06983.
final class CachedStepEngine: StepEngine {
  private static let names = ["image", "text", "raw_image", "raw_text"]

  private let partCount: Int
  private let threadCount: Int
  private let forward: Executor
  private let forwardNames: [String]
  private let teacher: Executor?
  private let teacherNames: [String]
  private let loss: Executor
  private let lossName: String
  private let termNames: [String]
  private let seedNames: [String: String]
  private let backward: Executor
  private let shown: [String]
  private let blocks: StepBlocks
  /// Where a part leaves its gradients before they are added up.
  private let partial: StepBlocks
  private let penaltyName: String?

  init(
    _ form: any TrainedForm, _ objective: Objective, _ blocks: StepBlocks, partCount: Int,
    recomputes: Bool, threadCount: Int
  ) throws(ExecutionError) {
    self.partCount = partCount
    self.threadCount = threadCount
    self.blocks = blocks
    shown = form.shown.map(\.value)
    partial = StepBlocks(
      weights: blocks.weights, controls: blocks.controls,
      gradients: ParameterBlock(like: blocks.gradients),
      controlGradients: ParameterBlock(like: blocks.controlGradients))
    do throws(GraphError) {
      let own = try form.graph.pairing()
      let student = try own.pairEmbeddings()
      let values = [student.image, student.text, student.rawImage, student.rawText]
      forwardNames = values.map { own.name(of: $0) }

      var teacherGraph: Graph?
      var taught: [String] = []
      if case .graph(let graph) = objective.teacher {
        let early = try graph.pairing()
        let pair = try early.pairEmbeddings()
        taught = [pair.image, pair.text, pair.rawImage, pair.rawText].map { early.name(of: $0) }
        teacherGraph = early
      }
      teacherNames = taught
      let lossGraph = try LossGraph(own, values, objective)
      lossName = lossGraph.loss
      termNames = lossGraph.terms
      seedNames = lossGraph.gradients.filter { Self.names.contains($0.key) }
      let backwardGraph = try BackwardGraph(form, own, values, recomputes: recomputes)
      penaltyName = backwardGraph.penalty

      do throws(ExecutionError) {
        let memory = blocks.memory(for: own, gradients: [:])
        forward = try Executor(
          own, outputs: Self.unique(forwardNames), threadCount: threadCount, memory: memory)
        if let teacherGraph {
          teacher = try Executor(
            teacherGraph, outputs: Self.unique(teacherNames), threadCount: threadCount)
        } else {
          teacher = nil
        }
        loss = try Executor(
          lossGraph.graph,
          outputs: Self.unique([lossName] + termNames + lossGraph.gradients.values.sorted()),
          threadCount: threadCount,
          memory: blocks.memory(for: lossGraph.graph, gradients: lossGraph.gradients))
        backward = try Executor(
          backwardGraph.graph,
          outputs: Self.unique(
            backwardGraph.gradients.values.sorted() + shown
              + [backwardGraph.penalty].compactMap { $0 }), threadCount: threadCount,
          memory: partial.memory(for: backwardGraph.graph, gradients: backwardGraph.gradients))
      } catch {
        throw GraphError.invariant(node: "step", error.description)
      }
    } catch {
      throw .graph(error)
    }
  }

  private static func unique(_ names: [String]) -> [String] {
    var seen = Set<String>()
    return names.filter { seen.insert($0).inserted }
  }

  var arenaByteCount: Int {
    forward.arenaByteCount + backward.arenaByteCount + loss.arenaByteCount
      + (teacher?.arenaByteCount ?? 0)
  }

  func run(_ inputs: [String: Tensor]) throws(ExecutionError) -> StepMeasurement {
    let parts = try split(inputs)
    var embeddings: [[Tensor]] = [[], [], [], []]
    var teachers: [[Tensor]] = [[], [], [], []]
    for part in parts {
      let made = try forward.run(part)
      for (index, name) in forwardNames.enumerated() {
        if let tensor = made[name] { embeddings[index].append(tensor) }
      }
      guard let teacher else { continue }
      let taught = try teacher.run(part)
      for (index, name) in teacherNames.enumerated() {
        if let tensor = taught[name] { teachers[index].append(tensor) }
      }
    }
    var lossInputs = inputs.filter { loss.graph.value(named: $0.key) != nil }
    for (name, tensors) in zip(Self.names, embeddings) {
      lossInputs["student." + name] = Tensor.joined(tensors)
    }
    if teacher != nil {
      for (name, tensors) in zip(
        ["image_embeds", "text_embeds", "raw_image", "raw_text"], teachers)
      { lossInputs[TrainingName.teacherPrefix + name] = Tensor.joined(tensors) }
    }
    blocks.gradients.clear()
    blocks.controlGradients.clear()
    let measured = try loss.run(lossInputs)
    var shownValues: [Double] = []
    var price = 0.0
    for (index, part) in parts.enumerated() {
      var seeded = part
      for (name, tensors) in zip(Self.names, embeddings) {
        let rows = tensors[index].shape[0]
        let first = tensors[..<index].reduce(0) { $0 + $1.shape[0] }
        let seed = seedNames[name].flatMap { measured[$0] }
        seeded["seed." + name] =
          seed?.selecting(Array(first..<(first + rows)), onAxis: 0)
          ?? Tensor(shape: tensors[index].shape, of: Float.self) { _ in }
      }
      if penaltyName != nil { seeded["seed.penalty"] = Tensor(scalar: index == 0 ? 1 : 0) }
      let results = try backward.run(seeded)
      if index == 0 {
        shownValues = shown.map { name in
          results[name].map { Double($0.elements(of: Float.self)[0]) } ?? .nan
        }
        price =
          penaltyName.flatMap { results[$0] }.map { Double($0.elements(of: Float.self)[0]) } ?? 0
      }
      for (sum, part) in [
        (blocks.gradients, partial.gradients),
        (blocks.controlGradients, partial.controlGradients),
      ] {
        for index in sum.elements.indices { sum.elements[index] += part.elements[index] }
      }
    }
    func scalar(_ name: String) -> Double {
      measured[name].map { Double($0.elements(of: Float.self)[0]) } ?? .nan
    }
    return StepMeasurement(
      loss: scalar(lossName) + price, terms: termNames.map(scalar), shown: shownValues,
      batchTop1: batchTop1(
        student: embeddings.prefix(2).map(Tensor.joined),
        teacher: ["image_embeds", "text_embeds"].compactMap {
          lossInputs[TrainingName.teacherPrefix + $0]
        }, threadCount: threadCount))
  }

  func firstNonFinite(_ inputs: [String: Tensor]) throws(ExecutionError) -> String {
    for part in try split(inputs) {
      if let name = try forward.firstNonFinite(part) { return name }
    }
    return "the loss or a gradient"
  }

  /// The inputs of each part; what has no row for each pair goes to all.
  private func split(_ inputs: [String: Tensor]) throws(ExecutionError) -> [[String: Tensor]] {
    guard let count = inputs["pixel_values"]?.shape.first else {
      throw .missingInput("pixel_values")
    }
    return (0..<partCount).map { part in
      let rows = Array((count * part / partCount)..<(count * (part + 1) / partCount))
      var result = inputs.filter { $0.key != TrainingName.classIndices }
      for name in ["pixel_values", "input_ids"] {
        result[name] = inputs[name]?.selecting(rows, onAxis: 0)
      }
      return result
    }.filter { ($0["pixel_values"]?.shape.first ?? 0) > 0 }
  }
}

/// The losses of a batch from embeddings that are inputs.
private struct LossGraph {
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
private struct BackwardGraph {
  let graph: Graph
  let gradients: [String: String]
  let penalty: String?

  init(
    _ form: any TrainedForm, _ student: Graph, _ values: [Value], recomputes: Bool
  ) throws(GraphError) {
    var builder = GraphBuilder(student, scope: "penalty")
    var seeds: [(value: Value, gradient: Value)] = []
    let penalty = try form.penalty(&builder)
    var graph = builder.graph
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
    var gradients: [String: String] = [:]
    var taken = Set<Value>()
    builder = GraphBuilder(graph, scope: "gradient")
    for (name, value) in zip(names, made) {
      guard var value else { continue }
      if !taken.insert(value).inserted { value = try builder.add(Scale(by: 1), value) }
      gradients[name] = builder.graph.name(of: value)
    }
    self.graph = builder.graph
    self.gradients = gradients
    self.penalty = penalty.map { graph.name(of: $0) }
  }
}

extension Tensor {
  /// Tensors joined along their first axis.
  static func joined(_ parts: [Tensor]) -> Tensor {
    guard let first = parts.first else { return Tensor(shape: [0], [Float]()) }
    let rows = parts.reduce(0) { $0 + $1.shape[0] }
    return Tensor(
      dtype: first.dtype, shape: [rows] + first.shape.dropFirst()
    ) { target in
      var start = 0
      for part in parts {
        part.withBytes { bytes in
          UnsafeMutableRawBufferPointer(rebasing: target[start...]).copyMemory(from: bytes)
        }
        start += part.byteCount
      }
    }
  }
}
