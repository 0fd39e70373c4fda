import Execution
import GraphIR
import Operators
import TensorCore

/// What one pass over a batch measured.
struct StepMeasurement {
  var loss: Double
  var terms: [Double]
  var shown: [Double]
  var batchAccuracy: Double
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
  private let threadCount: Int

  init(
    _ training: TrainingGraph, _ form: any TrainedForm, _ blocks: StepBlocks, threadCount: Int
  ) throws(ExecutionError) {
    self.training = training
    self.threadCount = threadCount
    shown = form.shown.map(\.value)
    let asked =
      [training.loss] + training.terms + [training.embeddings.image, training.embeddings.text]
      + shown + training.gradients.values.sorted()
    var seen = Set<String>()
    executor = try Executor(
      training.graph, outputs: asked.filter { seen.insert($0).inserted },
      threadCount: threadCount,
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
      batchAccuracy: batchAccuracy(
        results[training.embeddings.image], results[training.embeddings.text],
        threadCount: threadCount))
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

/// The share of rows of `images` whose largest inner product among `texts` is that of their own row.
///
/// A text that equals the own one counts as the own one.
func batchAccuracy(_ images: Tensor?, _ texts: Tensor?, threadCount: Int) -> Double {
  guard let images, let texts, images.shape == texts.shape, images.shape.count == 2,
    images.shape[0] > 0
  else { return .nan }
  let (count, width) = (images.shape[0], images.shape[1])
  let products = Matrix.productTransposed(
    m: count, n: count, k: width, images.elements(of: Float.self), texts.elements(of: Float.self),
    threadCount: threadCount)
  var right = 0
  for row in 0..<count {
    let own = products[row * count + row]
    var best = true
    for column in 0..<count where products[row * count + column] > own * (1 + 1e-6) {
      best = false
      break
    }
    if best { right += 1 }
  }
  return Double(right) / Double(count)
}
