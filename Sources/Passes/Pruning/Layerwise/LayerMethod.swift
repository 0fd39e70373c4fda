import GraphIR
import TensorCore

/// What pruning leaves of one layer.
package struct LayerSolution {
  /// The weights, zero where `mask` is.
  package var weights: [Float]
  /// One where a weight stays.
  package var mask: [UInt8]

  /// The given weights and mask.
  package init(weights: [Float], mask: [UInt8]) {
    self.weights = weights
    self.mask = mask
  }
}

/// How much of a layer goes.
package enum LayerGoal: Equatable, Sendable {
  /// So many weights, those that are masked already among them.
  case count(Int)
  /// All but `kept` of every `block` neighbours along the input axis.
  case pattern(kept: Int, block: Int)
}

/// A way to prune one layer by what it reads.
package protocol LayerMethod: Sendable {
  /// The layer of `problem` without what `goal` says.
  ///
  /// What is masked already stays masked.
  ///
  /// - Throws: ``PassError`` when the layer's moments do not allow it.
  func solution(of problem: LayerProblem, _ goal: LayerGoal) throws(PassError) -> LayerSolution
}
