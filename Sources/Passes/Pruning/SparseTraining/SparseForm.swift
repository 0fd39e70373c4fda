import GraphIR
import TensorCore
import Training

/// A student whose weights are masked by magnitude while it is trained.
///
/// The trained weights are dense; the model computes with `w (m + (1 - m) b)`, where `m` keeps the
/// largest of them and `b` is 0, or falls to 0 with the progressive flows. Gradual pruning passes no
/// gradient to masked weights, which rest as they are and return if others become smaller; the other
/// schedules pass it on whole, and SR-STE adds `lambda w` to that of masked weights. After the ramp
/// masks stay, masked weights are zero, and the rest is trained on. One form serves one trainer.
///
/// - Source: Zhu and Gupta, "To prune, or not to prune", ICLR 2018 workshop, arXiv:1710.01878
///   (gradual); Zhou et al., "Learning N:M Fine-grained Structured Sparse Neural Networks From
///   Scratch", ICLR 2021, arXiv:2102.04010 (straight-through, SR-STE); Bambhaniya et al., "Progressive
///   Gradient Flow for Robust N:M Sparsity Training in Transformers", 2024, arXiv:2402.04744 (flows,
///   stepwise and geometric frames). Differs: counts are exact, ties go by index; masked weights
///   decay as the others do.
package final class SparseForm: TrainedForm {
  /// The name in errors.
  package static let name = "prune while training"

  /// What is asked for at each step.
  package let plan: SparsePlan
  package let graph: Graph
  package let weights: [String]
  private let student: SparseStudent
  private let chooser = WeightMasks(MagnitudeImportance())
  /// One for each of the student's sparse weights.
  private var masks: [[UInt8]]
  private var sparsity: Double
  private var leak: Float = 1

  /// Prepares a run of `steps` steps.
  ///
  /// - Parameters:
  ///   - student: float32; what is masked in it stays masked.
  ///   - options: any schedule but ``SparseTrainingOptions/Schedule/autosparse``.
  ///   - steps: the length of the run.
  ///   - towers: in which weights become sparse.
  ///   - isTrained: which parameters are trained; others stay as they are.
  /// - Throws: ``PassError`` for choices that do not go together, a block length that does not divide
  ///   an axis, and a student that is quantized.
  package init(
    _ student: Graph, options: SparseTrainingOptions, steps: Int,
    towers: [Tower] = Tower.allCases, isTrained: (String) -> Bool = { $0 != "logit_scale" }
  ) throws(PassError) {
    try options.check()
    guard options.schedule != .autosparse else {
      throw .option(
        name: "prune-schedule", expected: "one that masks by magnitude", found: "autosparse")
    }
    let prepared = try SparseStudent(
      pass: Self.name, student, towers: towers, isTrained: isTrained)
    if case .pattern(_, let block) = options.structure {
      for weight in prepared.weights {
        guard let width = weight.shape.last, width % block == 0 else {
          throw .option(
            name: "prune \(options.structure)",
            expected: "a block length that divides the input axis of \(weight.name)",
            found: "\(weight.shape.last ?? 0) inputs")
        }
      }
    }
    self.student = prepared
    masks = prepared.initialMasks
    sparsity = prepared.sparsity(masks)
    plan = SparsePlan(options, steps: steps, initialSparsity: sparsity)
    graph = prepared.graph
    weights = prepared.trained
  }

  package var transformsWeights: Bool { true }

  /// The share of the prunable weights that is masked, and how much of those the model still sees.
  package var measures: [(label: String, value: Double)] {
    [("sparsity", sparsity), ("leak", Double(leak))]
  }

  /// Chooses masks where the plan says so and lets the model see what they leave.
  package func begin(_ context: StepContext) {
    let step = context.step
    if plan.choosesMasks(step) {
      choose(step, context.weights)
      sparsity = student.sparsity(masks)
      if !plan.flows(atStep: step) { rest(context) }
    }
    leak = plan.leak(atStep: step)
    context.used.copyElements(of: context.weights)
    for (weight, mask) in zip(student.weights, masks) {
      guard let used = context.used[weight.name] else { continue }
      for place in used.indices where mask[place] == 0 {
        // What was pruned before does not come back with the leak.
        used[place] = weight.hidden?[place] == 0 ? 0 : used[place] * leak
      }
    }
  }

  /// Lets masked weights rest from here on; for good where the masks are final.
  private func rest(_ context: StepContext) {
    for (weight, mask) in zip(student.weights, masks) {
      context.optimizer.resetMoments(of: weight.name) { mask[$0] == 0 }
      guard plan.isFinal(context.step), let elements = context.weights[weight.name]
      else { continue }
      for place in elements.indices where mask[place] == 0 { elements[place] = 0 }
    }
  }

  package func pullBack(_ context: StepContext) {
    let flows = plan.flows(atStep: context.step)
    let restoring = plan.options.schedule == .srSTE ? Float(plan.options.restoring) : 0
    for (weight, mask) in zip(student.weights, masks) {
      guard let gradients = context.gradients[weight.name],
        let elements = context.weights[weight.name]
      else { continue }
      for place in gradients.indices where mask[place] == 0 {
        let isGone = !flows || weight.hidden?[place] == 0
        gradients[place] = isGone ? 0 : gradients[place] + restoring * elements[place]
      }
    }
    student.clearHeld(context.gradients)
  }

  package func constrain(weights: ParameterBlock, controls: ParameterBlock) {
    student.clearHeld(weights)
  }

  /// The student under the masks of the last step.
  package func result(
    weights: ParameterBlock, controls: ParameterBlock
  ) throws(GraphError) -> Graph {
    try student.result(weights, masks: masks)
  }

  /// The masks.
  package var state: [NamedTensor] { student.state(masks) }

  package func restore(_ state: [NamedTensor]) throws(TrainingStateError) {
    var saved = try SavedTensors(state)
    let masks = try student.masks(from: &saved)
    try saved.finish()
    self.masks = masks
    sparsity = student.sparsity(masks)
  }

  private func choose(_ step: Int, _ block: ParameterBlock) {
    if let pattern = plan.pattern(atStep: step) { return choose(pattern, block) }
    // Weights that are no numbers any more keep their masks: the step reports them.
    guard let chosen = try? chosen(plan.sparsity(atStep: step), block) else { return }
    for (index, weight) in student.weights.enumerated() {
      if let mask = chosen[weight.value] { masks[index] = mask.elements(of: UInt8.self) }
    }
  }

  private func choose(_ pattern: BlockPattern, _ block: ParameterBlock) {
    for (index, weight) in student.weights.enumerated() {
      guard let elements = block[weight.name], let width = weight.shape.last else { continue }
      masks[index].withUnsafeMutableBufferPointer { mask in
        let source = UnsafeBufferPointer(elements)
        if let hidden = weight.hidden {
          hidden.withUnsafeBufferPointer {
            pattern.fitting(width).mark(source, hidden: $0, into: mask)
          }
        } else {
          pattern.fitting(width).mark(source, hidden: nil, into: mask)
        }
      }
    }
  }

  private func chosen(_ sparsity: Double, _ block: ParameterBlock) throws -> [Value: Tensor] {
    var graph = student.source
    for weight in student.weights {
      guard let entry = block.layout[weight.name], var parameter = graph.parameter(weight.value)
      else { continue }
      parameter.tensor = block.tensor(of: entry)
      try graph.setParameter(weight.value, parameter)
    }
    let values = student.weights.map(\.value)
    switch plan.options.scope ?? .layer {
    case .layer: return try chooser.perLayer(values, in: graph, sparsity: sparsity)
    case .global: return try chooser.global(values, in: graph, sparsity: sparsity)
    }
  }
}
