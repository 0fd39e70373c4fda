import TensorCore

/// What operators draw from in a step of training, a stream for each use.
enum StepSeed: UInt64 {
  case gradients = 0x6AD1_E275
  case dropout = 0xD20F_0117

  /// The input of a step, decided by the seed of the run, the use and the step alone.
  func tensor(seed: UInt64, step: Int) -> Tensor {
    var random = SplitMix64(seed: seed ^ rawValue)
    var draw = SplitMix64(seed: random.next() &+ UInt64(step) &* SplitMix64.increment)
    return Tensor(seed: draw.next())
  }
}
