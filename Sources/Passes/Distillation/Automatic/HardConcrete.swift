import GraphIR
import Operators
import TensorCore

/// The distribution of a learned mask: a stretched sigmoid of logistic noise, cut off at 0 and 1.
///
/// A mask element has one parameter `loga`. In training it is `clamp(sigmoid((noise + loga) / beta) *
/// (upper - lower) + lower, 0, 1)` with `noise = ln u - ln(1 - u)` for uniform `u`; so it is exactly
/// zero or one with a probability that is differentiable in `loga`.
///
/// - Source: Louizos et al., "Learning Sparse Neural Networks through L0 Regularization", ICLR 2018,
///   arXiv:1712.01312, with the constants of Wu et al., "TinyCLIP", ICCV 2023, arXiv:2309.12314.
package enum HardConcrete {
  /// The temperature.
  package static let beta = 2.0 / 3
  /// What the sigmoid is stretched to, so that both ends lie beyond the range of a mask.
  package static let (lower, upper) = (-0.1, 1.1)
  /// How far uniform numbers stay away from 0 and 1.
  package static let margin = 1e-6
  /// What sharpens a mask that is no longer drawn.
  package static let sharpness = 0.8
  /// The bounds of `loga`: the logarithms of 0.01 and 100.
  package static let bounds = Float(-4.605_170_186)...Float(4.605_170_186)
  /// What is added to `loga` in the probability that a mask is open: `-beta * ln(-lower / upper)`.
  package static let shift = -beta * Double.log(-lower / upper)

  /// The probability that a mask of `loga` is not zero.
  package static func openProbability(_ loga: Double) -> Double { sigmoid(loga + shift) }

  /// What a mask of `loga` is when it is no longer drawn.
  package static func softValue(_ loga: Double) -> Double { sigmoid(sharpness * loga / beta) }

  /// What a mask of `loga` is for logistic `noise`.
  package static func value(_ loga: Double, noise: Double) -> Double {
    min(max(sigmoid((noise + loga) / beta) * (upper - lower) + lower, 0), 1)
  }

  /// `count` numbers of the logistic distribution, decided by `seed`, `step` and `stream` alone.
  package static func noise(_ count: Int, seed: UInt64, step: Int, stream: Int) -> [Float] {
    var state = SplitMix64(seed: seed).advanced(by: step).advanced(by: stream)
    return (0..<count).map { _ in
      let u = margin + (1 - 2 * margin) * state.nextUniform()
      return Float(Double.log(u) - Double.log(1 - u))
    }
  }

  private static func sigmoid(_ x: Double) -> Double { 1 / (1 + Double.exp(-x)) }
}

extension SplitMix64 {
  /// A generator decided by the next number of this one and `number`.
  fileprivate func advanced(by number: Int) -> SplitMix64 {
    var mixer = self
    return SplitMix64(seed: mixer.next() &+ UInt64(bitPattern: Int64(number)))
  }
}

extension GraphBuilder {
  /// Masks of `loga` and logistic `noise`, both of the same extents.
  mutating func hardConcrete(_ loga: Value, noise: Value) throws(GraphError) -> Value {
    let tempered = try scaled(try sum(loga, noise), by: Float(1 / HardConcrete.beta))
    let stretched = try scaled(
      try add(Sigmoid(), tempered), by: Float(HardConcrete.upper - HardConcrete.lower))
    return try add(Clamp(0, 1), try add(Offset(by: Float(HardConcrete.lower)), stretched))
  }

  /// The expected number of open masks of `loga`, a scalar.
  mutating func expectedCount(_ loga: Value) throws(GraphError) -> Value {
    let shifted = try add(Offset(by: Float(HardConcrete.shift)), loga)
    return try add(Sum(over: .all), try add(Sigmoid(), shifted))
  }
}
