import GraphIR
import TensorCore

/// Prunes a layer column by column, the columns that are left making up for what goes.
///
/// A weight of column `j` goes by its saliency `w² / U_jj²`, where the inverse of the Hessian is
/// `Uᵀ U`: what the optimal brain surgeon says its removal costs once the columns before are done.
///
/// - Source: Frantar and Alistarh, "SparseGPT: Massive Language Models Can Be Accurately Pruned in
///   One-Shot", ICML 2023, arXiv:2301.00774. Differs: counts are exact over the layer; the weights
///   that stay are solved for once more when all masks are known, unless ``Options/refits`` is off.
package struct SparseGPT: LayerMethod {
  /// The user's choices.
  package struct Options: Codable, Sendable, Equatable {
    /// Over how many columns weights are compared, and updated before the others are; the paper has
    /// 128, for layers much wider than CLIP's.
    package var blockWidth = 16
    /// Whether columns go in the order of their inputs' energy, the highest first, as GPTQ can; not
    /// for patterns.
    package var ordersByEnergy = true
    /// Whether the weights that stay are the best for their mask rather than those of the sweep.
    package var refits = true

    /// The defaults.
    package init() {}
  }

  private let options: Options

  /// Makes the method.
  package init(options: Options = Options()) { self.options = options }

  package func solution(
    of problem: LayerProblem, _ goal: LayerGoal
  ) throws(PassError) -> LayerSolution {
    let (rows, columns) = (problem.rows, problem.columns)
    var order = Array(0..<columns)
    var width = max(options.blockWidth, 1)
    switch goal {
    case .count:
      if options.ordersByEnergy {
        let energies = order.map { problem.hessian[$0 * columns + $0] }
        order.sort { (energies[$1], $0) < (energies[$0], $1) }
      }
    case .pattern(_, let block): width = (width + block - 1) / block * block
    }
    let hessian = order.flatMap { row in order.map { problem.hessian[row * columns + $0] } }
    guard
      let root = CholeskyFactor.upperRoot(
        ofInverse: hessian, count: columns, threadCount: problem.threadCount)
    else {
      throw .unsuitable(
        pass: "sparsegpt", "the inputs of a layer determine too little; more damping is needed")
    }
    var weights = permuted(problem.target, order, rows)
    let rule = PruningRule(
      goal: goal, mask: problem.mask.map { permuted($0, order, rows) }, rows: rows,
      diagonal: (0..<columns).map { root[$0 * columns + $0] })
    ColumnSweep(
      root: root, columns: columns, blockWidth: width, threadCount: problem.threadCount
    ).run(&weights, rows: rows, by: rule)
    var back = order
    for (place, column) in order.enumerated() { back[column] = place }
    var solution = LayerSolution(
      weights: permuted(weights, back, rows), mask: permuted(rule.mask, back, rows))
    if options.refits {
      solution.weights = MaskedLeastSquares(
        hessian: problem.hessian, columns: columns, threadCount: problem.threadCount
      ).solution(
        target: problem.target, mask: solution.mask, startingAt: solution.weights)
    }
    return solution
  }

  private func permuted<Element>(
    _ elements: [Element], _ order: [Int], _ rows: Int
  ) -> [Element] {
    (0..<rows).flatMap { row in order.map { elements[row * order.count + $0] } }
  }
}

/// Replaces by zero what costs least.
final class PruningRule: SweepRule {
  private let goal: LayerGoal
  private let rows: Int
  private let columns: Int
  private let diagonal: [Float]
  private let places: UnsafeMutableBufferPointer<UInt8>
  private var hiddenCount = 0

  /// Prunes rows with the `diagonal` of the root, those that `mask` hides before all others.
  init(goal: LayerGoal, mask: [UInt8]?, rows: Int, diagonal: [Float]) {
    self.goal = goal
    self.rows = rows
    self.diagonal = diagonal
    columns = diagonal.count
    places = .allocate(capacity: rows * columns)
    if let mask { _ = places.initialize(from: mask) } else { places.initialize(repeating: 1) }
  }

  deinit { places.deallocate() }

  /// One where a weight stays.
  var mask: [UInt8] { Array(places) }

  func begin(block: Range<Int>, _ weights: UnsafeBufferPointer<Float>) {
    guard case .count(let wanted) = goal else { return }
    // Exact over the layer: each block takes what is due by its last column.
    let due = Int(
      (Double(wanted) * Double(block.upperBound) / Double(columns) + 1e-6).rounded(.down))
    var keys: [UInt32] = []
    keys.reserveCapacity(rows * block.count)
    for row in 0..<rows {
      for column in block {
        let place = row * columns + column
        let root = diagonal[column]
        keys.append(
          LayerMask.key(
            weights[place] / root * (weights[place] / root), isMasked: places[place] == 0))
      }
    }
    var chosen = [UInt8](repeating: 1, count: keys.count)
    LayerMask.hideLowest(max(due - hiddenCount, 0), of: keys, in: &chosen) { $0 }
    for index in keys.indices {
      let place = index / block.count * columns + block.lowerBound + index % block.count
      if chosen[index] == 0 { places[place] = 0 }
      if places[place] == 0 { hiddenCount += 1 }
    }
  }

  func begin(column: Int, ofRow row: Int, _ weights: UnsafePointer<Float>) {
    guard case .pattern(let kept, let block) = goal, column % block == 0 else { return }
    let first = row * columns
    let keys = (column..<(column + block)).map { column in
      let scaled = weights[column] / diagonal[column]
      return LayerMask.key(scaled * scaled, isMasked: places[first + column] == 0)
    }
    let order = keys.indices.sorted { (keys[$1], $0) < (keys[$0], $1) }
    for index in order.dropFirst(kept) { places[first + column + index] = 0 }
  }

  func replacement(for weight: Float, row: Int, column: Int) -> Float {
    places[row * columns + column] == 0 ? 0 : weight
  }
}
