import GraphIR
import Operators
import TensorCore

/// Finds the sparsest weights, by the sum of magnitudes, whose outputs stay within a tolerance:
/// `min |V|₁` subject to `|X (V - W)ᵀ| <= ε |X Wᵀ|`.
///
/// The original states the problem for layers that end in a rectifier, which turns outputs below
/// zero into mere inequalities. The layers of CLIP end in nothing or in GELU, which is not zero
/// there, so this is the variant of least squares for linear layers. Since only `Xᵀ X` matters to
/// it, its square root stands in for the samples.
///
/// - Source: Aghasi et al., "Net-Trim: Convex Pruning of Deep Neural Networks with Performance
///   Guarantee", NeurIPS 2017, arXiv:1611.05162, solved by the alternating direction method of
///   multipliers. Differs: the tolerance is found by bisection where a sparsity is asked for.
package struct NetTrim: LayerMethod {
  /// The user's choices.
  package struct Options: Codable, Sendable, Equatable {
    /// The steps of the bisection for the tolerance.
    package var bisections = 10
    /// The most iterations for each tolerance tried.
    package var iterationsPerTolerance = 20
    /// The most iterations for a tolerance that is given.
    package var iterations = 10_000
    /// Whether the weights that stay are the best for their mask, since the sum of magnitudes also
    /// makes these smaller.
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
    guard var solver = NetTrimSolver(problem) else {
      throw .unsuitable(
        pass: "net-trim", "the inputs of a layer determine too little; more damping is needed")
    }
    let count = problem.rows * problem.columns
    let wanted =
      switch goal {
      case .count(let wanted): count - wanted
      case .pattern(let kept, let block): count / block * kept
      }
    // The result with the fewest weights that has at least as many as shall stay.
    var best = problem.target
    var fewest = count
    var (low, high) = (0.0, 1.0)
    for _ in 0..<(wanted < count ? options.bisections : 0) {
      let tolerance = (low + high) / 2
      solver.iterate(tolerance: tolerance, most: options.iterationsPerTolerance)
      let kept = solver.sparse.reduce(0) { $0 + ($1 != 0 ? 1 : 0) }
      if kept >= wanted {
        low = tolerance
        if kept <= fewest { (best, fewest) = (solver.sparse, kept) }
      } else {
        high = tolerance
      }
      if kept == wanted { break }
    }
    let mask = mask(of: best, problem, goal)
    var solution = LayerSolution(weights: zip(best, mask).map { $1 == 0 ? 0 : $0 }, mask: mask)
    if options.refits {
      solution.weights = MaskedLeastSquares(
        hessian: problem.hessian, columns: problem.columns, threadCount: problem.threadCount
      ).solution(target: problem.target, mask: mask, startingAt: solution.weights)
    }
    return solution
  }

  /// The sparsest weights whose outputs stay within `tolerance`, a share of the layer's own.
  ///
  /// - Throws: ``PassError`` when the layer's Hessian is not positive definite.
  package func solution(
    of problem: LayerProblem, tolerance: Double
  ) throws(PassError) -> LayerSolution {
    guard var solver = NetTrimSolver(problem) else {
      throw .unsuitable(
        pass: "net-trim", "the inputs of a layer determine too little; more damping is needed")
    }
    solver.iterate(tolerance: tolerance, most: options.iterations)
    let mask = solver.sparse.map { UInt8($0 == 0 ? 0 : 1) }
    let weights = solver.feasible(mask: mask, tolerance: tolerance)
    return LayerSolution(weights: weights, mask: mask)
  }

  private func mask(of weights: [Float], _ problem: LayerProblem, _ goal: LayerGoal) -> [UInt8] {
    var mask = problem.mask ?? [UInt8](repeating: 1, count: weights.count)
    let keys = weights.indices.map { LayerMask.key(weights[$0], isMasked: mask[$0] == 0) }
    switch goal {
    case .count(let wanted):
      LayerMask.hideLowest(wanted, of: keys, in: &mask) { $0 }
    case .pattern(let kept, let block):
      for start in stride(from: 0, to: keys.count, by: block) {
        let order = (start..<(start + block)).sorted { (keys[$1], $0) < (keys[$0], $1) }
        for place in order.dropFirst(kept) { mask[place] = 0 }
      }
    }
    return mask
  }
}
