import Execution
import GraphIR
import Operators
import TensorCore
import TestSupport
import Testing
import Training

/// The laws of a layer of experts.
@Suite struct ExpertBlockTests {
  private func run(
    _ graph: Graph, _ inputs: [String: Tensor], _ name: String = "y",
    _ arithmetic: Arithmetic = .float64
  ) throws -> [Double] {
    try #require(
      try Executor(graph, outputs: [name], threadCount: 2, arithmetic: arithmetic).run(inputs)[
        name]
    ).doubles
  }

  @Test(arguments: [1, 2, 4], [true, false])
  func gatheringIsTheDenseSumWithZeroWeights(_ topK: Int, _ isNormalized: Bool) throws {
    var block = ExpertBlock()
    block.experts = 4
    block.routing = RouteTokens(topK: topK)
    block.isNormalized = isNormalized
    let tensors = block.tensors(seed: 1)
    let expected = ExpertLoops(block: block, tensors: tensors).denseSum(topK: topK)
    #expect(distance(try run(try block.graph(), tensors), expected) < 1e-13)
    #expect(distance(try run(try block.graph(), tensors, "y", .fast), expected) < 2e-5)
  }

  @Test func expertsWithTheirRouterRowsMayTradePlaces() throws {
    let block = ExpertBlock()
    let tensors = block.tensors(seed: 2)
    let order = [2, 0, 1]
    var permuted = tensors
    permuted["router"] = try #require(tensors["router"]).selecting(order, onAxis: 0)
    for name in ["fc1", "fc2"] {
      for (new, old) in order.enumerated() {
        for kind in ["weight", "bias"] {
          permuted["\(name).\(new).\(kind)"] = tensors["\(name).\(old).\(kind)"]
        }
      }
    }
    let graph = try block.graph()
    #expect(distance(try run(graph, tensors), try run(graph, permuted)) < 1e-14)
  }

  /// What makes upcycling exact: whatever the router says, the weights sum to one.
  @Test(arguments: [1, 2, 3])
  func equalExpertsAreTheDenseLayer(_ topK: Int) throws {
    var block = ExpertBlock()
    block.routing = RouteTokens(topK: topK)
    var tensors = block.tensors(seed: 3)
    for name in ["fc1", "fc2"] {
      for expert in 1..<block.experts {
        for kind in ["weight", "bias"] {
          tensors["\(name).\(expert).\(kind)"] = tensors["\(name).0.\(kind)"]
        }
      }
    }
    let loops = ExpertLoops(block: block, tensors: tensors)
    let x = try #require(tensors["x"]).doubles
    let dense = stride(from: 0, to: x.count, by: block.width).flatMap {
      loops.expert(0, Array(x[$0..<($0 + block.width)]))
    }
    #expect(distance(try run(try block.graph(), tensors), dense) < 1e-14)
    #expect(distance(try run(try block.graph(), tensors, "y", .fast), dense) < 1e-5)
  }

  @Test func theOnlyExpertIsTheDenseLayer() throws {
    var block = ExpertBlock()
    block.experts = 1
    for isNormalized in [false, true] {
      for routing in [RouteTokens(topK: 1), RouteTokens(expertChoiceOf: 6)] {
        block.routing = routing
        block.isNormalized = isNormalized
        let tensors = block.tensors(seed: 4)
        let loops = ExpertLoops(block: block, tensors: tensors)
        let expected = loops.denseSum(topK: 1)
        #expect(distance(try run(try block.graph(), tensors), expected) < 1e-14)
      }
    }
  }

  @Test func expertsWithoutRoomAddNothing() throws {
    var block = ExpertBlock()
    block.routing = RouteTokens(topK: 1, capacity: 2)
    var tensors = block.tensors(seed: 5)
    tensors["router"] = Tensor(shape: [3, 5], [Float](repeating: 0, count: 15))
    let y = try run(try block.graph(), tensors)
    for index in y.indices {
      // Equal logits: the first two tokens of each item fill the first expert.
      let token = index / block.width % block.tokens
      #expect((y[index] != 0) == (token < 2), "token \(token)")
    }
  }

  /// What is fused is what its parts compute, value by value.
  @Test(arguments: [true, false])
  func gatesAreTheirDecomposition(_ isNormalized: Bool) throws {
    var scalar = ScalarGraph(seed: 9)
    let logits = try scalar.addInput("logits", GradientOperand([.batch, 5, 4]))
    let assignment = try scalar.addInput(
      "assignment", GradientOperand([.batch, 5, 3], .slots(experts: 4)))
    let op = ExpertGates(isNormalized: isNormalized)
    let fused = try scalar.graph.add("fused", op, logits, assignment)
    var builder = GraphBuilder(scalar.graph, scope: "parts")
    let parts = try #require(try op.decomposition(of: [logits, assignment], &builder).first)
    try builder.graph.addOutput("fused", fused)
    try builder.graph.addOutput("parts", parts)
    let found = try Executor(builder.graph, arithmetic: .float64).run(scalar.inputs)
    let pair = try ["fused", "parts"].map { try #require(found[$0]).doubles }
    #expect(distance(pair[0], pair[1]) < 1e-15)
  }
}

/// Losses that keep routing even and logits small.
@Suite struct RoutingLossTests {
  /// Both losses of tokens with these logits, of which `mask` leaves some out.
  private func losses(
    _ logits: [Float], experts: Int, topK: Int, mask: [Float]? = nil
  ) throws -> (balance: Double, z: Double) {
    var graph = Graph()
    let count = logits.count / experts
    let shape = [1, count, experts]
    let x = try graph.addInput("logits", TensorType(.float32, shape: shape))
    let masked = try mask.map { _ in
      try graph.addInput("mask", TensorType(.float32, shape: [1, count]))
    }
    let assignment = try graph.add("assignment", RouteTokens(topK: topK), x)
    var builder = GraphBuilder(graph, scope: "loss")
    let balance = try builder.loadBalancingLoss(logits: x, assignment: assignment, mask: masked)
    let z = try builder.routerZLoss(logits: x, mask: masked)
    try builder.graph.addOutput("balance", balance)
    try builder.graph.addOutput("z", z)
    var inputs = ["logits": Tensor(shape: shape, logits)]
    if let mask { inputs["mask"] = Tensor(shape: [1, count], mask) }
    let found = try Executor(builder.graph, arithmetic: .float64).run(inputs)
    return (try #require(found["balance"]).doubles[0], try #require(found["z"]).doubles[0])
  }

  @Test func evenRoutingCostsItsChoices() throws {
    // Token t prefers expert t, then t + 1; probabilities are the same circle.
    let logits: [Float] = [2, 1, 0, 0, 2, 1, 1, 0, 2]
    for topK in [1, 2] {
      #expect(abs(try losses(logits, experts: 3, topK: topK).balance - Double(topK)) < 1e-14)
    }
  }

  @Test func oneExpertForAllCostsTheirNumber() throws {
    let logits = (0..<5).flatMap { _ in [200, 0, 0, 0] as [Float] }
    #expect(abs(try losses(logits, experts: 4, topK: 1).balance - 4) < 1e-14)
  }

  @Test func exponentsAreSquared() throws {
    let found = try losses([0, 0, 0, 0, 1, 1, 1, 1], experts: 4, topK: 1).z
    let log4 = Double.log(4)
    #expect(abs(found - (log4 * log4 + (1 + log4) * (1 + log4)) / 2) < 1e-14)
  }

  @Test func paddingIsLeftOut() throws {
    let logits: [Float] = [1, 2, 0.5, -1, 0.25, 3]
    let alone = try losses(logits, experts: 3, topK: 2)
    let padded = try losses(
      logits + [9, 9, -9, 0, 0, 50], experts: 3, topK: 2, mask: [1, 1, 0, 0])
    #expect(abs(alone.balance - padded.balance) < 1e-14 && abs(alone.z - padded.z) < 1e-14)
    let all = try losses(logits, experts: 3, topK: 2, mask: [1, 1])
    #expect(abs(alone.balance - all.balance) < 1e-14 && abs(alone.z - all.z) < 1e-14)
  }
}
