import Operators
import TensorCore

/// How activations become codes.
package struct ActivationCodes: Codable, Sendable, Hashable {
  /// Bits of a code, 2 to 8; nil for float32.
  package var bitCount: Int?
  /// Whether each token has a scale of its own, found as the model runs.
  package var isPerToken: Bool
  /// How the range of a whole tensor is chosen.
  package var clipping: ClippingRule
  /// The share in percent for ``ClippingRule/percentile``.
  package var percentile: Double

  /// Describes codes of `bitCount` bits.
  package init(
    bitCount: Int?, isPerToken: Bool = false, clipping: ClippingRule = .octav,
    percentile: Double = 99.99
  ) {
    self.bitCount = bitCount
    self.isPerToken = isPerToken
    self.clipping = clipping
    self.percentile = percentile
  }

  /// The codes of a tensor whose values are distributed as in `histogram`; nil for float32 and for
  /// scales found as the model runs.
  package func quantization(of histogram: ActivationHistogram) -> ActivationQuantization? {
    guard let bitCount, !isPerToken else { return nil }
    return histogram.quantization(
      bitCount: bitCount, clipping: clipping, percentile: percentile)
  }

  /// Rounds rows of `width` values, distributed as in `histogram`, to their codes' values.
  package func simulate(
    _ rows: inout [Float], like histogram: @autoclosure () -> ActivationHistogram, width: Int
  ) {
    guard let bitCount, width > 0 else { return }
    if isPerToken {
      let limit = Float((1 << (bitCount - 1)) - 1)
      for start in stride(from: 0, to: rows.count, by: width) {
        let peak = rows[start..<(start + width)].reduce(0) { max($0, abs($1)) }
        let scale = peak > 0 ? peak / limit : 1
        for index in start..<(start + width) {
          rows[index] = (rows[index] / scale).rounded(.toNearestOrEven) * scale
        }
      }
    } else if let codes = quantization(of: histogram()) {
      for index in rows.indices { rows[index] = codes.simulated(rows[index]) }
    }
  }
}
