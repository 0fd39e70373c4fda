import Glibc

/// The precisions in which an operator's definition can be evaluated.
///
/// Models run in `Float`; `Double` is for checks against rounding-free arithmetic.
package protocol FloatingElement: TensorElement, BinaryFloatingPoint {
  /// e to the power of `x`.
  static func exp(_ x: Self) -> Self
  /// The natural logarithm of `x`.
  static func log(_ x: Self) -> Self
  /// The error function.
  static func erf(_ x: Self) -> Self
}

extension Float: FloatingElement {
  package static func exp(_ x: Float) -> Float { expf(x) }
  package static func log(_ x: Float) -> Float { logf(x) }
  package static func erf(_ x: Float) -> Float { erff(x) }
}

extension Double: FloatingElement {
  package static func exp(_ x: Double) -> Double { Glibc.exp(x) }
  package static func log(_ x: Double) -> Double { Glibc.log(x) }
  package static func erf(_ x: Double) -> Double { Glibc.erf(x) }
}
