import Execution
import GraphIR
import Operators
import TensorCore

/// What one step measured.
package struct StepReport: Sendable {
  /// The loss with every term and price.
  package var loss: Double
  /// Each term of the mixture by name, without its weight.
  package var terms: [(name: String, value: Double)]
  /// What the form shows.
  package var shown: [(label: String, value: Double)]
  /// The learning rate.
  package var rate: Double
  /// The norm of the gradients before clipping.
  package var gradientNorm: Double
  /// The share of images for which student and teacher choose the same text of the batch; without a
  /// teacher, their own text.
  package var batchTop1: Double
}

/// Why a step could not be done.
package enum TrainingError: Error, CustomStringConvertible {
  /// The graph, or running it, failed.
  case execution(ExecutionError)
  /// A number stopped being one.
  case notFinite(step: Int, node: String)
  /// A saved state does not fit.
  case state(TrainingStateError)

  package var description: String {
    switch self {
    case .execution(let error): error.description
    case .notFinite(let step, let node):
      "step \(step): the loss is not finite any more; \(node) made the first such number; "
        + "try a lower learning rate"
    case .state(let error): error.description
    }
  }
}

/// Trains a student step by step.
///
/// The same inputs, options and thread count give the same bits.
package final class Trainer {
  /// The student.
  package let form: any TrainedForm
  /// The trained weights.
  package let weights: ParameterBlock
  /// The trained parameters with rates of their own.
  package let controls: ParameterBlock
  /// The averaged weights, where they are kept.
  package let average: MovingAverage?
  /// Steps done so far.
  package private(set) var step = 0

  private let options: UpdateOptions
  private let totalSteps: Int
  private let seed: UInt64
  private let gradientBitCount: Int?
  private let engine: any StepEngine
  /// What the graph computes with; the weights themselves unless the form says otherwise.
  private let used: ParameterBlock
  private let gradients: ParameterBlock
  private let controlGradients: ParameterBlock
  private let optimizer: any Optimizer
  private let controlOptimizer: any Optimizer
  private let clipper: any GradientClipping
  private let terms: [String]

  /// Prepares a run of `totalSteps` steps.
  ///
  /// - Parameters:
  ///   - form: the student.
  ///   - objective: what is minimized.
  ///   - options: how weights are updated.
  ///   - totalSteps: the length of the learning-rate schedule.
  ///   - microBatchCount: in how many parts a batch is run; the gradient is that of the whole.
  ///   - recomputes: saves memory by computing activations anew for the backward half.
  ///   - gradientBitCount: bits an element, 1 to 8, of the gradients that linears pass on; nil for
  ///     float32. See ``QuantizeGradient``.
  ///   - seed: decides what is drawn by chance.
  ///   - threadCount: how many threads run.
  ///   - arithmetic: how a step is computed.
  /// - Throws: ``TrainingError`` when models and losses do not fit together.
  package init(
    _ form: any TrainedForm, _ objective: Objective, options: UpdateOptions, totalSteps: Int,
    microBatchCount: Int = 1, recomputes: Bool = false, gradientBitCount: Int? = nil,
    seed: UInt64, threadCount: Int, arithmetic: Arithmetic = .fast
  ) throws(TrainingError) {
    self.form = form
    self.options = options
    self.totalSteps = totalSteps
    self.seed = seed
    self.gradientBitCount = gradientBitCount
    terms = objective.losses.terms.map(\.name)
    let added: [(name: String, tensor: Tensor)]
    let whole: TrainingGraph
    do throws(GraphError) {
      whole = try TrainingGraph(
        form, objective, recomputes: recomputes, gradientBitCount: gradientBitCount)
      added = whole.added
    } catch {
      throw .execution(.graph(error))
    }
    func block(_ names: [String], _ more: [(name: String, tensor: Tensor)]) -> ParameterBlock {
      var tensors: [(name: String, tensor: Tensor)] = []
      for name in names {
        if let tensor = form.graph.parameter(named: name)?.materialized {
          tensors.append((name, tensor))
        }
      }
      tensors += more
      let block = ParameterBlock(tensors.map { ($0.name, $0.tensor.shape) })
      for (entry, tensor) in zip(block.entries, tensors) { block.set(entry, tensor.tensor) }
      return block
    }
    weights = block(form.weights, added)
    controls = block(form.controls.map(\.name), [])
    gradients = ParameterBlock(like: weights)
    controlGradients = ParameterBlock(like: controls)
    optimizer = options.optimizer(weights.layout)
    let rates = Dictionary(uniqueKeysWithValues: form.controls.map { ($0.name, $0.rate) })
    controlOptimizer = AdamW(
      layout: controls.layout,
      options: AdamW.Options(beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0)
    ) { EntryRule(rateFactor: Float(rates[$0.name] ?? 0), isDecayed: false) }
    clipper = options.clipper(weights.layout)
    let trained = weights
    average = options.averageDecay.map { MovingAverage(of: trained, decay: $0) }
    used = form.transformsWeights ? ParameterBlock(like: weights) : weights
    let blocks = StepBlocks(
      weights: used, controls: controls, gradients: gradients,
      controlGradients: controlGradients)
    do throws(ExecutionError) {
      engine =
        microBatchCount > 1
        ? try CachedStepEngine(
          form, objective, blocks, partCount: microBatchCount, recomputes: recomputes,
          gradientBitCount: gradientBitCount, threadCount: threadCount, arithmetic: arithmetic)
        : try WholeStepEngine(
          whole, form, blocks, threadCount: threadCount, arithmetic: arithmetic)
    } catch {
      throw .execution(error)
    }
  }

  /// Bytes of the memory in which activations and gradients of values live.
  package var arenaByteCount: Int { engine.arenaByteCount }

  /// Does one step on a batch.
  ///
  /// - Parameter inputs: `pixel_values`, `input_ids` and what the objective asks for.
  /// - Returns: What the step measured, before the update.
  /// - Throws: ``TrainingError``; the weights then are those that the form began the step with.
  package func step(_ inputs: [String: Tensor]) throws(TrainingError) -> StepReport {
    var inputs = inputs
    inputs.merge(form.inputs(atStep: step, seed: seed)) { _, new in new }
    if gradientBitCount != nil {
      inputs[TrainingName.gradientSeed] = StepSeed.gradients.tensor(seed: seed, step: step)
    }
    let context = StepContext(
      step: step, weights: weights, used: used, controls: controls, gradients: gradients,
      controlGradients: controlGradients, optimizer: optimizer)
    form.begin(context)
    let measured: StepMeasurement
    do throws(ExecutionError) { measured = try engine.run(inputs) } catch {
      throw .execution(error)
    }
    if form.transformsWeights { form.pullBack(context) }
    form.observe(measured.observed)
    form.prepare(gradients: gradients)
    let clipped = clipper.clip(gradients)
    guard measured.loss.isFinite, clipped.isFinite else {
      let node: String
      do throws(ExecutionError) { node = try engine.firstNonFinite(inputs) } catch {
        throw .execution(error)
      }
      throw .notFinite(step: step, node: node)
    }
    let rate = options.schedule.rate(at: step, of: totalSteps)
    if clipped.resetsMoments { optimizer.resetMoments() }
    optimizer.step(
      parameters: weights, gradients: gradients, learningRate: rate,
      gradientFactor: clipped.gradientFactor)
    if !controls.entries.isEmpty {
      controlOptimizer.step(
        parameters: controls, gradients: controlGradients, learningRate: 1, gradientFactor: 1)
    }
    form.constrain(weights: weights, controls: controls)
    clampScale()
    average?.update(with: weights)
    step += 1
    return StepReport(
      loss: measured.loss, terms: Array(zip(terms, measured.terms)).map { ($0, $1) },
      shown: Array(zip(form.shown.map(\.label), measured.shown)).map { ($0, $1) }
        + form.measures, rate: rate,
      gradientNorm: clipped.norm, batchTop1: measured.batchTop1)
  }

  /// The factor from cosine to logit stays between 1 and 100, as CLIP's training keeps it.
  private func clampScale() {
    guard let scale = weights[TrainingName.logitScale] else { return }
    scale[0] = min(max(scale[0], 0), 4.6052)
  }

  /// The student as it is now, with averaged weights where they are kept.
  package func result() throws(TrainingError) -> Graph {
    do throws(GraphError) {
      return try form.result(weights: average?.average ?? weights, controls: controls)
    } catch {
      throw .execution(.graph(error))
    }
  }
}

extension Trainer: TrainingState {
  private var parts: [(name: String, state: any TrainingState)] {
    var parts: [(String, any TrainingState)] = [
      ("optimizer", optimizer), ("control_optimizer", controlOptimizer), ("clipping", clipper),
    ]
    if let average { parts.append(("average", average)) }
    return parts
  }

  package var state: [NamedTensor] {
    var tensors: [NamedTensor] = [countTensor("step", step)]
    tensors += weights.namedTensors("weights") + controls.namedTensors("controls")
    for (name, part) in parts {
      tensors += part.state.map { ("\(name)/\($0.name)", $0.tensor) }
    }
    tensors += form.state.map { ("form/\($0.name)", $0.tensor) }
    return tensors
  }

  package func restore(_ state: [NamedTensor]) throws(TrainingStateError) {
    let parts = self.parts
    var own: [NamedTensor] = []
    var others: [String: [NamedTensor]] = [:]
    for (name, tensor) in state {
      let head = String(name.prefix { $0 != "/" })
      if head == "form" || parts.contains(where: { $0.name == head }) {
        others[head, default: []].append((String(name.dropFirst(head.count + 1)), tensor))
      } else {
        own.append((name, tensor))
      }
    }
    var saved = try SavedTensors(own)
    let count = try saved.takeCount("step")
    let savedWeights = try saved.takeBlock("weights", weights.layout)
    let savedControls = try saved.takeBlock("controls", controls.layout)
    try saved.finish()
    for (name, part) in parts { try part.restore(others[name] ?? []) }
    try form.restore(others["form"] ?? [])
    weights.set(savedWeights)
    controls.set(savedControls)
    step = count
  }
}
