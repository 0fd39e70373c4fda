import Operators

/// Decides element by element what a sweep leaves in place of a weight.
///
/// Methods are called for one row by one thread at a time; different rows at once.
package protocol SweepRule: AnyObject {
  /// Called before the columns of a block, with the weights as they stand, row-major.
  func begin(block columns: Range<Int>, _ weights: UnsafeBufferPointer<Float>)

  /// Called before `column` of one row, with that row as it stands.
  func begin(column: Int, ofRow row: Int, _ weights: UnsafePointer<Float>)

  /// What stands in place of `weight`.
  func replacement(for weight: Float, row: Int, column: Int) -> Float
}

/// Replaces the weights of a layer column by column, the columns to the right making up for each
/// change as the optimal brain surgeon says.
///
/// Pruning replaces by zero, quantization by the nearest code.
///
/// - Source: Frantar and Alistarh, "SparseGPT", ICML 2023, arXiv:2301.00774; Frantar et al.,
///   "GPTQ", ICLR 2023, arXiv:2210.17323.
package struct ColumnSweep {
  /// The upper triangular `U` with `H⁻¹ = Uᵀ U`, `[columns, columns]`.
  package let root: [Float]
  /// The input channels.
  package let columns: Int
  /// How many columns are swept before what is right of them is updated.
  package let blockWidth: Int
  /// How many threads run.
  package let threadCount: Int

  /// Prepares a sweep.
  package init(root: [Float], columns: Int, blockWidth: Int, threadCount: Int) {
    precondition(root.count == columns * columns && blockWidth > 0, "a square root and a width")
    self.root = root
    self.columns = columns
    self.blockWidth = blockWidth
    self.threadCount = threadCount
  }

  /// Sweeps over row-major `weights`, `[rows, columns]`.
  package func run<Rule: SweepRule>(_ weights: inout [Float], rows: Int, by rule: Rule) {
    let columns = columns
    var errors = [Float](repeating: 0, count: rows * min(blockWidth, columns))
    weights.withUnsafeMutableBufferPointer { weights in
      root.withUnsafeBufferPointer { root in
        errors.withUnsafeMutableBufferPointer { errors in
          guard let w = weights.baseAddress, let u = root.baseAddress, let e = errors.baseAddress
          else { return }
          for start in stride(from: 0, to: columns, by: blockWidth) {
            let block = start..<min(start + blockWidth, columns)
            rule.begin(block: block, UnsafeBufferPointer(weights))
            forEachRange(of: rows, threadCount: threadCount, minimumCount: 8) { range in
              for row in range {
                sweep(w + row * columns, e + row * block.count, u, row, block, rule)
              }
            }
            guard block.upperBound < columns else { continue }
            // What is right of the block is updated at once.
            let right = columns - block.upperBound
            Matrix.multiply(
              m: rows, n: right, k: block.count,
              MatrixView(UnsafeBufferPointer(errors), stride: block.count),
              MatrixView(
                UnsafeBufferPointer(rebasing: root[(start * columns + block.upperBound)...]),
                stride: columns),
              scale: -1, accumulates: true,
              into: UnsafeMutableBufferPointer(rebasing: weights[block.upperBound...]),
              stride: columns, threadCount: threadCount)
          }
        }
      }
    }
  }

  private func sweep<Rule: SweepRule>(
    _ weights: UnsafeMutablePointer<Float>, _ errors: UnsafeMutablePointer<Float>,
    _ root: UnsafePointer<Float>, _ row: Int, _ block: Range<Int>, _ rule: Rule
  ) {
    for column in block {
      rule.begin(column: column, ofRow: row, weights)
      let weight = weights[column]
      let replacement = rule.replacement(for: weight, row: row, column: column)
      let own = root + column * columns
      let error = (weight - replacement) / own[column]
      errors[column - block.lowerBound] = error
      weights[column] = replacement
      guard error != 0 else { continue }
      for right in (column + 1)..<max(block.upperBound, column + 1) {
        weights[right] -= error * own[right]
      }
    }
  }
}
