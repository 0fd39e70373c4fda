import Foundation
import TensorCore

/// What pruning layer by layer did to the outputs of each layer.
package struct LayerwiseReport: Codable, Sendable {
  /// One layer.
  package struct Row: Codable, Sendable {
    /// The weight.
    package let layer: String
    /// The share of its elements that is gone.
    package let sparsity: Double
    /// The error of the layer's outputs over the outputs, on the inputs that it was pruned for.
    package let relativeError: Double

    /// What `solution` does to the layer of `problem`.
    init(layer: String, _ problem: LayerProblem, _ solution: LayerSolution) {
      self.layer = layer
      let gone = solution.mask.reduce(0) { $0 + ($1 == 0 ? 1 : 0) }
      sparsity = Double(gone) / Double(max(solution.mask.count, 1))
      relativeError = problem.relativeError(of: solution.weights)
    }
  }

  /// The layers in the order of the walk.
  package let rows: [Row]

  /// The report as lines for people.
  package var lines: [String] {
    rows.map { row in
      let name = row.layer.padding(toLength: max(44, row.layer.count), withPad: " ", startingAt: 0)
      return name
        + String(
          format: " sparsity %.4f, relative output error %.4f", row.sparsity, row.relativeError)
    }
  }
}
