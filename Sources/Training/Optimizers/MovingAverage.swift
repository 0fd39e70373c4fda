import TensorCore

/// The exponential moving average of parameters, which often evaluates better than the last ones.
///
/// `average = d * average + (1 - d) * parameters` with `d` the decay, or with a warm-up
/// `min(decay, (1 + t) / (10 + t))` where `t` counts the updates before this one, so that the
/// initial parameters are forgotten quickly.
///
/// - Source: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM
///   Journal on Control and Optimization 30, 1992, in its exponential form.
package final class MovingAverage: TrainingState {
  /// The part of the average that an update keeps, in `0...1`.
  package let decay: Double
  /// Whether early updates keep less.
  package let hasWarmUp: Bool
  /// The averaged parameters.
  package let average: ParameterBlock
  /// Updates so far.
  package private(set) var updateCount = 0

  /// Starts at a copy of `parameters`.
  package init(of parameters: ParameterBlock, decay: Double, hasWarmUp: Bool = true) {
    self.decay = decay
    self.hasWarmUp = hasWarmUp
    average = ParameterBlock(like: parameters)
    average.copyElements(of: parameters)
  }

  /// The part of the average that the next update keeps.
  package var nextDecay: Double {
    guard hasWarmUp else { return decay }
    return min(decay, Double(1 + updateCount) / Double(10 + updateCount))
  }

  /// Takes `parameters` into the average.
  ///
  /// - Precondition: they have the layout of those that the average was started with.
  package func update(with parameters: ParameterBlock) {
    precondition(parameters.layout == average.layout, "parameters of another layout")
    movingAverageUpdate(
      average.elements, UnsafeBufferPointer(parameters.elements), Float(1 - nextDecay))
    updateCount += 1
  }

  /// The update count and every averaged entry.
  package var state: [NamedTensor] {
    [countTensor("updates", updateCount)] + average.namedTensors("average")
  }

  /// Continues from `state`.
  package func restore(_ state: [NamedTensor]) throws(TrainingStateError) {
    var saved = try SavedTensors(state)
    let count = try saved.takeCount("updates")
    let tensors = try saved.takeBlock("average", average.layout)
    try saved.finish()
    updateCount = count
    average.set(tensors)
  }
}

/// Moves every element of `average` towards `parameters` by the part `weight` of the way.
func movingAverageUpdate(
  _ average: UnsafeMutableBufferPointer<Float>, _ parameters: UnsafeBufferPointer<Float>,
  _ weight: Float
) {
  for index in 0..<average.count {
    average[index] += weight * (parameters[index] - average[index])
  }
}
