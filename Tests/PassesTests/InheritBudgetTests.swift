import GraphIR
import Passes
import TensorCore
import TestSupport
import Testing

/// The number of parameters that a student keeps.
@Suite struct InheritBudgetTests {
  private func student(
    _ extents: RandomCLIP, keep: Double
  ) throws -> (shares: [Double], report: InheritReport) {
    final class Log { var report: InheritReport? }
    let log = Log()
    let teacher = try extents.graph(seed: 2)
    var options = InheritManual.Options()
    options.keep = keep
    let student = try InheritSupport.inherit(from: teacher, options) { event in
      if case .result(let result as InheritReport) = event { log.report = result }
    }
    let report = try #require(log.report)
    for (row, tower) in zip(report.rows, Tower.allCases) {
      #expect(row.before.parameters == teacher.parameterCount(of: [tower]))
      #expect(row.after.parameters == student.parameterCount(of: [tower]))
    }
    let shares = Tower.allCases.map {
      Double(student.parameterCount(of: [$0])) / Double(teacher.parameterCount(of: [$0]))
    }
    _ = try outputs(student, extents.inputs(seed: 1))
    return (shares, report)
  }

  @Test(arguments: [0.3, 0.5, 0.75, 0.9])
  func eachTowerMeetsTheShare(_ keep: Double) throws {
    let extents = InheritSupport.teacher
    let (shares, report) = try student(extents, keep: keep)
    // One neuron of every block is the step: 4 · 97 of 117 thousand, 3 · 65 of 41 thousand.
    for share in shares { #expect(abs(share - keep) <= 0.005) }
    let image = report.rows[0].after
    #expect(image.layers == extents.imageLayers && image.width == extents.imageWidth)
    let heads = Int((keep * Double(extents.imageHeads)).rounded())
    #expect(image.heads == [Int](repeating: heads, count: extents.imageLayers))
    #expect(Set(image.neurons).count == 1)
  }

  @Test(arguments: [0.3, 0.5, 0.75])
  func tinyModelsToo(_ keep: Double) throws {
    let (shares, _) = try student(RandomCLIP(), keep: keep)
    for share in shares { #expect(abs(share - keep) <= 0.02) }
  }

  @Test func widthShrinksNextAndDepthLast() throws {
    let extents = InheritSupport.teacher
    let narrow = try student(extents, keep: 0.12)
    for share in narrow.shares { #expect(abs(share - 0.12) <= 0.02) }
    for row in narrow.report.rows {
      #expect(row.after.width < row.before.width && row.after.layers == row.before.layers)
      // Width and neurons shrink alike.
      let neurons = Double(row.after.neurons[0]) / Double(row.before.neurons[0])
      #expect(abs(neurons - Double(row.after.width) / Double(row.before.width)) < 0.1)
    }
    // A single head cannot go, and it is wide.
    var deep = extents
    (deep.imageLayers, deep.imageHeads) = (12, 1)
    let shallow = try student(deep, keep: 0.05)
    for share in shallow.shares { #expect(abs(share - 0.05) <= 0.02) }
    let image = shallow.report.rows[0]
    #expect(image.after.width < image.before.width && image.after.layers < image.before.layers)
    #expect(image.teacherLayers.first == 0 && image.teacherLayers.count == image.after.layers)
  }

  @Test func manySharesOfManyShapes() throws {
    var random = SplitMix64(seed: 5)
    for _ in 0..<12 {
      var extents = RandomCLIP()
      extents.imageHeads = 1 + random.nextIndex(below: 5)
      extents.imageWidth = extents.imageHeads * 8
      extents.imageNeurons = extents.imageWidth * (1 + random.nextIndex(below: 4))
      extents.imageLayers = 1 + random.nextIndex(below: 4)
      extents.textHeads = 1 + random.nextIndex(below: 3)
      extents.textWidth = extents.textHeads * 16
      extents.textNeurons = extents.textWidth * 3
      let keep = 0.25 + 0.75 * random.nextUniform()
      let (shares, _) = try student(extents, keep: keep)
      for share in shares { #expect(abs(share - keep) <= 0.02, "\(extents) \(keep)") }
    }
  }

  @Test func headsStayWhereNeuronsAreTooFew() throws {
    // Half the heads are a third of the parameters, more than what is to go.
    var extents = RandomCLIP()
    (extents.imageWidth, extents.imageHeads, extents.imageNeurons) = (64, 2, 64)
    let (shares, report) = try student(extents, keep: 0.74)
    #expect(abs(shares[0] - 0.74) <= 0.005)
    #expect(report.rows[0].after.heads == [2, 2] && report.rows[0].after.width == 64)
  }

  @Test func irregularTeachersKeepTheirProportions() throws {
    var teacher = try InheritSupport.teacher.graph(seed: 3)
    let removals = teacher.dependencyGroups().filter { $0.name == "image.layers.1.mlp" }
    teacher = try teacher.removing(removals.map { UnitRemoval(group: $0, units: Set(0..<96)) })
    var options = InheritManual.Options()
    options.keep = 0.6
    let student = try InheritSupport.inherit(from: teacher, options)
    let total = Double(teacher.parameterCount(of: [.image]))
    #expect(abs(Double(student.parameterCount(of: [.image])) / total - 0.6) <= 0.005)
    let groups = student.dependencyGroups()
    let whole = try #require(groups.first { $0.name == "image.layers.0.mlp" }).unitCount
    let halved = try #require(groups.first { $0.name == "image.layers.1.mlp" }).unitCount
    #expect(abs(whole - 2 * halved) <= 1)
  }
}
