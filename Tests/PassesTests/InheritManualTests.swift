import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport
import Testing

@Suite struct InheritManualTests {
  private let extents = InheritSupport.teacher
  private let teacher: Graph

  init() throws { teacher = try extents.graph(seed: 21) }

  private func tensor(_ name: String, in graph: Graph) throws -> Tensor {
    try #require(graph.parameter(named: name)?.tensor, "\(name)")
  }

  private func smaller() -> (options: InheritManual.Options, extents: RandomCLIP) {
    var options = InheritManual.Options()
    options.image = InheritDimensions(layers: 2, heads: 4, neurons: 100, width: 32)
    options.text = InheritDimensions(layers: 1, heads: 3, neurons: 50, width: 24)
    var student = extents
    (student.imageLayers, student.imageHeads, student.imageNeurons) = (2, 4, 100)
    (student.textLayers, student.textHeads, student.textNeurons) = (1, 3, 50)
    (student.imageWidth, student.textWidth) = (32, 24)
    return (options, student)
  }

  static let identities: [InheritManual.Options] = {
    var kept = InheritManual.Options()
    kept.keep = 1
    var front = InheritManual.Options()
    front.ranking = .front
    var given = InheritManual.Options()
    given.image = InheritDimensions(layers: 4, heads: 6, neurons: 192, width: 48)
    given.text = InheritDimensions(layers: 3, heads: 4, neurons: 128, width: 32)
    return [InheritManual.Options(), kept, front, given]
  }()

  @Test(arguments: identities.indices)
  func sameShapeIsTheIdentity(_ index: Int) throws {
    let student = try InheritSupport.inherit(from: teacher, Self.identities[index])
    #expect(student.text() == teacher.text())
    for value in teacher.parameterValues {
      #expect(student.parameter(named: teacher.name(of: value)) == teacher.parameter(value))
    }
    let inputs = extents.inputs(seed: 3)
    #expect(try outputs(student, inputs) == outputs(teacher, inputs))
  }

  @Test(arguments: InheritManual.Ranking.allCases, InheritManual.Initialization.allCases)
  func looksLikeASmallerModel(
    _ ranking: InheritManual.Ranking, _ initialization: InheritManual.Initialization
  ) throws {
    var (options, expected) = smaller()
    options.ranking = ranking
    options.initialization = initialization
    let student = try InheritSupport.inherit(from: teacher, options)
    // Heads stay 8 wide, so 4 and 3 of them are what a model built to these extents has.
    #expect(student.text() == (try expected.graph(seed: 1)).text())
    #expect(student.parameterCount(of: [.image]) == InheritSupport.imageCount(expected))
    #expect(student.parameterCount(of: [.text]) == InheritSupport.textCount(expected))
    #expect(student.parameter(named: "logit_scale") == teacher.parameter(named: "logit_scale"))
    let embeddings = try outputs(student, expected.inputs(seed: 4))
    let rows = embeddings.count / expected.projection
    for row in 0..<rows {
      let start = row * expected.projection
      let square = InheritSupport.energy(Array(embeddings[start..<(start + expected.projection)]))
      #expect(abs(square - 1) < 1e-5)
    }
  }

  @Test func frontTakesLeadingSlices() throws {
    var (options, _) = smaller()
    options.ranking = .front
    let student = try InheritSupport.inherit(from: teacher, options)
    for value in student.parameterValues {
      let name = student.name(of: value)
      let source = name.replacing("image.layers.1.", with: "image.layers.2.")
      let slice = try tensor(name, in: student)
      let expected = InheritSupport.leadingSlice(try tensor(source, in: teacher), slice.shape)
      #expect(slice.elements(of: Float.self) == expected, "\(name)")
    }
    // Row by row: head 2 of the query owns the same rows in both.
    let query = "attention.query.weight"
    let mine = try tensor("image.layers.1.\(query)", in: student)
    let theirs = try tensor("image.layers.2.\(query)", in: teacher)
    #expect(
      InheritSupport.gather(mine, rows: Array(16..<24), columns: Array(0..<32))
        == InheritSupport.gather(theirs, rows: Array(16..<24), columns: Array(0..<32)))
  }

  @Test func headsOfTheLargestMagnitudeStayInOrder() throws {
    var options = InheritManual.Options()
    options.image.heads = 3
    let student = try InheritSupport.inherit(from: teacher, options)
    let all = Array(0..<extents.imageWidth)
    for layer in 0..<extents.imageLayers {
      let block = "image.layers.\(layer).attention"
      var energies = [Double](repeating: 0, count: extents.imageHeads)
      for head in energies.indices {
        let rows = Array((head * 8)..<(head * 8 + 8))
        for part in ["query", "key", "value"] {
          let weight = try tensor("\(block).\(part).weight", in: teacher)
          let bias = try tensor("\(block).\(part).bias", in: teacher).elements(of: Float.self)
          energies[head] += InheritSupport.energy(
            InheritSupport.gather(weight, rows: rows, columns: all) + rows.map { bias[$0] })
        }
        energies[head] += InheritSupport.energy(
          InheritSupport.gather(
            try tensor("\(block).output.weight", in: teacher), rows: all, columns: rows))
      }
      let kept = energies.indices.sorted { energies[$0] > energies[$1] }.prefix(3).sorted()
      let rows = kept.flatMap { Array(($0 * 8)..<($0 * 8 + 8)) }
      for part in ["query", "key", "value"] {
        #expect(
          try tensor("\(block).\(part).weight", in: student).elements(of: Float.self)
            == InheritSupport.gather(
              try tensor("\(block).\(part).weight", in: teacher), rows: rows, columns: all))
      }
      #expect(
        try tensor("\(block).output.weight", in: student).elements(of: Float.self)
          == InheritSupport.gather(
            try tensor("\(block).output.weight", in: teacher), rows: all, columns: rows))
    }
  }

  @Test(arguments: [(12, 6), (12, 9), (12, 10), (9, 6), (5, 2)])
  func depthFollowsTheStep(_ teacherCount: Int, _ studentCount: Int) throws {
    var extents = RandomCLIP()
    extents.textLayers = teacherCount
    let teacher = try extents.graph(seed: 8)
    var options = InheritManual.Options()
    options.text.layers = studentCount
    let student = try InheritSupport.inherit(from: teacher, options)
    let maps = [
      [12, 6]: [0, 2, 4, 6, 8, 10], [12, 9]: Array(0..<9), [12, 10]: Array(0..<10),
      [9, 6]: Array(0..<6), [5, 2]: [0, 2],
    ]
    let map = try #require(maps[[teacherCount, studentCount]])
    for (place, source) in map.enumerated() {
      for part in ["norm1.weight", "attention.key.weight", "mlp.fc1.bias", "mlp.fc2.weight"] {
        #expect(
          student.parameter(named: "text.layers.\(place).\(part)")
            == teacher.parameter(named: "text.layers.\(source).\(part)"))
      }
    }
    extents.textLayers = studentCount
    #expect(student.text() == (try extents.graph(seed: 8)).text())
  }

  @Test func blocksAreSkippedNotRecomputed() throws {
    // Blocks whose branches add nothing may go without a trace.
    var teacher = teacher
    for layer in [1, 3] {
      for part in ["attention.output", "mlp.fc2"] {
        for kind in ["weight", "bias"] {
          let name = "image.layers.\(layer).\(part).\(kind)"
          let shape = try tensor(name, in: teacher).shape
          try teacher.setParameter(
            try #require(teacher.value(named: name)),
            Parameter(Tensor(shape: shape, of: Float.self) { $0.update(repeating: 0) }))
        }
      }
    }
    var options = InheritManual.Options()
    options.image.layers = 2
    let student = try InheritSupport.inherit(from: teacher, options)
    let inputs = extents.inputs(seed: 9)
    #expect(try outputs(student, inputs) == outputs(teacher, inputs))
    #expect(student.nodes.count < teacher.nodes.count)
  }

  @Test func oneTowerAlone() throws {
    var options = InheritManual.Options()
    options.keep = 0.5
    options.tower = .text
    for initialization in InheritManual.Initialization.allCases {
      options.initialization = initialization
      let student = try InheritSupport.inherit(from: teacher, options)
      for value in teacher.parameters(of: [.image]) {
        #expect(student.parameter(named: teacher.name(of: value)) == teacher.parameter(value))
      }
      #expect(student.parameterCount(of: [.text]) < teacher.parameterCount(of: [.text]))
    }
  }

  @Test func masksGoAlong() throws {
    var teacher = teacher
    let name = "image.layers.2.mlp.fc1.weight"
    let value = try #require(teacher.value(named: name))
    var parameter = try #require(teacher.parameter(value))
    parameter.mask = Tensor(shape: parameter.tensor.shape, of: UInt8.self) { mask in
      for index in mask.indices { mask[index] = UInt8(index % 7 % 2) }
    }
    try teacher.setParameter(value, parameter)
    var options = InheritManual.Options()
    options.ranking = .front
    options.image = InheritDimensions(layers: 2, neurons: 20, width: 10)
    for initialization in InheritManual.Initialization.allCases {
      options.initialization = initialization
      let student = try InheritSupport.inherit(from: teacher, options)
      let mask = try #require(student.parameter(named: "image.layers.1.mlp.fc1.weight")?.mask)
      var expected: [UInt8] = []
      for row in 0..<20 {
        for column in 0..<10 { expected.append(UInt8((row * 48 + column) % 7 % 2)) }
      }
      #expect(mask.elements(of: UInt8.self) == expected)
    }
  }

  @Test func reportsWhatChanged() throws {
    final class Log { var (lines, reports) = ([String](), [InheritReport]()) }
    let log = Log()
    let (options, expected) = smaller()
    _ = try InheritSupport.inherit(from: teacher, options) { event in
      switch event {
      case .note(let line): log.lines.append(line)
      case .result(let result as InheritReport): log.reports.append(result)
      default: break
      }
    }
    let report = try #require(log.reports.first)
    #expect(log.reports.count == 1 && log.lines == report.lines)
    #expect(report.rows.map(\.tower) == [.image, .text])
    #expect(report.rows[0].teacherLayers == [0, 2])
    #expect(report.rows[0].before.heads == [6, 6, 6, 6])
    #expect(report.rows[0].after.neurons == [100, 100])
    #expect(report.rows[1].before.parameters == InheritSupport.textCount(extents))
    #expect(report.rows[1].after.parameters == InheritSupport.textCount(expected))
    #expect(report.parametersBefore == teacher.parameterCount(of: Tower.allCases))
    #expect(
      log.lines.contains {
        $0.hasPrefix("image student: 2 layers of 4 heads and 100 neurons, width 32")
      })
  }

  @Test func factsFollowTheDimensions() throws {
    var teacher = teacher
    teacher.facts = [
      Fact(name: "image.layers", value: "4", source: "config.json"),
      Fact(name: "text.width", value: "32", source: "config.json"),
      Fact(name: "image.size", value: "8", source: "config.json"),
    ]
    var options = InheritManual.Options()
    options.image.layers = 3
    let student = try InheritSupport.inherit(from: teacher, options)
    #expect(student.facts[0] == Fact(name: "image.layers", value: "3", source: "inherit-manual"))
    #expect(student.facts.dropFirst() == teacher.facts.dropFirst())
    #expect(student.provenance.last?.options["image"] == "layers=3")
  }
}
