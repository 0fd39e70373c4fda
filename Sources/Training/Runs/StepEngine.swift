import Execution
import GraphIR
import Operators
import TensorCore

/// What one pass over a batch measured.
struct StepMeasurement {
  var loss: Double
  var terms: [Double]
  var shown: [Double]
  var batchTop1: Double
  /// What the form observes.
  var observed: [Float]
}

/// The memory that a step reads from and leaves its gradients in.
struct StepBlocks {
  let weights: ParameterBlock
  let controls: ParameterBlock
  let gradients: ParameterBlock
  let controlGradients: ParameterBlock

  /// The memory of every parameter of `graph` and of its gradient.
  func memory(for graph: Graph, gradients names: [String: String]) -> [String: BoundMemory] {
    var memory: [String: BoundMemory] = [:]
    for (values, slopes) in [(weights, gradients), (controls, controlGradients)] {
      for entry in values.entries {
        memory[entry.name] = BoundMemory(values.slice(entry), owner: values)
        guard let name = names[entry.name], let slope = slopes.layout[entry.name] else { continue }
        memory[name] = BoundMemory(slopes.slice(slope), owner: slopes)
      }
    }
    return memory
  }
}

/// Computes the loss of a batch and leaves the gradients in their block.
protocol StepEngine: AnyObject {
  var arenaByteCount: Int { get }

  func run(_ inputs: [String: Tensor]) throws(ExecutionError) -> StepMeasurement

  /// The first node of a step on `inputs` that makes an infinite number or none at all.
  func firstNonFinite(_ inputs: [String: Tensor]) throws(ExecutionError) -> String
}

/// Runs a whole batch through one graph.
final class WholeStepEngine: StepEngine {
  private let executor: Executor
  private let training: TrainingGraph
  private let shown: [String]
  private let observed: [String]
  private let threadCount: Int

  init(
    _ training: TrainingGraph, _ form: any TrainedForm, _ blocks: StepBlocks, threadCount: Int,
    arithmetic: Arithmetic
  ) throws(ExecutionError) {
    self.training = training
    self.threadCount = threadCount
    shown = form.shown.map(\.value)
    observed = form.observed
    let asked =
      [training.loss] + training.terms + training.embeddings + training.teacherEmbeddings
      + shown + observed + training.gradients.values.sorted()
    var seen = Set<String>()
    executor = try Executor(
      training.graph, outputs: asked.filter { seen.insert($0).inserted },
      threadCount: threadCount, arithmetic: arithmetic,
      memory: blocks.memory(for: training.graph, gradients: training.gradients))
  }

  var arenaByteCount: Int { executor.arenaByteCount }

  func run(_ inputs: [String: Tensor]) throws(ExecutionError) -> StepMeasurement {
    let results = try executor.run(inputs)
    func scalar(_ name: String) -> Double {
      results[name].map { Double($0.elements(of: Float.self)[0]) } ?? .nan
    }
    return StepMeasurement(
      loss: scalar(training.loss), terms: training.terms.map(scalar), shown: shown.map(scalar),
      batchTop1: batchTop1(
        student: training.embeddings.compactMap { results[$0] },
        teacher: training.teacherEmbeddings.compactMap { results[$0] }, threadCount: threadCount),
      observed: observed.flatMap { results[$0]?.elements(of: Float.self) ?? [.nan] })
  }

  func firstNonFinite(_ inputs: [String: Tensor]) throws(ExecutionError) -> String {
    try executor.firstNonFinite(inputs) ?? "the gradients' sum"
  }
}

extension Executor {
  /// The name of the first node that makes an infinite number or none at all; nil if none does.
  func firstNonFinite(_ inputs: [String: Tensor]) throws(ExecutionError) -> String? {
    var found: String?
    let real = graph.nodes.flatMap(\.outputs).filter { graph.tensorType(of: $0).dtype == .float32 }
    _ = try run(inputs, observing: Set(real)) { value, elements in
      guard found == nil, !elements.allSatisfy(\.isFinite) else { return }
      found = self.graph.name(of: value)
    }
    return found
  }
}

/// The share of images for which a student finds the same text of the batch most similar as its
/// teacher does; without a teacher, their own text or one with the same embedding.
///
/// - Parameters:
///   - student: embeddings of images and of texts, as many rows of each.
///   - teacher: the teacher's, or none.
///   - threadCount: how many threads run.
/// - Returns: From 0 to 1; not a number where rows are missing.
func batchTop1(student: [Tensor], teacher: [Tensor], threadCount: Int) -> Double {
  guard let own = similarities(student, threadCount: threadCount) else { return .nan }
  let wanted = similarities(teacher, threadCount: threadCount)
  let count = student[0].shape[0]
  var right = 0
  for row in 0..<count {
    let range = (row * count)..<((row + 1) * count)
    let target = wanted.map { largestIndex($0[range]) } ?? row
    // Equal texts are equally good.
    if own[range.lowerBound + target] >= (own[range].max() ?? 0) - 1e-6 { right += 1 }
  }
  return Double(right) / Double(count)
}

/// The products of every image with every text; nil where there are none.
private func similarities(_ pair: [Tensor], threadCount: Int) -> [Float]? {
  guard pair.count == 2, pair[0].shape == pair[1].shape, pair[0].shape.count == 2,
    pair[0].shape[0] > 0
  else { return nil }
  let (count, width) = (pair[0].shape[0], pair[0].shape[1])
  return Matrix.productTransposed(
    m: count, n: count, k: width, pair[0].elements(of: Float.self),
    pair[1].elements(of: Float.self), threadCount: threadCount)
}

private func largestIndex(_ row: ArraySlice<Float>) -> Int {
  var best = row.startIndex
  for index in row.indices where row[index] > row[best] { best = index }
  return best - row.startIndex
}
