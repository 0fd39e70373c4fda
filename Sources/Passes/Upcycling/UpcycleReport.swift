import GraphIR
import Operators

/// What upcycling made of a model's size and work.
package struct UpcycleReport: Codable, Sendable {
  /// One tower.
  package struct Row: Codable, Sendable {
    /// Which tower.
    package let tower: Tower
    /// Its layers with experts.
    package let layers: [String]
    /// Parameters, tables that are looked up aside, before.
    package let parametersBefore: Int
    /// The same, after.
    package let parametersAfter: Int
    /// Of these, those that a token meets.
    package let activeParameters: Int
    /// Multiply-accumulate operations for an image or a text of full length, before.
    package let macsBefore: Int
    /// The same, after.
    package let macsAfter: Int
  }

  /// The towers that have experts.
  package let rows: [Row]

  init(_ before: Graph, _ after: Graph) {
    let layers = after.expertLayers
    rows = Tower.allCases.compactMap { tower in
      let own = after.values(of: tower)
      let names = layers.filter { own.contains($0.mixture) }.map(\.name)
      guard !names.isEmpty else { return nil }
      return Row(
        tower: tower, layers: names, parametersBefore: before.parameterCount(of: [tower]),
        parametersAfter: after.parameterCount(of: [tower]),
        activeParameters: after.activeParameterCount(of: [tower]),
        macsBefore: before.multiplyAccumulateCount(output: tower.outputName),
        macsAfter: after.multiplyAccumulateCount(output: tower.outputName))
    }
  }

  /// The report for people, a line each.
  package var lines: [String] {
    rows.map { row in
      let ratio = Double(row.macsAfter) / Double(max(row.macsBefore, 1))
      return "\(row.tower.rawValue) tower: experts in \(row.layers.joined(separator: ", ")); "
        + "\(row.parametersBefore) parameters before, \(row.parametersAfter) after, "
        + "\(row.activeParameters) active; \((ratio * 1000).rounded() / 1000) times the operations"
    }
  }
}
