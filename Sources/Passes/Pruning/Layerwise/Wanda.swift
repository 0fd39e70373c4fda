import GraphIR
import TensorCore

/// Prunes in every row the weights with the smallest product of magnitude and input norm; the
/// others stay as they are.
///
/// - Source: Sun et al., "A Simple and Effective Pruning Approach for Large Language Models",
///   ICLR 2024, arXiv:2306.11695.
package struct Wanda: LayerMethod {
  /// Makes the method; there is nothing to choose.
  package init() {}

  package func solution(
    of problem: LayerProblem, _ goal: LayerGoal
  ) throws(PassError) -> LayerSolution {
    let (rows, columns) = (problem.rows, problem.columns)
    var mask = problem.mask ?? [UInt8](repeating: 1, count: rows * columns)
    for row in 0..<rows {
      let first = row * columns
      let keys = (0..<columns).map { column in
        LayerMask.key(
          abs(problem.weight[first + column]) * Float(problem.inputNorms[column]),
          isMasked: mask[first + column] == 0)
      }
      switch goal {
      case .count(let wanted):
        let count = LayerMask.count(ofRow: row, of: rows, wanted: wanted)
        LayerMask.hideLowest(count, of: keys, in: &mask) { first + $0 }
      case .pattern(let kept, let block):
        for start in stride(from: 0, to: columns, by: block) {
          let order = (start..<(start + block)).sorted { (keys[$1], $0) < (keys[$0], $1) }
          for column in order.dropFirst(kept) { mask[first + column] = 0 }
        }
      }
    }
    let weights = zip(problem.weight, mask).map { $1 == 0 ? 0 : $0 }
    return LayerSolution(weights: weights, mask: mask)
  }
}
