import Charts
import Foundation
import Training

/// The share of the tokens that each expert got over the steps of a run.
struct ExpertLoads {
  private static let mostColumns = 64
  private static let suffix = ".load"

  /// A section for each layer, a row for each expert.
  private let sections: [HeatMap.Section]

  /// Reads the loads of a run from its log; nil where it has none.
  init?(log path: String) throws {
    var layers: [(name: String, rows: [HeatMap.Row])] = []
    for name in try TrainingLog.names(in: path) where name.hasSuffix(Self.suffix) {
      let parts = name.dropLast(Self.suffix.count).components(separatedBy: ".experts.")
      guard parts.count == 2 else { continue }
      let values = try TrainingLog.points(of: name, in: path).map(\.value)
      if layers.last?.name != parts[0] { layers.append((parts[0], [])) }
      layers[layers.count - 1].rows.append(
        HeatMap.Row(name: "expert \(parts[1])", values: Self.binned(values)))
    }
    guard !layers.isEmpty else { return nil }
    sections = layers.map { HeatMap.Section(name: $0.name, rows: $0.rows) }
  }

  /// `values` as at most ``mostColumns`` means of neighbours.
  private static func binned(_ values: [Double]) -> [Double] {
    let count = min(values.count, mostColumns)
    return (0..<count).map { bin in
      let range = (values.count * bin / count)..<(values.count * (bin + 1) / count)
      return values[range].reduce(0, +) / Double(range.count)
    }
  }

  /// Draws the shares, steps from left to right.
  func draw(to path: String) throws {
    let map = HeatMap(title: "Load of experts over training", sections: sections)
    try write(map.svg, to: path)
  }
}
