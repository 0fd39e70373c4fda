import Glibc

/// An axis from one round number to another with ticks at round numbers between.
struct CurveAxis: Hashable {
  /// The ticks are `tickRange` times `mantissa * 10^exponent`.
  let tickRange: ClosedRange<Int>
  let mantissa: Int
  let exponent: Int

  /// Covers `low...high` with about `count` ticks whose distance is 1, 2 or 5 times a power of ten.
  ///
  /// - Precondition: both are finite, and `low` is not above `high`.
  init(_ low: Double, _ high: Double, about count: Int, isIntegral: Bool = false) {
    var (low, high) = (low, high)
    // A range that is a point, or nearly one, gets room around it.
    let room = max(abs(low), abs(high), 1e-12) * 1e-3
    if high - low < room { (low, high) = (low - room, high + room) }
    let ideal = max((high - low) / Double(max(count, 1)), isIntegral ? 1 : 0)
    var exponent = Int(floor(log10(ideal)))
    let ratio = ideal / pow(10, Double(exponent))
    var mantissa = ratio <= 1.5 ? 1 : ratio <= 3.5 ? 2 : ratio <= 7.5 ? 5 : 10
    if mantissa == 10 { (mantissa, exponent) = (1, exponent + 1) }
    self.mantissa = mantissa
    self.exponent = exponent
    let unit = Double(mantissa) * pow(10, Double(exponent))
    // Rounding of the quotient must not add a tick beyond a bound that is round itself.
    tickRange = Int(floor(low / unit + 1e-9))...Int(ceil(high / unit - 1e-9))
  }

  private var unit: Double { Double(mantissa) * pow(10, Double(exponent)) }

  /// The number at the low end.
  var low: Double { Double(tickRange.lowerBound) * unit }
  /// The number at the high end.
  var high: Double { Double(tickRange.upperBound) * unit }

  /// The numbers with a tick and what stands beside them, after multiplication by `10^shift`.
  func ticks(shift: Int = 0) -> [(value: Double, label: String)] {
    tickRange.map { (Double($0) * unit, label($0 * mantissa, exponent + shift)) }
  }

  private func label(_ digits: Int, _ exponent: Int) -> String {
    if digits == 0 { return "0" }
    if exponent > 9 || exponent < -6 { return "\(digits)e\(exponent)" }
    if exponent < 0 { return decimal(digits, places: -exponent) }
    let scaled = (0..<exponent).reduce(digits) { value, _ in value * 10 }
    return grouped(scaled)
  }
}

/// `digits / 10^places` with that many places.
func decimal(_ digits: Int, places: Int) -> String {
  var text = String(abs(digits))
  if places > 0 {
    text = String(repeating: "0", count: max(0, places + 1 - text.count)) + text
    text.insert(".", at: text.index(text.endIndex, offsetBy: -places))
  }
  return (digits < 0 ? "\u{2212}" : "") + text
}

/// `number` with a comma between groups of three digits.
private func grouped(_ number: Int) -> String {
  var text = ""
  for (index, digit) in String(abs(number)).reversed().enumerated() {
    if index > 0 && index.isMultiple(of: 3) { text.append(",") }
    text.append(digit)
  }
  return (number < 0 ? "\u{2212}" : "") + String(text.reversed())
}
