import TensorCore

/// A rule that moves parameters along their gradients.
package protocol Optimizer: TrainingState {
  /// Changes `parameters` once.
  ///
  /// - Parameters:
  ///   - parameters: What is trained.
  ///   - gradients: The derivatives of the loss, in the same layout; they are not changed.
  ///   - learningRate: The rate of this step, before the factor of each entry.
  ///   - gradientFactor: What every gradient is multiplied with first, as clipping by norm asks.
  /// - Precondition: both blocks have the layout that the optimizer was made for.
  func step(
    parameters: ParameterBlock, gradients: ParameterBlock, learningRate: Double,
    gradientFactor: Float)

  /// Forgets past gradients as though the next step were the first.
  func resetMoments()

  /// Forgets the past gradients of those elements of the entry called `name` for which `isForgotten`
  /// holds.
  func resetMoments(of name: String, where isForgotten: (Int) -> Bool)
}

/// How an optimizer treats one entry differently from the others.
package struct EntryRule: Hashable, Sendable {
  /// What the learning rate is multiplied with.
  ///
  /// An entry with a negative factor climbs: its gradient is negated and the rate takes the
  /// magnitude, so that weight decay still shrinks it. An entry with factor 0 does not change at all.
  package var rateFactor: Float
  /// Whether weight decay applies.
  package var isDecayed: Bool

  /// Describes a treatment.
  package init(rateFactor: Float = 1, isDecayed: Bool) {
    self.rateFactor = rateFactor
    self.isDecayed = isDecayed
  }

  /// The usual treatment: decay for tensors of two axes and more, hence none for biases, norms and
  /// the logit scale.
  package static func standard(_ entry: ParameterLayout.Entry) -> EntryRule {
    EntryRule(isDecayed: entry.shape.count >= 2)
  }
}
