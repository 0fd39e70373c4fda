import GraphIR
import Operators
import TensorCore

/// Makes a smaller student that starts from slices of its teacher's weights.
///
/// Whole blocks, heads, neurons and channels go; what is left has the names of a smaller model, its
/// blocks counted from 0. Masks go along with the slices they belong to.
///
/// - Source: Wu et al., "TinyCLIP: CLIP Distillation via Affinity Mimicking and Weight
///   Inheritance", ICCV 2023, arXiv:2309.12314, manual inheritance. Differs: by default the units of
///   largest magnitude stay instead of the leading ones, and the dimensions can follow from a
///   number of parameters.
package struct InheritManual: Pass {
  package static let name = "inherit-manual"

  /// What a student's weights are.
  package enum Initialization: String, Codable, Sendable, CaseIterable {
    /// Slices of the teacher's.
    case inherited
    /// Drawn anew by ``PassContext/seed``, for comparison; the logit scale stays.
    case random
  }

  /// Which heads, neurons and channels stay.
  package enum Ranking: String, Codable, Sendable, CaseIterable {
    /// Those of largest sum of squares, in their original order.
    case importance
    /// The leading ones.
    case front
  }

  /// The user's choices.
  package struct Options: Codable, Sendable {
    /// The share of each tower's parameters, tables that are looked up aside, that the student has,
    /// from 0.05 to 1 and met within 0.02; nil where the dimensions are given.
    package var keep: Double?
    /// The image tower's dimensions.
    package var image = InheritDimensions()
    /// The text tower's dimensions.
    package var text = InheritDimensions()
    /// What the weights are.
    package var initialization = Initialization.inherited
    /// Which units stay.
    package var ranking = Ranking.importance
    /// Which towers change.
    package var tower = TowerSelection.both

    /// The defaults of the command line: a student like its teacher.
    package init() {}

    /// The dimensions wanted of `tower`.
    package func dimensions(of tower: Tower) -> InheritDimensions {
      switch tower {
      case .image: image
      case .text: text
      }
    }
  }

  package let options: Options

  package init(options: Options = Options()) { self.options = options }

  package func run(
    on graph: consuming Graph, in context: borrowing PassContext
  ) throws(PassError) -> Graph {
    let teacher = graph
    try checkOptions()
    try Self.checkUnquantized(teacher)
    var student = teacher
    var rows: [InheritReport.Row] = []
    for tower in options.tower.towers {
      let blocks = try InheritBlocks(tower, in: student, pass: Self.name)
      let extents = InheritExtents(student, blocks)
      let wanted = try shape(of: tower, extents)
      let before = InheritReport.Dimensions(extents.full, extents)
      let after = InheritReport.Dimensions(wanted, extents)
      student = try inherited(from: student, blocks, wanted, in: context)
      student.facts = student.facts.map { after.updated($0, of: tower, before: before) }
      rows.append(
        InheritReport.Row(
          tower: tower, teacherLayers: wanted.layers, before: before, after: after))
    }
    if options.initialization == .random {
      let initializer = InheritInitializer(graph: student, towers: options.tower.towers)
      student = try initializer.initialized(seed: context.seed, pass: Self.name)
    }
    let report = InheritReport(rows: rows)
    for line in report.lines { context.report(.note(line)) }
    context.report(.result(report))
    return student
  }

  private func checkOptions() throws(PassError) {
    if let keep = options.keep {
      guard keep >= 0.05, keep <= 1 else {
        throw .option(name: "keep", expected: "from 0.05 to 1", found: "\(keep)")
      }
    }
    for tower in Tower.allCases {
      let dimensions = options.dimensions(of: tower)
      guard let (name, value) = dimensions.named.first else { continue }
      guard options.keep == nil else {
        throw .option(
          name: "\(tower.rawValue).\(name)",
          expected: "left out, since keep chooses the dimensions", found: "\(value)")
      }
      guard options.tower.towers.contains(tower) else {
        throw .option(
          name: "\(tower.rawValue).\(name)",
          expected: "left out, since only the \(options.tower.rawValue) tower changes",
          found: "\(value)")
      }
    }
  }

  private static func checkUnquantized(_ graph: Graph) throws(PassError) {
    let isQuantized =
      graph.parameterValues.contains { graph.parameter($0)?.quantization != nil }
      || graph.nodes.contains { $0.op is FakeQuantize }
    guard !isQuantized else {
      throw .unsuitable(
        pass: name, "the teacher holds int8 codes: distil the float32 model first, quantize then")
    }
  }

  private func shape(
    of tower: Tower, _ extents: InheritExtents
  ) throws(PassError) -> InheritShape {
    guard let keep = options.keep else {
      return try options.dimensions(of: tower).shape(of: tower, from: extents.full)
    }
    return try InheritBudget(extents, keep: keep).shape(of: tower)
  }

  /// The student of one tower.
  private func inherited(
    from teacher: Graph, _ blocks: InheritBlocks, _ wanted: InheritShape,
    in context: borrowing PassContext
  ) throws(PassError) -> Graph {
    var student = try Self.checked { () throws(GraphError) in
      try teacher.keepingBlocks(wanted.layers, of: blocks)
    }
    // Channels are ranked by what is left of them once heads and neurons are gone.
    for kinds in [[DependencyGroup.Kind.heads, .neurons], [.width]] {
      var removals: [UnitRemoval] = []
      for group in student.dependencyGroups() where kinds.contains(group.kind) {
        guard let kept = wanted.unitCount(of: group, in: student, blocks.tower),
          kept < group.unitCount
        else { continue }
        let units = try leastUnits(group.unitCount - kept, of: group, in: student, context)
        removals.append(UnitRemoval(group: group, units: units))
      }
      let larger = student
      student = try Self.checked { () throws(GraphError) in try larger.removing(removals) }
    }
    return student
  }

  private static func checked(
    _ body: () throws(GraphError) -> Graph
  ) throws(PassError) -> Graph {
    do { return try body() } catch { throw .graph(pass: name, error) }
  }

  /// The `count` units that go; equal importance: the later go first.
  private func leastUnits(
    _ count: Int, of group: DependencyGroup, in graph: Graph, _ context: borrowing PassContext
  ) throws(PassError) -> Set<Int> {
    let units = 0..<group.unitCount
    switch options.ranking {
    case .front: return Set(units.suffix(count))
    case .importance:
      let importance = try MagnitudeImportance().importances(
        of: [group], in: graph, context: context)[0]
      return Set(units.sorted { (importance[$0], -$0) < (importance[$1], -$1) }.prefix(count))
    }
  }
}
