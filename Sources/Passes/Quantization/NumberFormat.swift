import TensorCore

/// What the numbers of a tensor can become.
package enum NumberFormat: String, Codable, Sendable, CaseIterable {
  case int8
  case int7
  case int6
  case int5
  case int4
  case int3
  case int2
  case float32
  case float16
  case bfloat16

  /// Bits of a code; nil for a float.
  package var bitCount: Int? {
    guard rawValue.hasPrefix("int") else { return nil }
    return rawValue.last.flatMap { Int(String($0)) }
  }

  /// The format whose codes have `bitCount` bits, 2 to 8.
  package init?(bitCount: Int) { self.init(rawValue: "int\(bitCount)") }

  /// The nearest number that a float of this format can hold; beyond its range the largest one.
  package func rounded(_ number: Float) -> Float {
    switch self {
    case .float16: Self.keeping(10, of: min(max(number, -65504), 65504), leastExponent: -14)
    case .bfloat16:
      Self.keeping(7, of: min(max(number, -0x1.FEp127), 0x1.FEp127), leastExponent: -126)
    default: number
    }
  }

  /// Rounds half to even to `bits` of the fraction; below `2^leastExponent` to that number's step.
  private static func keeping(_ bits: Int, of number: Float, leastExponent: Int) -> Float {
    guard number != 0, number.isFinite else { return number }
    let exponent = max(Int(number.exponent), leastExponent)
    let step = Double(sign: .plus, exponent: exponent - bits, significand: 1)
    return Float((Double(number) / step).rounded(.toNearestOrEven) * step)
  }
}
