import GraphIR

/// What a student took over from its teacher.
package struct InheritReport: Codable, Sendable {
  /// The dimensions of one tower.
  package struct Dimensions: Codable, Hashable, Sendable {
    /// Blocks.
    package let layers: Int
    /// Heads of each block.
    package let heads: [Int]
    /// Neurons of each block.
    package let neurons: [Int]
    /// Channels between blocks.
    package let width: Int
    /// Parameters, tables that are looked up aside.
    package let parameters: Int

    init(_ shape: InheritShape, _ extents: InheritExtents) {
      layers = shape.layers.count
      heads = shape.layers.map { shape.heads[$0] }
      neurons = shape.layers.map { shape.neurons[$0] }
      width = shape.width
      parameters = extents.parameterCount(shape)
    }
  }

  /// One tower.
  package struct Row: Codable, Sendable {
    /// Which tower.
    package let tower: Tower
    /// The teacher's block that each block of the student comes from.
    package let teacherLayers: [Int]
    /// The teacher.
    package let before: Dimensions
    /// The student.
    package let after: Dimensions
  }

  /// The towers that were to change.
  package let rows: [Row]

  /// The parameters of those towers in the teacher, tables that are looked up aside.
  package var parametersBefore: Int { rows.reduce(0) { $0 + $1.before.parameters } }
  /// The parameters of those towers in the student, tables that are looked up aside.
  package var parametersAfter: Int { rows.reduce(0) { $0 + $1.after.parameters } }

  /// The report for people, a line each.
  package var lines: [String] {
    rows.flatMap { row in
      [
        "\(row.tower.rawValue) teacher: \(row.before)",
        "\(row.tower.rawValue) student: \(row.after)",
        "\(row.tower.rawValue) student's layers are the teacher's "
          + row.teacherLayers.map(String.init).joined(separator: " "),
      ]
    } + ["tower parameters: \(parametersBefore) before, \(parametersAfter) after"]
  }
}

extension InheritReport.Dimensions: CustomStringConvertible {
  package var description: String {
    "\(layers) layers of \(Self.words(heads)) heads and \(Self.words(neurons)) neurons, "
      + "width \(width), \(parameters) parameters"
  }

  /// One number where all `counts` are the same.
  private static func words(_ counts: [Int]) -> String {
    let isUniform = counts.allSatisfy { $0 == counts.first }
    return (isUniform ? Array(counts.prefix(1)) : counts).map(String.init).joined(separator: " ")
  }

  /// `fact`, or what it says of the student where it states a dimension of `tower` that changed.
  func updated(_ fact: Fact, of tower: Tower, before: Self) -> Fact {
    let name = tower.rawValue
    let (old, new): (String, String)
    switch fact.name {
    case "\(name).layers": (old, new) = ("\(before.layers)", "\(layers)")
    case "\(name).heads": (old, new) = (Self.words(before.heads), Self.words(heads))
    case "\(name).mlp_width": (old, new) = (Self.words(before.neurons), Self.words(neurons))
    case "\(name).width": (old, new) = ("\(before.width)", "\(width)")
    default: return fact
    }
    return old == new ? fact : Fact(name: fact.name, value: new, source: InheritManual.name)
  }
}
