import GraphIR

/// What a student's tower shall look like; nil keeps the teacher's dimension.
package struct InheritDimensions: Codable, Hashable, Sendable {
  /// Blocks.
  package var layers: Int?
  /// Heads of each block.
  package var heads: Int?
  /// Neurons of each block.
  package var neurons: Int?
  /// Channels between blocks; the width of a head stays.
  package var width: Int?

  /// Asks for the given dimensions.
  package init(layers: Int? = nil, heads: Int? = nil, neurons: Int? = nil, width: Int? = nil) {
    self.layers = layers
    self.heads = heads
    self.neurons = neurons
    self.width = width
  }

  /// The dimensions that are given, by name.
  var named: [(name: String, value: Int)] {
    [("layers", layers), ("heads", heads), ("neurons", neurons), ("width", width)]
      .compactMap { name, value in value.map { (name, $0) } }
  }

  /// The teacher's shape `full` with the given dimensions.
  ///
  /// - Throws: ``PassError`` when a dimension is not positive or larger than the teacher's.
  func shape(of tower: Tower, from full: InheritShape) throws(PassError) -> InheritShape {
    func checked(_ name: String, _ value: Int?, limit: Int) throws(PassError) -> Int? {
      guard let value else { return nil }
      guard value >= 1, value <= limit else {
        throw .option(
          name: "\(tower.rawValue).\(name)",
          expected: limit > 0 ? "from 1 to \(limit), as the teacher has" : "left out",
          found: "\(value)")
      }
      return value
    }
    var shape = full
    if let layers = try checked("layers", layers, limit: full.layers.count) {
      shape.layers = InheritShape.layerMap(from: full.layers.count, to: layers)
    }
    // A block whose attention or MLP is gone stays without.
    func limit(_ counts: [Int]) -> Int {
      shape.layers.map { counts[$0] }.filter { $0 > 0 }.min() ?? 0
    }
    if let heads = try checked("heads", heads, limit: limit(full.heads)) {
      shape.heads = full.heads.map { min($0, heads) }
    }
    if let neurons = try checked("neurons", neurons, limit: limit(full.neurons)) {
      shape.neurons = full.neurons.map { min($0, neurons) }
    }
    if let width = try checked("width", width, limit: full.width) { shape.width = width }
    return shape
  }
}

/// The dimensions of a tower that is made from a teacher's.
struct InheritShape: Hashable {
  /// The teacher's blocks that stay, ascending.
  var layers: [Int]
  /// Heads for each block of the teacher.
  var heads: [Int]
  /// Neurons for each block of the teacher.
  var neurons: [Int]
  /// Channels between blocks.
  var width: Int

  /// The teacher's block that each block of a shallower student takes its weights from.
  static func layerMap(from teacherCount: Int, to studentCount: Int) -> [Int] {
    let step = teacherCount / max(studentCount, 1)
    return (0..<studentCount).map { $0 * step }
  }

  /// The units that `group`, of a `graph` with the student's blocks, has in this shape; nil where
  /// it is not of `tower`.
  func unitCount(of group: DependencyGroup, in graph: Graph, _ tower: Tower) -> Int? {
    if group.kind == .width {
      return InheritExtents.isStream(group, of: graph.values(of: tower)) ? width : nil
    }
    guard let layer = InheritBlocks.index(of: group, in: graph, tower) else { return nil }
    return (group.kind == .heads ? heads : neurons)[layers[layer]]
  }
}
