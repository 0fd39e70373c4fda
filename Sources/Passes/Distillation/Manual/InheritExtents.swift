import GraphIR
import TensorCore

/// How the parameters of a teacher's tower shrink with its dimensions.
struct InheritExtents {
  private enum Axis {
    case fixed(Int)
    case heads(layer: Int, width: Int)
    case neurons(layer: Int)
    case width
  }

  private struct Entry {
    let layer: Int?
    let axes: [Axis]
  }

  private var entries: [Entry] = []
  /// The teacher's shape.
  let full: InheritShape

  /// Reads the tower of `blocks` off `graph`.
  init(_ graph: Graph, _ blocks: InheritBlocks) {
    let tower = blocks.tower
    let values = graph.values(of: tower)
    var full = InheritShape(
      layers: Array(0..<blocks.count), heads: [Int](repeating: 0, count: blocks.count),
      neurons: [Int](repeating: 0, count: blocks.count), width: 0)
    var axes: [DependencyGroup.Member: Axis] = [:]
    for group in graph.dependencyGroups() {
      let axis: Axis
      if group.kind == .width {
        guard Self.isStream(group, of: values) else { continue }
        full.width = group.unitCount
        axis = .width
      } else {
        guard let layer = InheritBlocks.index(of: group, in: graph, tower) else { continue }
        if group.kind == .heads {
          full.heads[layer] = group.unitCount
          axis = .heads(layer: layer, width: group.unit)
        } else {
          full.neurons[layer] = group.unitCount
          axis = .neurons(layer: layer)
        }
      }
      for member in group.members { axes[member] = axis }
    }
    for value in graph.parameters(of: [tower]) {
      let shape = graph.parameter(value)?.tensor.shape ?? []
      entries.append(
        Entry(
          layer: InheritBlocks.index(of: graph.name(of: value), tower),
          axes: shape.enumerated().map { index, extent in
            axes[.init(parameter: value, axis: index)] ?? .fixed(extent)
          }))
    }
    self.full = full
  }

  /// Whether `group` is the residual stream of the tower that needs `values`.
  static func isStream(_ group: DependencyGroup, of values: Set<Value>) -> Bool {
    group.members.allSatisfy { values.contains($0.parameter) }
  }

  /// The parameters of a tower of `shape`, tables that are looked up aside.
  func parameterCount(_ shape: InheritShape) -> Int {
    let kept = Set(shape.layers)
    return entries.reduce(0) { sum, entry in
      if let layer = entry.layer, !kept.contains(layer) { return sum }
      return sum
        + entry.axes.reduce(1) { product, axis in
          switch axis {
          case .fixed(let extent): product * extent
          case .heads(let layer, let width): product * shape.heads[layer] * width
          case .neurons(let layer): product * shape.neurons[layer]
          case .width: product * shape.width
          }
        }
    }
  }
}
