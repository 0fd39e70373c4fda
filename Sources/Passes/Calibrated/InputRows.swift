import Operators
import TensorCore

/// Some rows of what a linear layer reads, each with what the original model has in its place.
///
/// Every row that went by is among them with the same probability.
///
/// - Source: Vitter, "Random Sampling with a Reservoir", ACM TOMS 11(1), 1985, algorithm R.
package final class InputRows {
  /// The input channels.
  package let width: Int
  /// At most so many rows are kept.
  package let capacity: Int
  /// The rows, `[count, width]`.
  package private(set) var elements: [Float] = []
  /// The original rows in the same order, `[count, width]`.
  package private(set) var originals: [Float] = []
  private var seen = 0
  private var random: SplitMix64

  /// Keeps nothing yet.
  package init(width: Int, capacity: Int, seed: UInt64) {
    self.width = width
    self.capacity = capacity
    random = SplitMix64(seed: seed)
  }

  /// How many rows are kept.
  package var count: Int { elements.count / max(width, 1) }

  /// Lets `rows`, `[n, width]`, and the original ones of the same shape go by.
  package func add(_ rows: UnsafeBufferPointer<Float>, original: UnsafeBufferPointer<Float>) {
    precondition(width > 0 && rows.count % width == 0, "the rows are not \(width) wide")
    precondition(original.count == rows.count, "as many original rows")
    for start in stride(from: 0, to: rows.count, by: width) {
      let range = start..<(start + width)
      if count < capacity {
        elements += rows[range]
        originals += original[range]
      } else {
        let place = random.nextIndex(below: seen + 1) * width
        if place < elements.count {
          for column in 0..<width {
            elements[place + column] = rows[start + column]
            originals[place + column] = original[start + column]
          }
        }
      }
      seen += 1
    }
  }

  /// Whether every element is finite.
  package var isFinite: Bool {
    elements.allSatisfy(\.isFinite) && originals.allSatisfy(\.isFinite)
  }
}
