import CKernels
import Glibc
import Operators
import TensorCore

/// Adam with decoupled weight decay.
///
/// With `t` steps since the start or the last reset:
/// `p *= 1 - lr * decay; m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;`
/// `p -= lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + epsilon)`.
///
/// - Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019,
///   arXiv:1711.05101. The defaults are those of CLIP's vision transformers.
package final class AdamW: Optimizer {
  /// The constants of the method.
  package struct Options: Hashable, Sendable, Codable {
    /// The decay rate of the mean gradient.
    package var beta1 = 0.9
    /// The decay rate of the mean squared gradient.
    package var beta2 = 0.98
    /// What keeps the quotient finite.
    package var epsilon = 1e-6
    /// The part of a weight that a unit of learning rate takes away.
    package var weightDecay = 0.2

    /// CLIP's constants.
    package init() {}

    /// Names every constant.
    package init(beta1: Double, beta2: Double, epsilon: Double, weightDecay: Double) {
      self.beta1 = beta1
      self.beta2 = beta2
      self.epsilon = epsilon
      self.weightDecay = weightDecay
    }
  }

  /// The constants of the method.
  package let options: Options
  /// The treatment of each entry.
  package let rules: [EntryRule]
  /// Steps since the start or the last reset of the moments.
  package private(set) var stepCount = 0
  private let first: ParameterBlock
  private let second: ParameterBlock

  /// Prepares for parameters of `layout`.
  package init(
    layout: ParameterLayout, options: Options = Options(),
    rule: (ParameterLayout.Entry) -> EntryRule = EntryRule.standard
  ) {
    self.options = options
    rules = layout.entries.map(rule)
    first = ParameterBlock(layout: layout)
    second = ParameterBlock(layout: layout)
  }

  /// Changes `parameters` once; see ``Optimizer/step(parameters:gradients:learningRate:gradientFactor:)``.
  package func step(
    parameters: ParameterBlock, gradients: ParameterBlock, learningRate: Double,
    gradientFactor: Float
  ) {
    precondition(parameters.layout == first.layout, "parameters of another layout")
    precondition(gradients.layout == first.layout, "gradients of another layout")
    stepCount += 1
    let firstCorrection = 1 - pow(options.beta1, Double(stepCount))
    let secondCorrection = 1 - pow(options.beta2, Double(stepCount))
    for (entry, rule) in zip(first.entries, rules) where rule.rateFactor != 0 {
      let rate = learningRate * Double(abs(rule.rateFactor))
      guard let parameter = parameters.slice(entry).baseAddress,
        let gradient = gradients.slice(entry).baseAddress,
        let mean = first.slice(entry).baseAddress, let square = second.slice(entry).baseAddress
      else { continue }
      var update = clip_f32_adamw_arguments(
        parameter: parameter, gradient: gradient, first_moment: mean, second_moment: square,
        learning_rate: Float(rate), beta1: Float(options.beta1), beta2: Float(options.beta2),
        epsilon: Float(options.epsilon),
        decay: rule.isDecayed ? Float(rate * options.weightDecay) : 0,
        first_correction: Float(1 / firstCorrection),
        second_correction: Float(1 / secondCorrection),
        gradient_factor: rule.rateFactor < 0 ? -gradientFactor : gradientFactor)
      Kernels.training.f32_adamw(&update, clip_range(begin: 0, end: entry.range.count))
    }
  }

  /// Forgets past gradients as though the next step were the first.
  package func resetMoments() {
    first.clear()
    second.clear()
    stepCount = 0
  }

  /// Forgets both moments of some elements.
  package func resetMoments(of name: String, where isForgotten: (Int) -> Bool) {
    first[name]?.clear(where: isForgotten)
    second[name]?.clear(where: isForgotten)
  }

  /// The step count and both moments of every entry.
  package var state: [NamedTensor] {
    [countTensor("step", stepCount)] + first.namedTensors("first_moment")
      + second.namedTensors("second_moment")
  }

  /// Continues from `state`.
  package func restore(_ state: [NamedTensor]) throws(TrainingStateError) {
    var saved = try SavedTensors(state)
    let count = try saved.takeCount("step")
    let firstMoments = try saved.takeBlock("first_moment", first.layout)
    let secondMoments = try saved.takeBlock("second_moment", second.layout)
    try saved.finish()
    stepCount = count
    first.set(firstMoments)
    second.set(secondMoments)
  }
}
