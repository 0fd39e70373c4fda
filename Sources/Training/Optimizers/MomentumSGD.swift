import TensorCore

/// Stochastic gradient descent with momentum and weight decay added to the gradient.
///
/// `d = g + decay * p; b = momentum * b + d; p -= lr * (nesterov ? d + momentum * b : b)`.
///
/// - Source: Sutskever et al., "On the importance of initialization and momentum in deep learning",
///   ICML 2013, in the form where the rate stands outside the momentum.
package final class MomentumSGD: Optimizer {
  /// The constants of the method.
  package struct Options: Hashable, Sendable, Codable {
    /// The decay rate of the sum of gradients; 0 is plain gradient descent.
    package var momentum = 0.9
    /// Whether the step looks ahead along the new momentum.
    package var usesNesterov = false
    /// The factor of the parameter in its gradient.
    package var weightDecay = 0.0

    /// Plain momentum without decay.
    package init() {}

    /// Names every constant.
    package init(momentum: Double, usesNesterov: Bool, weightDecay: Double) {
      self.momentum = momentum
      self.usesNesterov = usesNesterov
      self.weightDecay = weightDecay
    }
  }

  /// The constants of the method.
  package let options: Options
  /// The treatment of each entry.
  package let rules: [EntryRule]
  private let momenta: ParameterBlock

  /// Prepares for parameters of `layout`.
  package init(
    layout: ParameterLayout, options: Options = Options(),
    rule: (ParameterLayout.Entry) -> EntryRule = EntryRule.standard
  ) {
    self.options = options
    rules = layout.entries.map(rule)
    momenta = ParameterBlock(layout: layout)
  }

  /// Changes `parameters` once; see ``Optimizer/step(parameters:gradients:learningRate:gradientFactor:)``.
  package func step(
    parameters: ParameterBlock, gradients: ParameterBlock, learningRate: Double,
    gradientFactor: Float
  ) {
    precondition(parameters.layout == momenta.layout, "parameters of another layout")
    precondition(gradients.layout == momenta.layout, "gradients of another layout")
    for (entry, rule) in zip(momenta.entries, rules) where rule.rateFactor != 0 {
      let coefficients = MomentumCoefficients(
        gradientFactor: rule.rateFactor < 0 ? -gradientFactor : gradientFactor,
        decay: rule.isDecayed ? Float(options.weightDecay) : 0,
        momentum: Float(options.momentum),
        rate: Float(learningRate * Double(abs(rule.rateFactor))),
        usesNesterov: options.usesNesterov)
      momentumUpdate(
        parameters.slice(entry), UnsafeBufferPointer(gradients.slice(entry)),
        momenta.slice(entry), coefficients)
    }
  }

  /// Forgets past gradients as though the next step were the first.
  package func resetMoments() { momenta.clear() }

  /// Forgets the momentum of some elements.
  package func resetMoments(of name: String, where isForgotten: (Int) -> Bool) {
    momenta[name]?.clear(where: isForgotten)
  }

  /// The momentum of every entry.
  package var state: [NamedTensor] { momenta.namedTensors("momentum") }

  /// Continues from `state`.
  package func restore(_ state: [NamedTensor]) throws(TrainingStateError) {
    var saved = try SavedTensors(state)
    let tensors = try saved.takeBlock("momentum", momenta.layout)
    try saved.finish()
    momenta.set(tensors)
  }
}

/// The numbers that one step with momentum uses for all elements of an entry.
struct MomentumCoefficients {
  var gradientFactor: Float
  var decay: Float
  var momentum: Float
  var rate: Float
  var usesNesterov: Bool
}

/// One step with momentum on the elements of an entry.
func momentumUpdate(
  _ parameters: UnsafeMutableBufferPointer<Float>, _ gradients: UnsafeBufferPointer<Float>,
  _ momenta: UnsafeMutableBufferPointer<Float>, _ c: MomentumCoefficients
) {
  for index in 0..<parameters.count {
    let descent = gradients[index] * c.gradientFactor + c.decay * parameters[index]
    let momentum = c.momentum * momenta[index] + descent
    momenta[index] = momentum
    let direction = c.usesNesterov ? descent + c.momentum * momentum : momentum
    parameters[index] -= c.rate * direction
  }
}
