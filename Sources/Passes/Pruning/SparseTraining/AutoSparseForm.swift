import Glibc
import GraphIR
import TensorCore
import Training

/// A student whose layers learn the magnitude below which their weights go.
///
/// Layer `l` computes with `sign(w) max(|w| - T_l, 0)`, `T_l = sigmoid(sigma_l)`. Gradients of masked
/// weights are passed on times `alpha`, which falls from ``Options/alpha`` to 0 along a cosine;
/// `dL/dsigma = -Σ G sign(w) T (1 - T)`, masked terms times `alpha`. Decay of `sigma` towards zero
/// raises the thresholds until the sparsity asked for is reached. Over the last part of the ramp active
/// weights get back what the thresholds take from them; after it masks are those of the largest
/// `|w| - T_l` of all layers, to the exact count, and the rest is trained on. One form serves one
/// trainer.
///
/// - Source: Kundu et al., "AutoSparse: Towards Automated Sparse Training of Deep Neural Networks",
///   2023, arXiv:2304.06941; Kusupati et al., "Soft Threshold Weight Reparameterization for Learnable
///   Sparsity", ICML 2020, arXiv:2002.03231, for `alpha = 0`. Differs: the return to whole weights,
///   without which a short run ends with a model that is too quiet, and the exact count.
package final class AutoSparseForm: TrainedForm {
  /// The name in errors.
  package static let name = "autosparse"

  /// The constants of the method.
  package struct Options: Codable, Sendable {
    /// The gradient of masked weights at the first step, as a part of the whole.
    package var alpha = 0.75
    /// Whether `alpha` falls; else it stays.
    package var anneals = true
    /// The thresholds' parameter `sigma` at the first step.
    package var initialLogit = -10.0
    /// The part of `sigma` that a step takes; nil for what reaches the sparsity after 60 % of the ramp
    /// if the weights stayed.
    package var decay: Double?
    /// The largest step of `sigma`; nil for an eighth of the mean step of its decay.
    package var rate: Double?

    /// The usual constants.
    package init() {}
  }

  /// The constants of the method.
  package let constants: Options
  /// What is asked for at each step.
  package let plan: SparsePlan
  package let graph: Graph
  package let weights: [String]
  package let controls: [(name: String, rate: Double)]
  /// The part of `sigma` that a step takes until the sparsity is reached.
  package let decay: Double
  private let student: SparseStudent
  private let thresholdNames: [String]
  private var masks: [[UInt8]]
  private var sparsity: Double
  private var alpha: Double
  /// Whether thresholds still rise by themselves.
  private var isDecaying = true
  private var isFixed = false
  /// The part of a threshold that active weights lose.
  private var shrinkage: Float = 1
  /// The share of the ramp over which weights become whole again.
  private static let returnShare = 0.3

  /// Prepares a run of `steps` steps; parameters and errors as for ``SparseForm``.
  package init(
    _ student: Graph, options: SparseTrainingOptions, constants: Options = Options(), steps: Int,
    towers: [Tower] = Tower.allCases, isTrained: (String) -> Bool = { $0 != "logit_scale" }
  ) throws(PassError) {
    try options.check()
    let prepared = try SparseStudent(
      pass: Self.name, student, towers: towers, isTrained: isTrained)
    self.student = prepared
    self.constants = constants
    masks = prepared.initialMasks
    sparsity = prepared.sparsity(masks)
    let plan = SparsePlan(options, steps: steps, initialSparsity: sparsity)
    self.plan = plan
    weights = prepared.trained
    thresholdNames = prepared.weights.map { "threshold.\($0.name)" }
    var graph = prepared.graph
    do throws(GraphError) {
      for name in thresholdNames {
        _ = try graph.addParameter(
          name, Parameter(Tensor(scalar: Float(constants.initialLogit))))
      }
    } catch {
      throw .graph(pass: Self.name, error)
    }
    self.graph = graph
    let wanted = Self.commonLogit(of: prepared, sparsity: options.sparsity)
    let steps = max(0.6 * Double(plan.length), 1)
    let ratio = max(constants.initialLogit / min(wanted, -0.01), 1)
    decay = constants.decay ?? (1 - exp(-log(ratio) / steps))
    let eighth = abs(constants.initialLogit - wanted) / 8
    let rate = constants.rate ?? max(eighth / Double(max(plan.length, 1)), 1e-4)
    controls = thresholdNames.map { ($0, rate) }
    alpha = constants.alpha
  }

  /// The `sigma` of the one threshold below which the share `sparsity` of all weights lies.
  private static func commonLogit(of student: SparseStudent, sparsity: Double) -> Double {
    var magnitudes: [Float] = []
    for weight in student.weights {
      let elements = student.graph.parameter(weight.value)?.tensor.elements(of: Float.self) ?? []
      magnitudes += elements.lazy.map { $0.isFinite ? abs($0) : .greatestFiniteMagnitude }
    }
    guard !magnitudes.isEmpty else { return -1 }
    let rank = min(Int(sparsity * Double(magnitudes.count)), magnitudes.count - 1)
    let threshold = Double(OrderStatistic.select(&magnitudes, rank: rank))
    return threshold > 0 && threshold < 1 ? log(threshold / (1 - threshold)) : -0.01
  }

  package var transformsWeights: Bool { true }

  /// The share of the prunable weights that the model does not see, and `alpha`.
  package var measures: [(label: String, value: Double)] {
    [("sparsity", sparsity), ("alpha", alpha)]
  }

  /// The gradient of masked weights at `step`, as a part of the whole.
  package func alpha(atStep step: Int) -> Double {
    guard constants.anneals else { return constants.alpha }
    guard step < plan.end else { return 0 }
    let part = Double(max(step - plan.start, 0)) / Double(max(plan.length, 1))
    return constants.alpha * 0.5 * (1 + cos(Double.pi * part))
  }

  /// The part of their threshold that active weights lose at `step`.
  package func shrinkage(atStep step: Int) -> Double {
    let length = Self.returnShare * Double(plan.length)
    return length > 0 ? min(max(Double(plan.end - step) / length, 0), 1) : 0
  }

  /// The threshold of `sigma`.
  package static func threshold(_ sigma: Float) -> Float { Float(1 / (1 + exp(-Double(sigma)))) }

  private func threshold(_ index: Int, _ controls: ParameterBlock) -> Float {
    controls[thresholdNames[index]].map { Self.threshold($0[0]) } ?? 0
  }

  package func begin(_ context: StepContext) {
    alpha = alpha(atStep: context.step)
    shrinkage = Float(shrinkage(atStep: context.step))
    if !isFixed, plan.isFinal(context.step) { fix(context) }
    context.used.copyElements(of: context.weights)
    for (index, weight) in student.weights.enumerated() {
      guard let used = context.used[weight.name] else { continue }
      if isFixed {
        for place in used.indices where masks[index][place] == 0 { used[place] = 0 }
      } else {
        shrink(used, index, by: threshold(index, context.controls), marks: true)
      }
    }
    sparsity = student.sparsity(masks)
    let count = student.elementCount
    let gone = Int((sparsity * Double(count)).rounded())
    if gone >= WeightMasks.prunedCount(plan.options.sparsity, of: count) { isDecaying = false }
  }

  /// Takes out what lies below `threshold` and shrinks the rest of weight `index`, whose mask follows
  /// where `marks`.
  private func shrink(
    _ elements: UnsafeMutableBufferPointer<Float>, _ index: Int, by threshold: Float, marks: Bool
  ) {
    let hidden = student.weights[index].hidden
    let loss = threshold * shrinkage
    for place in elements.indices {
      let element = elements[place]
      let isActive = abs(element) > threshold && hidden?[place] != 0
      elements[place] =
        isActive ? (element < 0 ? element + loss : element - loss) : 0
      if marks { masks[index][place] = isActive ? 1 : 0 }
    }
  }

  /// Chooses the final masks.
  private func fix(_ context: StepContext) {
    var margins: [[Float]] = []
    for (index, weight) in student.weights.enumerated() {
      guard let elements = context.weights[weight.name] else { continue }
      let threshold = threshold(index, context.controls)
      margins.append(
        elements.indices.map { place in
          let isGone = weight.hidden?[place] == 0 || !elements[place].isFinite
          return isGone ? -.greatestFiniteMagnitude : abs(elements[place]) - threshold
        })
    }
    masks = Self.masks(
      margins, pruning: WeightMasks.prunedCount(plan.options.sparsity, of: student.elementCount))
    for (index, weight) in student.weights.enumerated() {
      for (place, hidden) in (weight.hidden ?? []).enumerated() where hidden == 0 {
        masks[index][place] = 0
      }
      context.optimizer.resetMoments(of: weight.name) { masks[index][$0] == 0 }
      guard let elements = context.weights[weight.name] else { continue }
      for place in elements.indices where masks[index][place] == 0 { elements[place] = 0 }
    }
    isFixed = true
  }

  /// Masks that hide the `count` lowest of all `margins`; of equal ones the lower index goes first.
  static func masks(_ margins: [[Float]], pruning count: Int) -> [[UInt8]] {
    var all = margins.flatMap { $0 }
    guard count > 0, count <= all.count else {
      return margins.map { [UInt8](repeating: 1, count: $0.count) }
    }
    let border = OrderStatistic.select(&all, rank: count - 1)
    var tied = count - margins.reduce(0) { $0 + $1.count { $0 < border } }
    return margins.map { row in
      row.map { margin in
        if margin == border, tied > 0 {
          tied -= 1
          return 0
        }
        return margin < border ? 0 : 1
      }
    }
  }

  package func pullBack(_ context: StepContext) {
    let alpha = Float(alpha)
    for (index, weight) in student.weights.enumerated() {
      guard let gradients = context.gradients[weight.name],
        let elements = context.weights[weight.name]
      else { continue }
      let mask = masks[index]
      var sum = 0.0
      for place in gradients.indices {
        if mask[place] == 0 {
          gradients[place] = isFixed || weight.hidden?[place] == 0 ? 0 : gradients[place] * alpha
        }
        if elements[place] != 0 {
          sum -= Double(elements[place] < 0 ? -gradients[place] : gradients[place])
        }
      }
      let slope = Double(threshold(index, context.controls))
      context.controlGradients[thresholdNames[index]]?[0] =
        isFixed ? 0 : Float(sum * slope * (1 - slope)) * shrinkage
    }
    student.clearHeld(context.gradients)
  }

  /// Lets thresholds rise while the sparsity is not reached.
  package func constrain(weights: ParameterBlock, controls: ParameterBlock) {
    student.clearHeld(weights)
    guard isDecaying, !isFixed else { return }
    for name in thresholdNames { controls[name]?[0] *= Float(1 - decay) }
  }

  package func result(
    weights: ParameterBlock, controls: ParameterBlock
  ) throws(GraphError) -> Graph {
    try student.result(weights, masks: masks) { index, elements in
      guard !isFixed else { return }
      let threshold = threshold(index, controls)
      elements.withUnsafeMutableBufferPointer {
        shrink($0, index, by: threshold, marks: false)
      }
    }
  }

  /// The masks, whether thresholds rise, and whether masks are final.
  package var state: [NamedTensor] {
    student.state(masks) + [
      ("is_decaying", Tensor(shape: [], [Int32(isDecaying ? 1 : 0)])),
      ("is_fixed", Tensor(shape: [], [Int32(isFixed ? 1 : 0)])),
    ]
  }

  package func restore(_ state: [NamedTensor]) throws(TrainingStateError) {
    var saved = try SavedTensors(state)
    let masks = try student.masks(from: &saved)
    let decaying = try saved.takeCount("is_decaying")
    let fixed = try saved.takeCount("is_fixed")
    try saved.finish()
    self.masks = masks
    isDecaying = decaying != 0
    isFixed = fixed != 0
    sparsity = student.sparsity(masks)
  }
}
