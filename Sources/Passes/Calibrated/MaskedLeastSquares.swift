import Operators

/// The best weights of a layer for a given set of weights that may differ from zero.
///
/// Each row `v` of the result is least in `(v - t) H (v - t)ᵀ` among the rows that are zero where
/// its mask is.
package struct MaskedLeastSquares {
  /// The positive definite `H`, `[columns, columns]`.
  package let hessian: [Double]
  /// The input channels.
  package let columns: Int
  /// How many threads run.
  package let threadCount: Int

  /// Prepares to solve with `hessian`.
  package init(hessian: [Double], columns: Int, threadCount: Int) {
    precondition(hessian.count == columns * columns, "a square matrix")
    self.hessian = hessian
    self.columns = columns
    self.threadCount = threadCount
  }

  /// The best rows for `target`, row-major `[rows, columns]`, under `mask`, zero where a weight is
  /// gone.
  ///
  /// Layers whose rows' own systems take at most `directCost` multiplications to factor are solved
  /// row by row in float64, larger ones by conjugate gradients from `start`.
  package func solution(
    target: [Float], mask: [UInt8], startingAt start: [Float], iterations: Int = 60,
    directCost: Double = 4e9
  ) -> [Float] {
    let rows = target.count / max(columns, 1)
    let cost = (0..<rows).reduce(0.0) { sum, row in
      let kept = mask[(row * columns)..<((row + 1) * columns)].reduce(0.0) { $0 + Double($1) }
      return sum + kept * kept * kept / 6
    }
    return cost <= directCost
      ? direct(target, mask, rows) : iterated(target, mask, start, rows, iterations)
  }

  /// The best rows for `target` where the columns `gone` are zero in all rows.
  package func solution(_ target: [Float], without gone: Set<Int>) -> [Float] {
    let rows = target.count / max(columns, 1)
    let kept = (0..<columns).filter { !gone.contains($0) }
    var result = [Float](repeating: 0, count: target.count)
    let part = kept.flatMap { a in kept.map { b in hessian[a * columns + b] } }
    guard !kept.isEmpty,
      let factor = CholeskyFactor(part, count: kept.count, threadCount: threadCount)
    else { return result }
    let removed = gone.sorted()
    result.withUnsafeMutableBufferPointer { result in
      nonisolated(unsafe) let result = result
      forEachRange(of: rows, threadCount: threadCount) { range in
        for row in range {
          let first = row * columns
          var side = kept.map { column in
            removed.reduce(0.0) {
              $0 + hessian[column * columns + $1] * Double(target[first + $1])
            }
          }
          factor.solve(&side)
          for (column, shift) in zip(kept, side) {
            result[first + column] = Float(Double(target[first + column]) + shift)
          }
        }
      }
    }
    return result
  }

  /// Row by row: `v_S = t_S + H_SS⁻¹ H_SR t_R` for the kept `S` and the removed `R`.
  func direct(_ target: [Float], _ mask: [UInt8], _ rows: Int) -> [Float] {
    var result = [Float](repeating: 0, count: target.count)
    result.withUnsafeMutableBufferPointer { result in
      nonisolated(unsafe) let result = result
      forEachRange(of: rows, threadCount: threadCount) { range in
        for row in range {
          let first = row * columns
          let kept = (0..<columns).filter { mask[first + $0] != 0 }
          let gone = (0..<columns).filter { mask[first + $0] == 0 && target[first + $0] != 0 }
          for column in kept { result[first + column] = target[first + column] }
          guard !kept.isEmpty, !gone.isEmpty else { continue }
          var side = kept.map { column in
            gone.reduce(0.0) {
              $0 + hessian[column * columns + $1] * Double(target[first + $1])
            }
          }
          let part = kept.flatMap { a in kept.map { b in hessian[a * columns + b] } }
          guard let factor = CholeskyFactor(part, count: kept.count) else { continue }
          factor.solve(&side)
          for (column, shift) in zip(kept, side) {
            result[first + column] = Float(Double(target[first + column]) + shift)
          }
        }
      }
    }
    return result
  }

  /// All rows at once by conjugate gradients with the diagonal as preconditioner; the error of no
  /// row rises.
  func iterated(
    _ target: [Float], _ mask: [UInt8], _ start: [Float], _ rows: Int, _ iterations: Int
  ) -> [Float] {
    let matrix = hessian.map { Float($0) }
    let scales = (0..<columns).map { Float(1 / hessian[$0 * columns + $0]) }
    var solution = zip(start, mask).map { $1 == 0 ? 0 : $0 }
    var residual = product(zip(target, solution).map { $0 - $1 }, matrix, rows)
    for index in residual.indices where mask[index] == 0 { residual[index] = 0 }
    var direction = [Float](repeating: 0, count: target.count)
    var energies = [Double](repeating: 0, count: rows)
    for iteration in 0..<iterations {
      for row in 0..<rows {
        let range = (row * columns)..<((row + 1) * columns)
        var energy = 0.0
        for (column, index) in range.enumerated() {
          energy += Double(residual[index]) * Double(residual[index] * scales[column])
        }
        let ratio = iteration > 0 && energies[row] > 0 ? Float(energy / energies[row]) : 0
        for (column, index) in range.enumerated() {
          direction[index] = residual[index] * scales[column] + ratio * direction[index]
        }
        energies[row] = energy
      }
      let image = product(direction, matrix, rows)
      for row in 0..<rows {
        let range = (row * columns)..<((row + 1) * columns)
        let curvature = range.reduce(0.0) { $0 + Double(direction[$1]) * Double(image[$1]) }
        guard curvature > 0 else { continue }
        let step = Float(energies[row] / curvature)
        for index in range where mask[index] != 0 {
          solution[index] += step * direction[index]
          residual[index] -= step * image[index]
        }
      }
    }
    return solution
  }

  private func product(_ left: [Float], _ right: [Float], _ rows: Int) -> [Float] {
    LayerProblem.multiply(left, right, rows: rows, columns: columns, threadCount: threadCount)
  }
}
