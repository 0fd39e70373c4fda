import Execution
import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport
import Testing

@Suite struct PruneStructureTests {
  private var extents = RandomCLIP()
  private let graph: Graph

  init() throws {
    extents.imageLayers = 4
    extents.textLayers = 3
    graph = try extents.graph(seed: 31)
  }

  private func prune(
    _ structure: String, _ change: (inout Prune.Options) -> Void
  ) throws -> Graph {
    var options = Prune.Options()
    options.structure = structure.split(separator: ",").compactMap {
      PruningStructure(String($0))
    }
    change(&options)
    let pruned = try Prune(options: options).run(on: graph, in: PassContext(seed: 3))
    try pruned.verify()
    return pruned
  }

  private func size(_ graph: Graph, _ towers: [Passes.Tower] = Tower.allCases) -> Int {
    graph.parameterCount(of: towers)
  }

  /// A layer without heads and neurons is its residual connection and two constants: what a mask
  /// over all of them leaves.
  @Test(arguments: [0.2, 0.4, 0.6])
  func modelsWithoutLayersEqualMaskedOnes(_ sparsity: Double) throws {
    let pruned = try prune("layers") { $0.sparsity = sparsity }
    let left = Set(pruned.prunableLayers(of: Tower.allCases).map(\.name))
    let gone = graph.prunableLayers(of: Tower.allCases).filter { !left.contains($0.name) }
    #expect(!gone.isEmpty)
    #expect(Tower.allCases.allSatisfy { !pruned.prunableLayers(of: [$0]).isEmpty })
    // Normalizations and biases of a layer that goes are in no head and no neuron.
    let removed = 1 - Double(size(pruned)) / Double(size(graph))
    #expect(abs(removed - sparsity) < 0.12, "\(removed)")
    let masked = try graph.masking(gone.flatMap(\.removals))
    let inputs = extents.inputs(seed: 5, items: 3)
    for (a, b) in zip(try outputs(pruned, inputs), try outputs(masked, inputs)) {
      #expect(abs(a - b) <= 1e-5)
    }
  }

  /// Statistics over fewer channels are those over the channels that a mask leaves.
  @Test func narrowModelsEqualTheirDefinition() throws {
    let pruned = try prune("width") {
      $0.sparsity = 0.3
      $0.scope = .layer
    }
    #expect(abs(1 - Double(size(pruned)) / Double(size(graph)) - 0.3) < 0.06)
    let widths = pruned.dependencyGroups().filter { $0.kind == .width }.map(\.unitCount)
    #expect(widths.count == 2 && widths[0] < 24 && widths[1] < 16 && widths.allSatisfy { $0 > 0 })
    // The channels that stay, found by their weights, are those of the largest squares.
    let criterion = MagnitudeImportance()
    let groups = graph.dependencyGroups().filter { $0.kind == .width }
    let scores = try criterion.importances(of: groups, in: graph, context: PassContext())
    for (group, (units, width)) in zip(groups, zip(scores, widths)) {
      let order = units.indices.sorted { (units[$0], $0) > (units[$1], $1) }
      let kept = order.prefix(width).sorted()
      let member = try #require(group.members.first)
      let tensor = try #require(graph.parameter(member.parameter)).tensor
      #expect(
        pruned.parameter(named: graph.name(of: member.parameter))?.tensor
          == tensor.selecting(kept, onAxis: member.axis))
    }
  }

  @Test func unitsAndLayersTogetherMeetTheTarget() throws {
    let pruned = try prune("heads,neurons,layers") { $0.sparsity = 0.5 }
    // The last unit to go is a head, a twentieth of such a small model.
    #expect(abs(Double(size(pruned)) / Double(size(graph)) - 0.5) < 0.05)
    #expect(pruned.prunableLayers(of: Tower.allCases).count < 7)
  }

  @Test func towersHaveBudgetsOfTheirOwn() throws {
    let pruned = try prune("neurons") {
      $0.imageSparsity = 0.1
      $0.textSparsity = 0.3
    }
    for (tower, share) in [(Passes.Tower.image, 0.1), (.text, 0.3)] {
      let left = Double(size(pruned, [tower])) / Double(size(graph, [tower]))
      #expect(abs(1 - left - share) < 0.01, "\(tower) \(left)")
    }
  }

  @Test func targetsOfParametersAndMacsAreMet() throws {
    let parameters = size(graph) * 3 / 4
    let smaller = try prune("heads,neurons") { $0.targetParameters = parameters }
    #expect(abs(size(smaller) - parameters) <= 4 * 24 * 8 + 24)
    func macs(_ graph: Graph) -> Int {
      Tower.allCases.reduce(0) { $0 + graph.multiplyAccumulateCount(output: $1.outputName) }
    }
    let target = macs(graph) * 3 / 4
    let faster = try prune("heads,neurons") { $0.targetMacs = target }
    #expect(abs(Double(macs(faster)) / Double(target) - 1) < 0.06)
    for wrong in [0, macs(graph), size(graph)] {
      #expect(throws: PassError.self) { try prune("heads") { $0.targetParameters = wrong } }
    }
  }

  /// What rounds remove in the end is what the budget says, whatever their number.
  @Test(arguments: [1, 2, 5])
  func roundsMeetTheTarget(_ count: Int) throws {
    let pruned = try prune("heads,neurons") {
      $0.sparsity = 0.4
      $0.rounds = count
    }
    #expect(abs(Double(size(pruned)) / Double(size(graph)) - 0.6) < 0.03)
  }

  /// Magnitudes do not change when others go: rounds take what one step takes.
  @Test func roundsChangeNothingForNeuronsByMagnitude() throws {
    let once = try prune("neurons") { $0.sparsity = 0.3 }
    let often = try prune("neurons") {
      $0.sparsity = 0.3
      $0.rounds = 3
    }
    for value in once.parameterValues {
      let name = once.name(of: value)
      let (a, b) = (once.parameter(named: name), often.parameter(named: name))
      // A budget that rounds cut in parts may be a unit off.
      #expect(abs((a?.tensor.count ?? 0) - (b?.tensor.count ?? 0)) <= 3 * 24)
    }
  }

  @Test(arguments: ["4x4", "1x8", "8x1"])
  func tilesGoWhole(_ structure: String) throws {
    let pruned = try prune(structure) { $0.sparsity = 0.5 }
    let sides = structure.split(separator: "x").compactMap { Int($0) }
    for weight in graph.prunableWeights(of: Tower.allCases) {
      let name = graph.name(of: weight)
      let mask = try #require(pruned.parameter(named: name)?.mask)
      let (height, width) = (mask.shape[0], mask.shape[1])
      let bits = mask.elements(of: UInt8.self)
      var gone = 0
      for row in stride(from: 0, to: height, by: sides[0]) {
        for column in stride(from: 0, to: width, by: sides[1]) {
          let sum = (0..<sides[0]).reduce(0) { sum, y in
            sum + (0..<sides[1]).reduce(0) { $0 + Int(bits[(row + y) * width + column + $1]) }
          }
          #expect(sum == 0 || sum == sides[0] * sides[1])
          if sum == 0 { gone += 1 }
        }
      }
      #expect(gone == height * width / sides[0] / sides[1] / 2, "\(name)")
    }
  }

  @Test(arguments: ["7x2", "2:7", "layers", "width"])
  func whatCannotBeIsSaid(_ structure: String) throws {
    let error = #expect(throws: PassError.self) { try prune(structure) { $0.sparsity = 0.99 } }
    guard case .option(_, let expected, _)? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(!expected.isEmpty)
  }
}

@Suite struct TowerSplitTests {
  /// With a loss that is a sum of squares the best split is known.
  @Test(arguments: [0.2, 0.5, 0.8], [(300, 100), (100, 100), (100, 900)])
  func theLeastLossIsFound(_ sparsity: Double, _ sizes: (Int, Int)) {
    var calls = 0
    let best = TowerSplit.best(sparsity: sparsity, sizes: sizes) { shares in
      calls += 1
      let total =
        shares.image * Double(sizes.0) + shares.text * Double(sizes.1)
      #expect(abs(total - sparsity * Double(sizes.0 + sizes.1)) < 1e-9)
      #expect((0...0.9 + 1e-9).contains(shares.image) && (0...0.9).contains(shares.text))
      return shares.image * shares.image * 2 + shares.text * shares.text
    }
    // The least of 2 x² + y² on a line, looked for by brute force.
    let (image, text) = (Double(sizes.0), Double(sizes.1))
    func loss(_ share: Double) -> Double {
      let other = (sparsity * (image + text) - share * text) / image
      return other < 0 || other > 0.9 ? .infinity : 2 * other * other + share * share
    }
    let least = (0...900).map { loss(Double($0) / 1000) }.min() ?? 0
    #expect(loss(best.text) < least * 1.15 + 1e-3, "\(best)")
    #expect(calls <= 9)
  }
}
