/// How weights are updated.
package struct UpdateOptions: Sendable, Hashable, Codable {
  /// The optimizers.
  package enum Method: String, Sendable, Hashable, Codable, CaseIterable {
    case adamw
    case sgd
  }

  /// The ways to clip gradients.
  package enum Clipping: String, Sendable, Hashable, Codable, CaseIterable {
    case none
    case norm
    case autoclip
    case zclip
    case adagc
    case stableSPAM = "stable-spam"
  }

  /// The optimizer.
  package var method = Method.adamw
  /// The learning rate over the steps.
  package var schedule = LearningRateSchedule(.cosine, peak: 1e-3, warmUpSteps: 0)
  /// Decoupled for AdamW, added to the gradient for SGD; not for vectors and scalars.
  package var weightDecay = 0.05
  /// The clipping.
  package var clipping = Clipping.norm
  /// The largest norm, for ``Clipping/norm``.
  package var largestNorm = 1.0
  /// The decay of the averaged weights; nil for none.
  package var averageDecay: Double?

  /// The usual choices.
  package init() {}

  func optimizer(_ layout: ParameterLayout) -> any Optimizer {
    switch method {
    case .adamw:
      var options = AdamW.Options()
      options.weightDecay = weightDecay
      return AdamW(layout: layout, options: options)
    case .sgd:
      var options = MomentumSGD.Options()
      options.weightDecay = weightDecay
      return MomentumSGD(layout: layout, options: options)
    }
  }

  func clipper(_ layout: ParameterLayout) -> any GradientClipping {
    switch clipping {
    case .none: NoClipping()
    case .norm: GlobalNormClipping(threshold: largestNorm)
    case .autoclip: AutoClip()
    case .zclip: ZClip(options: ZClip.Options(largestNorm: nil))
    case .adagc: AdaGC(layout: layout)
    case .stableSPAM: StableSPAM(layout: layout)
    }
  }
}
