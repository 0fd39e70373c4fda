/// A step as a ``TrainedForm`` sees it that computes with other numbers than those it trains.
package struct StepContext {
  /// The number of the step, from zero.
  package let step: Int
  /// The trained weights.
  package let weights: ParameterBlock
  /// What the graph computes with in place of ``weights``, of the same layout.
  package let used: ParameterBlock
  /// The trained parameters with rates of their own.
  package let controls: ParameterBlock
  /// Gradients of the weights: with respect to ``used`` when they arrive.
  package let gradients: ParameterBlock
  /// Gradients of the controls.
  package let controlGradients: ParameterBlock
  /// What moves the weights.
  package let optimizer: any Optimizer

  /// Describes a step; all blocks of weights have one layout, and so have those of controls.
  package init(
    step: Int, weights: ParameterBlock, used: ParameterBlock, controls: ParameterBlock,
    gradients: ParameterBlock, controlGradients: ParameterBlock, optimizer: any Optimizer
  ) {
    self.step = step
    self.weights = weights
    self.used = used
    self.controls = controls
    self.gradients = gradients
    self.controlGradients = controlGradients
    self.optimizer = optimizer
  }
}
