import Execution
import GraphIR
import Operators
import TensorCore
import TestSupport
import Testing
import Training

/// The choice of a token before the experts of the last block.
@Suite struct ExpertSelectionTests {
  /// A block of experts with its residual, behind it the choice of a token.
  private func graph(_ block: ExpertBlock, _ choice: any Op, extra: String? = nil) throws
    -> Graph
  {
    var graph = Graph()
    let values = try block.add(to: &graph)
    let sum = try graph.add("sum", Add(), values.x, values.y)
    var operands = [sum]
    if choice is SelectEndToken {
      operands.append(
        try graph.addInput("ids", TensorType(.int32, [.symbol("batch"), .fixed(block.tokens)])))
    }
    try graph.addOutput("pooled", try graph.addNode("pooled", choice, operands)[0])
    if let extra { try graph.addOutput("extra", try #require(graph.value(named: extra))) }
    return graph
  }

  private func inputs(_ block: ExpertBlock) -> [String: Tensor] {
    var inputs = block.tensors(seed: 6)
    inputs["ids"] = Tensor(
      shape: [2, block.tokens], (0..<(2 * block.tokens)).map { Int32($0 * 7 % 5) })
    return inputs
  }

  private func count(_ graph: Graph, _ block: ExpertBlock) throws -> Int {
    try graph.nodes.reduce(0) { sum, node in
      func shapes(_ values: [Value]) throws -> [[Int]] {
        try values.map {
          try #require(graph.tensorType(of: $0).shape(binding: ["batch": block.items]))
        }
      }
      return sum
        + node.op.multiplyAccumulateCount(
          inputs: try shapes(node.inputs), outputs: try shapes(node.outputs))
    }
  }

  private func check(_ block: ExpertBlock, _ plain: Graph, _ early: Graph) throws {
    try early.verify()
    for arithmetic in [Arithmetic.float64, .fast] {
      let results = try [plain, early].map {
        try Executor($0, arithmetic: arithmetic).run(inputs(block))
      }
      for output in plain.outputs.map(\.name) {
        let pair = try results.map { try #require($0[output]).doubles }
        #expect(distance(pair[0], pair[1]) < (arithmetic == .fast ? 1e-6 : 1e-14))
      }
    }
  }

  @Test(arguments: [0, 1])
  func onlyTheChosenTokenIsRouted(_ rule: Int) throws {
    let block = ExpertBlock()
    let choice: any Op = rule == 0 ? SelectToken(index: 2) : SelectEndToken(rule: .largest)
    let plain = try graph(block, choice)
    let early = try plain.selectingEarly()
    try check(block, plain, early)
    #expect(try count(early, block) * block.tokens == count(plain, block))
    for (name, rank) in [("logits", 2), ("fc1", 3), ("active", 3), ("fc2", 3), ("y", 2)] {
      let value = try #require(early.value(named: name))
      #expect(early.tensorType(of: value).rank == rank, "\(name)")
    }
  }

  /// Dropout between an expert's products keeps no token that is not read.
  @Test func dropoutDoesNotKeepTheOthers() throws {
    let block = ExpertBlock()
    let plain = try graph(block, SelectToken(index: 2))
    let dropping = try plain.droppingOut(0.25, seed: "seed") { $0 != "fc1.weight" }
    let drops = dropping.nodes.filter { $0.op is Dropout }
    #expect(drops.count == 1)
    let early = try dropping.selectingEarly()
    try early.verify()
    #expect(try count(early, block) * block.tokens == count(plain, block))
    var given = inputs(block)
    given["seed"] = Tensor(shape: [2], [3, 4] as [Int32])
    let rows = try #require(try Executor(early).run(given)["pooled"]).doubles
    #expect(rows.allSatisfy { $0.isFinite })
    let whole = try #require(try Executor(plain).run(given)["pooled"]).doubles
    #expect(distance(rows, whole) > 1e-3)
  }

  /// Tokens compete for the room of experts, so all of them must be routed.
  @Test(arguments: [RouteTokens(topK: 2, capacity: 2), RouteTokens(expertChoiceOf: 2)])
  func competingTokensStay(_ routing: RouteTokens) throws {
    var block = ExpertBlock()
    block.routing = routing
    let plain = try graph(block, SelectToken(index: 4))
    let early = try plain.selectingEarly()
    try check(block, plain, early)
    let rows = try #require(early.value(named: "fc2"))
    #expect(early.tensorType(of: rows).rank == 4)
  }

  /// What is read as a whole elsewhere is computed as a whole.
  @Test(arguments: ["logits", "gates", "fc1", "active", "fc2", "y", "sum"])
  func whatIsReadElsewhereStaysWhole(_ name: String) throws {
    let block = ExpertBlock()
    let plain = try graph(block, SelectToken(index: 1), extra: name)
    try check(block, plain, try plain.selectingEarly())
  }

  /// A loss reads the routing of every token; the experts of one need theirs alone.
  @Test func routingOfAllTokensStandsBesideThatOfOne() throws {
    let block = ExpertBlock()
    var plain = try graph(block, SelectToken(index: 3))
    let logits = try #require(plain.value(named: "logits"))
    let assignment = try #require(plain.value(named: "assignment"))
    var builder = GraphBuilder(plain, scope: "loss")
    let loss = try builder.loadBalancingLoss(logits: logits, assignment: assignment, mask: nil)
    plain = builder.graph
    try plain.addOutput("loss", loss)
    let early = try plain.selectingEarly()
    try check(block, plain, early)
    let rows = try #require(early.value(named: "fc1"))
    #expect(early.tensorType(of: rows).rank == 3)
    #expect(try count(early, block) < count(plain, block))
  }

  /// Gradients pass through the choice as through the whole.
  @Test func gradientsStay() throws {
    let block = ExpertBlock()
    let plain = try graph(block, SelectToken(index: 0))
    func gradients(_ source: Graph) throws -> [String: [Double]] {
      var graph = source
      let pooled = try #require(graph.output(named: "pooled"))
      let square = try graph.add("square", Multiply(), pooled, pooled)
      let scalar = try graph.add("scalar", Sum(over: .all), square)
      let leaves = graph.inputs
      let found = try graph.addGradients(of: scalar, withRespectTo: leaves)
      let names = try found.map { graph.name(of: try #require($0)) }
      let results = try Executor(graph, outputs: names, arithmetic: .float64).run(inputs(block))
      var gradients: [String: [Double]] = [:]
      for (leaf, name) in zip(leaves, names) {
        gradients[graph.name(of: leaf)] = try #require(results[name]).doubles
      }
      return gradients
    }
    let (a, b) = (try gradients(plain), try gradients(try plain.selectingEarly()))
    for (leaf, expected) in a {
      #expect(distance(try #require(b[leaf]), expected) < 1e-13, "\(leaf)")
    }
  }
}
