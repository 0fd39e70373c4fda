import GraphIR
import Passes
import TensorCore
import TestSupport
import Testing

@Suite struct PruneTests {
  private let extents = RandomCLIP()
  private let graph: Graph

  init() throws { graph = try extents.graph(seed: 12) }

  private func options(_ structure: String, _ sparsity: Double) -> Prune.Options {
    var options = Prune.Options()
    options.structure = structure.split(separator: ",").compactMap {
      PruningStructure(String($0))
    }
    options.sparsity = sparsity
    return options
  }

  private func prune(
    _ options: Prune.Options, seed: UInt64 = 0, from graph: Graph? = nil
  ) throws -> Graph {
    try PassPipeline([Prune(options: options)])
      .run(on: graph ?? self.graph, inputSHA256: "", in: PassContext(seed: seed))
  }

  private func difference(_ a: Graph, _ b: Graph) -> [String] {
    a.parameterValues.map { a.name(of: $0) }
      .filter { a.parameter(named: $0) != b.parameter(named: $0) }
  }

  @Test(arguments: ["heads", "neurons", "heads,neurons"], [0.05, 0.1, 0.2])
  func structuresMeetTheTarget(_ structure: String, _ sparsity: Double) throws {
    let towers = Tower.allCases
    let total = Double(graph.parameterCount(of: towers))
    for scope in PruningScope.allCases {
      for method in [PruningMethod.magnitude, .random] {
        var options = options(structure, sparsity)
        options.scope = scope
        options.method = method
        let pruned = try prune(options)
        let removed = 1 - Double(pruned.parameterCount(of: towers)) / total
        let largest = structure == "neurons" ? 49.0 : 4.0 * 24 * 8 + 24
        #expect(abs(removed - sparsity) <= largest / total, "\(scope) \(method)")
        #expect(pruned.parameter(named: "text.token_embedding") != nil)
      }
    }
  }

  @Test func unitsOfLeastSquareSumGo() throws {
    // One head and one neuron are made next to nothing; they must be the first to go.
    var weak = graph
    for (name, rows, factor) in [
      ("image.layers.1.attention.value", 8..<16, Float(1e-3)),
      ("image.layers.1.attention.query", 8..<16, 1e-3),
      ("image.layers.1.attention.key", 8..<16, 1e-3), ("text.layers.0.mlp.fc1", 5..<6, 1e-3),
    ] {
      for suffix in [".weight", ".bias"] {
        let value = try #require(weak.value(named: name + suffix))
        let tensor = try #require(weak.parameter(value)).tensor
        let width = tensor.count / tensor.shape[0]
        var elements = tensor.elements(of: Float.self)
        for index in (rows.lowerBound * width)..<(rows.upperBound * width) {
          elements[index] *= factor
        }
        try weak.setParameter(value, Parameter(Tensor(shape: tensor.shape, elements)))
      }
    }
    let total = Double(graph.parameterCount(of: [.image, .text]))
    let head = 4.0 * 24 * 8 + 3 * 8
    let heads = try prune(options("heads", head / total), from: weak)
    let value = "image.layers.1.attention.value.weight"
    #expect(
      heads.parameter(named: value)?.tensor
        == weak.parameter(named: value)?.tensor
        .selecting(Array(0..<8) + Array(16..<24), onAxis: 0))
    let neurons = try prune(options("neurons", 33 / total), from: weak)
    let first = "text.layers.0.mlp.fc1.weight"
    #expect(
      neurons.parameter(named: first)?.tensor
        == weak.parameter(named: first)?.tensor
        .selecting(Array(0..<5) + Array(6..<32), onAxis: 0))
  }

  @Test func aTowerAlone() throws {
    for tower in [TowerSelection.image, .text] {
      for structure in ["weights", "neurons", "2:4"] {
        var options = options(structure, structure == "2:4" ? 0 : 0.2)
        options.tower = tower
        let changed = difference(graph, try prune(options))
        #expect(!changed.isEmpty)
        #expect(changed.allSatisfy { $0.hasPrefix(tower.rawValue) })
      }
    }
  }

  @Test func weightsAndPatterns() throws {
    let half = try prune(options("weights", 0.5))
    for value in half.prunableWeights(of: [.image, .text]) {
      let parameter = try #require(half.parameter(value))
      #expect(parameter.nonzeroCount == parameter.tensor.count - parameter.tensor.count / 2)
    }
    let pattern = try prune(options("2:4", 0.5))
    #expect(difference(pattern, try prune(options("2:4", 0))).isEmpty)
    let mixed = try prune(options("neurons,weights", 0.1))
    #expect(mixed.parameterCount(of: [.image, .text]) < graph.parameterCount(of: [.image, .text]))
    let weight = try #require(mixed.parameter(named: "image.layers.0.mlp.fc1.weight"))
    #expect(weight.mask?.shape == weight.tensor.shape)
  }

  @Test func neutralSettingsChangeNothing() throws {
    #expect(difference(graph, try prune(options("heads,neurons", 0))).isEmpty)
    let masked = try prune(options("weights", 0))
    for name in difference(graph, masked) {
      let mask = try #require(masked.parameter(named: name)?.mask).elements(of: UInt8.self)
      #expect(mask.allSatisfy { $0 == 1 })
    }
  }

  @Test func seedsDecideWhatChanceTakes() throws {
    for structure in ["heads,neurons", "weights", "2:4"] {
      var options = options(structure, structure == "2:4" ? 0 : 0.15)
      options.method = .random
      let first = try prune(options, seed: 1)
      #expect(difference(first, try prune(options, seed: 1)).isEmpty)
      #expect(!difference(first, try prune(options, seed: 2)).isEmpty)
    }
  }

  @Test func pruningTwiceTakesNothingMoreOfMasks() throws {
    let once = try prune(options("weights", 0.4))
    #expect(difference(once, try prune(options("weights", 0.4), from: once)).isEmpty)
    let pattern = try prune(options("2:4", 0))
    #expect(difference(pattern, try prune(options("2:4", 0), from: pattern)).isEmpty)
  }

  @Test func targetsOutOfReach() throws {
    for (structure, sparsity) in [
      ("heads", 0.9), ("weights", 1.0), ("weights", -0.1), ("2:4", 0.3), ("weights", .nan),
      ("", 0.1),
    ] {
      let error = #expect(throws: PassError.self) { try prune(options(structure, sparsity)) }
      guard case .option? = error else {
        Issue.record("\(structure) \(sparsity): \(String(describing: error))")
        continue
      }
    }
    let image = try graph.extracting(outputs: ["image_embeds"])
    var text = options("heads", 0.1)
    text.tower = .text
    #expect(throws: PassError.self) { try prune(text, from: image) }
  }

  @Test func everythingThereIsCanGo() throws {
    let total = Double(graph.parameterCount(of: [.image, .text]))
    let groups = graph.dependencyGroups().filter { $0.kind != .width }
    let removable = groups.reduce(0) { $0 + $1.unitCount * $1.parameterCountPerUnit(in: graph) }
    let bare = try prune(options("heads,neurons", Double(removable) / total))
    #expect(bare.dependencyGroups().allSatisfy { $0.kind == .width })
    let inputs = extents.inputs(seed: 2)
    #expect(try outputs(bare, inputs).allSatisfy(\.isFinite))
  }

  @Test func reportsWhatWentWhere() throws {
    var figures: [any Encodable & Sendable] = []
    var notes: [String] = []
    let context = PassContext(report: { event in
      switch event {
      case .result(let result): figures.append(result)
      case .note(let line): notes.append(line)
      default: break
      }
    })
    let pruned = try Prune(options: options("heads,neurons", 0.2))
      .run(on: graph, in: context)
    let report = try #require(figures.last as? PruningReport)
    #expect(report.rows.count == 8)
    let lost = report.rows.reduce(0) { $0 + $1.parametersBefore - $1.parametersAfter }
    #expect(lost == report.parametersBefore - report.parametersAfter)
    #expect(report.parametersAfter == pruned.parameterCount(of: [.image, .text]))
    #expect(notes.contains { $0.contains("text.layers.1.mlp") && $0.contains("neurons") })
  }

  @Test func quantizedModelsCanBePruned() throws {
    let codes = try Quantize().run(on: graph, in: PassContext())
    for structure in ["heads,neurons", "weights", "2:4"] {
      let pruned = try prune(options(structure, structure == "2:4" ? 0 : 0.15), from: codes)
      try pruned.verify()
      let name = "image.layers.0.mlp.fc1.weight"
      #expect(pruned.parameter(named: name)?.quantization != nil)
    }
  }
}
