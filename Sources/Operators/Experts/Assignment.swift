import GraphIR
import TensorCore

/// What the elements of an assignment of tokens to experts mean.
///
/// An assignment has one int32 for each slot of a token: the index of the expert that computes it,
/// `none`, or, where the chosen expert has no room, minus the index less two.
package enum SlotCode {
  /// No expert was chosen.
  package static let none: Int32 = -1

  /// Expert `index` was chosen but is full.
  package static func full(_ index: Int) -> Int32 { -Int32(index) - 2 }

  /// The expert that was chosen, full or not; nil for none.
  package static func choice(_ code: Int32) -> Int? {
    if code >= 0 { return Int(code) }
    return code == none ? nil : -(Int(code) + 2)
  }
}

/// The largest number of experts that an operator takes.
let largestExpertCount = 65_536

extension Op {
  /// Throws unless input `index` is an assignment: int32 of rank 1 to 3.
  func requireAssignment(_ inputs: [TensorType], _ index: Int) throws(GraphError) {
    guard inputs[index].dtype == .int32, (1...3).contains(inputs[index].rank) else {
      throw mismatch(inputs, index, "i32[..., slots] of rank 1 to 3")
    }
  }

  /// Throws unless input `index` is float32 `[..., n]` beside assignment `assignment`
  /// `[..., slots]`, and returns `n`.
  func requireBeside(
    _ inputs: [TensorType], _ index: Int, assignment: Int
  ) throws(GraphError) -> Extent {
    let leading = inputs[assignment].extents.dropLast()
    guard inputs[index].dtype == .float32, let last = inputs[index].extents.last,
      inputs[index].extents.dropLast() == leading
    else { throw mismatch(inputs, index, "f32\(described(Array(leading), then: "n"))") }
    return last
  }

  /// Throws unless input `index` is float32 `[..., slots, n]` for assignment `assignment`, and
  /// returns `n`.
  func requireSlotRows(
    _ inputs: [TensorType], _ index: Int, assignment: Int
  ) throws(GraphError) -> Extent {
    let slots = inputs[assignment].extents
    guard inputs[index].dtype == .float32, inputs[index].rank == slots.count + 1,
      Array(inputs[index].extents.dropLast()) == slots
    else { throw mismatch(inputs, index, "f32\(described(slots, then: "n"))") }
    return inputs[index].extents[slots.count]
  }

  /// Throws unless input `index` holds rows that experts read: float32 `[..., n]`, a row for each
  /// token, or `[..., slots, n]`, one for each slot; returns `n`.
  func requireExpertRows(
    _ inputs: [TensorType], _ index: Int, assignment: Int
  ) throws(GraphError) -> Extent {
    inputs[index].rank == inputs[assignment].rank
      ? try requireBeside(inputs, index, assignment: assignment)
      : try requireSlotRows(inputs, index, assignment: assignment)
  }

  private func described(_ extents: [Extent], then last: String) -> String {
    "[\((extents.map(\.description) + [last]).joined(separator: ", "))]"
  }
}

extension Attributes {
  /// Takes out the integer `name` in `range`, or `absent` where there is none.
  mutating func integer(
    _ name: String, in range: ClosedRange<Int>, absent: Int
  ) throws(GraphError) -> Int {
    has(name) ? try integer(name, in: range) : absent
  }
}

/// The couplings of the leading axes of operands that have a place for each slot.
func leadingLinks(_ inputs: [Int], rank: Int) -> [AxisLink] {
  (0..<rank).map { axis in AxisLink(inputs.map { .input($0, axis) } + [.output(0, axis)]) }
}
