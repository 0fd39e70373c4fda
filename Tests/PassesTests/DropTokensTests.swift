import Execution
import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport
import Testing

@Suite struct DropTokensTests {
  private var extents: RandomCLIP {
    var extents = RandomCLIP()
    extents.imageSize = 24
    extents.imageLayers = 4
    return extents
  }

  private func pass(
    _ stages: [(Int, Double)], spacing: Int = 3
  ) -> Passes.DropTokens {
    var options = Passes.DropTokens.Options()
    options.stages = stages.map { .init(layer: $0.0, keep: $0.1) }
    options.gridSpacing = spacing
    return Passes.DropTokens(options: options)
  }

  private func drops(_ graph: Graph) -> [TokenDrop] {
    graph.nodes.compactMap { $0.op as? TokenDrop }
  }

  @Test func keepingAllOnlyReorders() throws {
    let graph = try extents.graph(seed: 1)
    let kept = try pass([(1, 1), (2, 1)]).run(on: graph, in: PassContext())
    try kept.verify()
    let inputs = extents.inputs(seed: 2)
    #expect(largestDifference(try outputs(kept, inputs), try outputs(graph, inputs)) < 1e-5)
  }

  @Test func stagesKeepTheirShareAndTheGrid() throws {
    let graph = try extents.graph(seed: 1)
    let dropped = try pass([(1, 0.5), (3, 0.4)]).run(on: graph, in: PassContext())
    try dropped.verify()
    let found = drops(dropped)
    // 36 patches, of which 4 lie on the grid of every third row and column.
    #expect(found.map(\.count) == [19, 8])
    #expect(found[0].grid == TokenGrid(leading: 1, columns: 6, spacing: 3))
    #expect(found[1].grid == TokenGrid(leading: 5))
    let none = try pass([(2, 0.5)], spacing: 0).run(on: graph, in: PassContext())
    #expect(drops(none)[0].grid == TokenGrid(leading: 1))
  }

  /// The tokens that stay are those of the highest attention, worked out from the values before.
  @Test func whatTheClassTokenSeesStays() throws {
    let graph = try extents.graph(seed: 3)
    let dropped = try pass([(1, 0.5)], spacing: 0).run(on: graph, in: PassContext())
    let inputs = extents.inputs(seed: 4, items: 1)
    let name = "image.layers.0"
    let names = ["\(name).attended", "\(name).attention.query", "\(name).attention.key"]
    let before = try Executor(dropped, outputs: names, arithmetic: .float64).run(inputs)
    let after = try Executor(dropped, outputs: ["\(name).attended.kept"], arithmetic: .float64)
      .run(inputs)
    func rows(_ values: [String: Tensor], _ name: String) throws -> [[Double]] {
      let tensor = try #require(values[name])
      let (elements, width) = (tensor.elements(of: Double.self), tensor.shape[2])
      return (0..<tensor.shape[1]).map { Array(elements[($0 * width)..<(($0 + 1) * width)]) }
    }
    let (x, q, k) = (
      try rows(before, names[0]), try rows(before, names[1]), try rows(before, names[2])
    )
    var scores = [Double](repeating: 0, count: x.count)
    for head in 0..<3 {
      let columns = (head * 8)..<((head + 1) * 8)
      let scale = Double(1 / Float(8).squareRoot())
      var weights: [Double] = []
      for key in k {
        var product = 0.0
        for column in columns { product += q[0][column] * key[column] }
        weights.append(Double.exp(product * scale))
      }
      let sum = weights.reduce(0, +)
      for token in x.indices { scores[token] += weights[token] / sum }
    }
    let kept = [0] + (1..<37).sorted { scores[$0] > scores[$1] }.prefix(18).sorted()
    #expect(try rows(after, "\(name).attended.kept") == kept.map { x[$0] })
  }

  @Test func headsAndNeuronsCanStillGo() throws {
    let graph = try extents.graph(seed: 7)
    let dropped = try pass([(2, 0.5)]).run(on: graph, in: PassContext())
    #expect(
      dropped.dependencyGroups().map { "\($0.kind) \($0.name)" }
        == graph.dependencyGroups().map { "\($0.kind) \($0.name)" })
  }

  @Test func whatCannotBeDroppedIsRefused() throws {
    let graph = try extents.graph(seed: 1)
    func message(_ pass: Passes.DropTokens, _ graph: Graph) -> String? {
      do throws(PassError) {
        _ = try pass.run(on: graph, in: PassContext())
        return nil
      } catch { return error.description }
    }
    #expect(
      message(pass([(4, 0.5)]), graph) == "layer must be in 1...3, ascending by stage, found 4")
    #expect(message(pass([(2, 0.5), (2, 0.5)]), graph) != nil)
    #expect(message(pass([(2, 0)]), graph) == "keep must be above 0 and at most 1, found 0.0")
    #expect(message(pass([(2, 0.1)], spacing: 2), graph)?.contains("9 of the 36 others") == true)
    #expect(message(pass([]), graph) == "stages must be at least one, found none")
    let dropped = try pass([(2, 0.5)]).run(on: graph, in: PassContext())
    #expect(message(pass([(3, 0.5)]), dropped)?.contains("already") == true)
    var merge = Passes.MergeTokens.Options()
    merge.tokensPerLayer = 2
    #expect(throws: PassError.self) {
      try Passes.MergeTokens(options: merge).run(on: dropped, in: PassContext())
    }
    let text = try graph.extracting(outputs: ["text_embeds"])
    #expect(message(pass([(2, 0.5)]), text) == "drop-tokens: the model has no image tower")
  }
}
