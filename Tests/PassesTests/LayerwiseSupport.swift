import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport

/// A linear layer with inputs, and the same in float64.
struct LayerSample {
  let rows: Int
  let columns: Int
  let inputs: [Float]
  var weights: [Float]
  var bias: [Float]?
  var mask: [UInt8]?

  /// Random weights and `count` correlated inputs.
  init(rows: Int, columns: Int, count: Int, seed: UInt64) throws {
    try Matrix.open()
    self.rows = rows
    self.columns = columns
    var random = SplitMix64(seed: seed)
    weights = random.normals(rows * columns)
    let mixing = random.normals(columns * columns, scale: 0.5)
    inputs = (0..<count).flatMap { _ -> [Float] in
      let own = random.normals(columns)
      return (0..<columns).map { column in
        own[column] + 0.3
          + (0..<columns).reduce(Float(0)) { $0 + own[$1] * mixing[$1 * columns + column] }
      }
    }
  }

  /// The given inputs, row by row.
  init(rows: Int, columns: Int, weights: [Float], inputs: [Float]) throws {
    try Matrix.open()
    self.rows = rows
    self.columns = columns
    self.weights = weights
    self.inputs = inputs
  }

  func layer() -> CalibratedLayer {
    let statistics = InputStatistics(width: columns)
    inputs.withUnsafeBufferPointer { statistics.add($0, threadCount: 2) }
    return CalibratedLayer(
      name: "layer", weightName: "layer.weight",
      weight: Parameter(
        Tensor(shape: [rows, columns], weights),
        mask: mask.map { Tensor(shape: [rows, columns], $0) }),
      bias: bias.map { Parameter(Tensor(shape: [rows], $0)) }, statistics: statistics)
  }

  func problem(damping: Double = 0) throws -> LayerProblem {
    var options = LayerProblem.Options()
    options.damping = damping
    return try LayerProblem(layer(), options: options, threadCount: 2)
  }

  /// `XᵀX / n`, plus `damping` times the mean of its diagonal there.
  func hessian(damping: Double = 0) -> [[Double]] {
    let count = inputs.count / columns
    var result = [[Double]](
      repeating: [Double](repeating: 0, count: columns), count: columns)
    for sample in 0..<count {
      for i in 0..<columns {
        for j in 0..<columns {
          result[i][j] +=
            Double(inputs[sample * columns + i]) * Double(inputs[sample * columns + j])
            / Double(count)
        }
      }
    }
    let mean = (0..<columns).reduce(0.0) { $0 + result[$1][$1] } / Double(columns)
    for i in 0..<columns { result[i][i] += damping * mean }
    return result
  }

  /// The sum of squares of `X (V - W)ᵀ` over the number of inputs.
  func error(of weights: [Float]) -> Double {
    let count = inputs.count / columns
    var sum = 0.0
    for sample in 0..<count {
      for row in 0..<rows {
        var difference = 0.0
        for column in 0..<columns {
          let place = row * columns + column
          difference +=
            Double(inputs[sample * columns + column])
            * (Double(weights[place]) - Double(self.weights[place]))
        }
        sum += difference * difference
      }
    }
    return sum / Double(count)
  }
}

/// The inverse of a matrix by Gauss-Jordan elimination with pivots.
func inverse(_ matrix: [[Double]]) -> [[Double]] {
  let count = matrix.count
  var work = matrix.enumerated().map { index, row in
    row + (0..<count).map { $0 == index ? 1 : 0 }
  }
  for column in 0..<count {
    let pivot = (column..<count).max { abs(work[$0][column]) < abs(work[$1][column]) } ?? column
    work.swapAt(column, pivot)
    let scale = work[column][column]
    work[column] = work[column].map { $0 / scale }
    for row in 0..<count where row != column {
      let factor = work[row][column]
      work[row] = zip(work[row], work[column]).map { $0 - factor * $1 }
    }
  }
  return work.map { Array($0[count...]) }
}

/// The rows that are best for `target` under `hessian` where only `kept` may differ from zero.
func bestRow(_ target: [Double], _ hessian: [[Double]], kept: [Int]) -> [Double] {
  var result = [Double](repeating: 0, count: target.count)
  guard !kept.isEmpty else { return result }
  let part = inverse(kept.map { i in kept.map { hessian[i][$0] } })
  let right = kept.map { i in target.indices.reduce(0.0) { $0 + hessian[i][$1] * target[$1] } }
  for (place, column) in kept.enumerated() {
    result[column] = zip(part[place], right).reduce(0.0) { $0 + $1.0 * $1.1 }
  }
  return result
}

/// How many elements are zero.
func zeroCount(_ mask: [UInt8]) -> Int { mask.reduce(0) { $0 + ($1 == 0 ? 1 : 0) } }

/// The largest relative difference of two sequences, to the largest magnitude of the second.
func relativeDifference(_ left: [Float], _ right: [Double]) -> Double {
  let scale = right.reduce(0.0) { max($0, abs($1)) }
  return zip(left, right).reduce(0.0) { max($0, abs(Double($1.0) - $1.1)) } / max(scale, 1e-30)
}
