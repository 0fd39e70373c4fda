import CKernels
import Foundation
import Testing

extension KernelSet {
  var training: clip_training_kernel_set { clip_training_kernel_sets_at(index).pointee }
}

/// The derivatives of the activation functions in double precision.
func activationSlope(_ x: Double, _ activation: clip_activation) -> Double {
  switch activation {
  case CLIP_ACTIVATION_QUICK_GELU:
    let t = 1 / (1 + exp(-1.702 * x))
    return t * (1 + 1.702 * x * (1 - t))
  case CLIP_ACTIVATION_GELU:
    return 0.5 * erfc(-x / 2.0.squareRoot()) + x * exp(-x * x / 2) / (2 * Double.pi).squareRoot()
  default:
    return 1
  }
}

/// Rows in memory where each is followed by three floats that nothing may change.
struct Matrix {
  let rows: Int, columns: Int
  let memory: Memory<Float>

  var stride: Int { columns + 3 }
  var pointer: UnsafeMutablePointer<Float> { memory.pointer }

  init(_ rows: Int, _ columns: Int, in range: ClosedRange<Float>, from random: inout Random) {
    self.rows = rows
    self.columns = columns
    memory = Memory(random.floats(rows * (columns + 3), in: range))
  }

  init(_ rows: Int, _ columns: Int) {
    self.rows = rows
    self.columns = columns
    memory = Memory(repeating: -777, count: rows * (columns + 3))
  }

  subscript(row: Int, column: Int) -> Double {
    Double(memory[row * stride + column])
  }

  /// Of a matrix made to be written: whether no float between rows was.
  var isPaddingIntact: Bool {
    (0..<rows).allSatisfy { row in
      (columns..<stride).allSatisfy { memory[row * stride + $0] == -777 }
    }
  }

  /// The greatest distance of an element from what is wanted; NaN where there is one.
  func distance(from wanted: [[Double]]) -> Double {
    var greatest = 0.0
    for row in 0..<rows {
      for column in 0..<columns {
        let distance = abs(self[row, column] - wanted[row][column])
        if !(distance <= greatest) { greatest = distance }
      }
    }
    return greatest
  }
}

/// Rows and columns at and around the widths of vectors and tiles.
let trainingShapes = [
  (0, 16), (3, 1), (1, 15), (2, 16), (5, 17), (8, 33), (9, 64), (12, 32), (65, 32), (17, 65),
]
