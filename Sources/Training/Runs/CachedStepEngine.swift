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
  private let observed: [String]
  private let blocks: StepBlocks
  /// Where a part leaves its gradients before they are added up.
  private let partial: StepBlocks
  private let penaltyName: String?
  private let penaltyIsOfBatch: Bool

  init(
    _ form: any TrainedForm, _ objective: Objective, _ blocks: StepBlocks, partCount: Int,
    recomputes: Bool, gradientBitCount: Int? = nil, threadCount: Int,
    arithmetic: Arithmetic
  ) throws(ExecutionError) {
    self.partCount = partCount
    self.threadCount = threadCount
    self.blocks = blocks
    shown = form.shown.map(\.value)
    observed = form.observed
    penaltyIsOfBatch = form.penaltyIsOfBatch
    partial = StepBlocks(
      weights: blocks.weights, controls: blocks.controls,
      gradients: ParameterBlock(like: blocks.gradients),
      controlGradients: ParameterBlock(like: blocks.controlGradients))
    do throws(GraphError) {
      var builder = GraphBuilder(try form.graph.pairing(), scope: "penalty")
      let penalty = try form.penalty(&builder)
      let own = builder.graph
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
      let backwardGraph = try BackwardGraph(
        form, own, values, penalty: penalty, recomputes: recomputes,
        gradientBitCount: gradientBitCount)
      penaltyName = backwardGraph.penalty

      do throws(ExecutionError) {
        let memory = blocks.memory(for: own, gradients: [:])
        forward = try Executor(
          own, outputs: Self.unique(forwardNames + observed), threadCount: threadCount,
          arithmetic: arithmetic, memory: memory)
        if let teacherGraph {
          teacher = try Executor(
            teacherGraph, outputs: Self.unique(teacherNames), threadCount: threadCount,
            arithmetic: arithmetic)
        } else {
          teacher = nil
        }
        loss = try Executor(
          lossGraph.graph,
          outputs: Self.unique([lossName] + termNames + lossGraph.gradients.values.sorted()),
          threadCount: threadCount, arithmetic: arithmetic,
          memory: blocks.memory(for: lossGraph.graph, gradients: lossGraph.gradients))
        backward = try Executor(
          backwardGraph.graph,
          outputs: Self.unique(
            backwardGraph.gradients.values.sorted() + shown
              + [backwardGraph.penalty].compactMap { $0 }), threadCount: threadCount,
          arithmetic: arithmetic,
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
    var means: [Float] = []
    for part in parts {
      let made = try forward.run(part)
      let seen = observed.flatMap { made[$0]?.elements(of: Float.self) ?? [.nan] }
      if means.isEmpty { means = [Float](repeating: 0, count: seen.count) }
      for (index, value) in seen.enumerated() { means[index] += value / Float(parts.count) }
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
      let share = penaltyIsOfBatch ? 1 / Float(parts.count) : index == 0 ? 1 : 0
      if penaltyName != nil { seeded["seed.penalty"] = Tensor(scalar: share) }
      if let seed = inputs[TrainingName.gradientSeed]?.elements(of: Int32.self) {
        // Parts draw for themselves.
        seeded[TrainingName.gradientSeed] = Tensor(
          shape: [2], [seed[0] &+ Int32(truncatingIfNeeded: index), seed[1]])
      }
      let results = try backward.run(seeded)
      if index == 0 {
        shownValues = shown.map { name in
          results[name].map { Double($0.elements(of: Float.self)[0]) } ?? .nan
        }
      }
      if let penaltyName, let value = results[penaltyName]?.elements(of: Float.self).first {
        price += Double(share * value)
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
        }, threadCount: threadCount), observed: means)
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
