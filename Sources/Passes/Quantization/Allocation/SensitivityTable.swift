import GraphIR
import TensorCore

/// What each weight of a model costs in bytes and in quality at each number of bits.
package struct SensitivityTable: Codable, Sendable, Equatable {
  /// One number of bits of a weight.
  package struct Choice: Codable, Sendable, Equatable {
    /// Bits of a code.
    package let bitCount: Int
    /// Bytes of codes and scales as files hold them.
    package let byteCount: Int
    /// What the model loses when only this weight has so many bits; positive, and no less than at
    /// more bits.
    package let loss: Double

    /// A choice.
    package init(bitCount: Int, byteCount: Int, loss: Double) {
      self.bitCount = bitCount
      self.byteCount = byteCount
      self.loss = loss
    }
  }

  /// One weight.
  package struct Row: Codable, Sendable, Equatable {
    /// Its name.
    package let weight: String
    /// Its elements.
    package let elementCount: Int
    /// The choices, bits ascending.
    package let choices: [Choice]

    /// The choices of `weight`.
    package init(weight: String, elementCount: Int, choices: [Choice]) {
      self.weight = weight
      self.elementCount = elementCount
      self.choices = choices
    }
  }

  /// The weights in the order of the model.
  package let rows: [Row]

  /// A table of `rows`.
  package init(rows: [Row]) { self.rows = rows }

  /// Bytes of all weights when weight `name` has `bits[name]` bits; nil where a choice is missing.
  package func byteCount(_ bits: [String: Int]) -> Int? { sum(bits) { $0.byteCount } }

  /// The losses of all weights together when weight `name` has `bits[name]` bits; nil where a choice
  /// is missing.
  package func loss(_ bits: [String: Int]) -> Double? { sum(bits) { $0.loss } }

  private func sum<Number: AdditiveArithmetic>(
    _ bits: [String: Int], _ part: (Choice) -> Number
  ) -> Number? {
    var sum = Number.zero
    for row in rows {
      guard let choice = row.choices.first(where: { $0.bitCount == bits[row.weight] }) else {
        return nil
      }
      sum += part(choice)
    }
    return sum
  }
}

extension WeightQuantizer {
  /// Bytes of the codes and scales of a weight of `shape` in a file: two for the scale of a group,
  /// four for that of a row.
  package func storedByteCount(of shape: [Int]) -> Int {
    let quantization = quantization(scales: Tensor(shape: [0], [Float]()))
    let count = shape.reduce(1, *)
    let scales = quantization.scaleShape(of: shape).reduce(1, *)
    return (count * bitCount + 7) / 8 + scales * (groupSize == nil ? 4 : 2)
  }
}
