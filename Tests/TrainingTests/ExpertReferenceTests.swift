import Execution
import Foundation
import GraphIR
import Operators
import TensorCore
import TestSupport
import Testing
import Training

/// A layer of experts, both of its auxiliary losses and their gradients against PyTorch's.
///
/// The file holds two items of four tokens for three experts, of which a token takes two, and what
/// `torch.topk`, `softmax`, `logsumexp` and `autograd` make of them in float64.
@Suite struct ExpertReferenceTests {
  private struct Recorded: Decodable {
    struct Array: Decodable {
      let shape: [Int]
      let elements: [Double]
    }

    struct Result: Decodable {
      let value: Double
      let gradients: [String: [Double]]
    }

    let tensors: [String: Array]
    let y: [Double]
    let results: [String: Result]
  }

  private let recorded: Recorded
  private let inputs: [String: Tensor]

  init() throws {
    let url = Shared.packageRoot.appendingPathComponent(
      "Tests/TrainingTests/Resources/expert-reference.json")
    recorded = try JSONDecoder().decode(Recorded.self, from: try Data(contentsOf: url))
    inputs = recorded.tensors.mapValues { Tensor(shape: $0.shape, $0.elements) }
  }

  /// The layer with scalar `name` and the names of its gradients by input.
  private func graph(_ name: String) throws -> (Graph, scalar: String, [String: String]) {
    var block = ExpertBlock()
    (block.tokens, block.width, block.neurons) = (4, 3, 4)
    var graph = Graph()
    let values = try block.add(to: &graph)
    let leaves = graph.inputs
    let mask =
      name.hasPrefix("masked_")
      ? try graph.addInput("mask", TensorType(.float32, [.symbol("batch"), 4])) : nil
    let constants = try graph.addInput("constants", graph.tensorType(of: values.y))
    var builder = GraphBuilder(graph, scope: "loss")
    let scalar: Value
    if name == "output" {
      let product = try builder.product(values.y, constants)
      scalar = try builder.add(Sum(over: .all), product)
    } else if name.hasSuffix("balance") {
      scalar = try builder.loadBalancingLoss(
        logits: values.logits, assignment: values.assignment, mask: mask)
    } else {
      scalar = try builder.routerZLoss(logits: values.logits, mask: mask)
    }
    graph = builder.graph
    let found = try graph.addGradients(of: scalar, withRespectTo: leaves)
    var names: [String: String] = [:]
    for (leaf, gradient) in zip(leaves, found) {
      if let gradient { names[graph.name(of: leaf)] = graph.name(of: gradient) }
    }
    return (graph, graph.name(of: scalar), names)
  }

  @Test(arguments: ["output", "balance", "z", "masked_balance", "masked_z"])
  func valuesAndGradientsAgree(_ name: String) throws {
    let (graph, scalar, gradients) = try graph(name)
    let expected = try #require(recorded.results[name])
    #expect(Set(gradients.keys) == Set(expected.gradients.keys))
    let names = [scalar, "y"] + gradients.values.sorted()
    let executor = try Executor(graph, outputs: names, threadCount: 2, arithmetic: .float64)
    let found = try executor.run(inputs)
    #expect(abs(try #require(found[scalar]).doubles[0] - expected.value) < 1e-13)
    #expect(distance(try #require(found["y"]).doubles, recorded.y) < 1e-14)
    for (leaf, gradient) in gradients {
      let reference = try #require(expected.gradients[leaf])
      let error = distance(try #require(found[gradient]).doubles, reference)
      #expect(error < 1e-13, "\(leaf): \(error)")
    }
    let fast = try Executor(graph, outputs: names, threadCount: 2)
    let rounded = try fast.run(
      inputs.mapValues { Tensor(shape: $0.shape, $0.doubles.map { Float($0) }) })
    for (leaf, gradient) in gradients {
      let reference = try #require(expected.gradients[leaf])
      let error = distance(try #require(rounded[gradient]).doubles, reference)
      #expect(error < 2e-5, "\(leaf): \(error) in float32")
    }
  }
}
