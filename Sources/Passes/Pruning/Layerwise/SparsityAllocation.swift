import GraphIR
import TensorCore

/// Shares a sparsity out among layers by one threshold on what single weights cost.
///
/// A weight costs what the optimal brain surgeon says, `w² / [H⁻¹]_jj`, as a share of the energy of
/// its layer's outputs, since these meet other layers that make up for their scale. For Wanda it is
/// the square of its score.
package struct SparsityAllocation {
  private let pass: String
  private let method: LayerwisePruning.Method
  private let problem: LayerProblem.Options

  /// Allocates for `method`.
  package init(
    pass: String, method: LayerwisePruning.Method, problem: LayerProblem.Options
  ) {
    self.pass = pass
    self.method = method
    self.problem = problem
  }

  /// How many weights go from each of `weights`, by name, `floor(sparsity · count)` in sum.
  package func goals(
    for weights: [Value], of graph: Graph, sparsity: Double, in context: borrowing PassContext
  ) throws(PassError) -> [String: LayerGoal] {
    var options = SequentialWalk.Options()
    options.isSequential = false
    let threadCount = context.threadCount
    var scales: [String: [Float]] = [:]
    _ = try SequentialWalk(pass: pass, options: options).run(
      on: graph, weights: weights, in: context
    ) { layer throws(PassError) in
      let stated = try LayerProblem(layer, options: problem, threadCount: threadCount)
      scales[layer.weightName] = try columnScales(of: stated)
      return nil
    }
    let masks = try WeightMasks(ScaledImportance(scales: scales)).global(
      weights, in: graph, sparsity: sparsity)
    var goals: [String: LayerGoal] = [:]
    for (weight, mask) in masks {
      let gone = mask.withElements(of: UInt8.self) { $0.reduce(0) { $0 + ($1 == 0 ? 1 : 0) } }
      goals[graph.name(of: weight)] = .count(gone)
    }
    return goals
  }

  /// The factor of each column from magnitude to the root of the cost.
  private func columnScales(of stated: LayerProblem) throws(PassError) -> [Float] {
    let columns = stated.columns
    let energy = LayerProblem.energy(
      stated.weight, stated.hessian, columns: columns, threadCount: stated.threadCount)
    let unit = energy > 0 ? 1 / energy.squareRoot() : 0
    guard method != .wanda else { return stated.inputNorms.map { Float($0 * unit) } }
    guard
      let factor = CholeskyFactor(
        stated.hessian, count: columns, threadCount: stated.threadCount)
    else {
      throw .unsuitable(
        pass: pass, "the inputs of a layer determine too little; more damping is needed")
    }
    let root = factor.inverseTransposed(threadCount: stated.threadCount)
    return (0..<columns).map { row in
      var sum = 0.0
      for k in row..<columns { sum += root[row * columns + k] * root[row * columns + k] }
      return Float(unit / sum.squareRoot())
    }
  }
}

/// Magnitudes times a factor for each input channel.
private struct ScaledImportance: ElementImportance {
  let scales: [String: [Float]]

  func importance(of weight: Value, in graph: Graph) throws(PassError) -> Tensor {
    let tensor = try graph.finiteElements(of: weight)
    guard let scales = scales[graph.name(of: weight)] else { return tensor }
    return Tensor(shape: tensor.shape, of: Float.self) { target in
      tensor.withElements(of: Float.self) { source in
        for index in source.indices {
          target[index] = abs(source[index]) * scales[index % scales.count]
        }
      }
    }
  }
}
