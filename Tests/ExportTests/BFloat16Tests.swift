import Execution
import Export
import GraphIR
import ModelFormat
import Operators
import Passes
import TensorCore
import TestSupport
import Testing

@Suite struct BFloat16Tests {
  let extents = PackedCase.extents

  /// The graph with bfloat16 weights, and activations rounded where they meet these.
  func rounded(_ graph: Graph) throws -> Graph {
    var options = Quantize.Options()
    options.weights = .bfloat16
    options.activations = .bfloat16
    return try Quantize(options: options).run(on: graph, in: PassContext(threadCount: 1))
  }

  func file(_ graph: Graph) throws -> Mapped {
    let model = CLIPModel(graph: graph, tokenizer: nil, imageTransform: [])
    return try Mapped(try RuntimeFile(model).serialized())
  }

  @Test(arguments: [0, 3]) func runtimeGivesTheSimulatedEmbeddings(_ experts: Int) throws {
    let dense = try extents.graph(seed: 91)
    let float =
      experts == 0
      ? dense
      : try dense.withMixtures(
        experts: experts, route: Operators.RouteTokens(topK: 2), routerScale: 0.3, seed: 4)
    let graph = try rounded(float)
    #expect(graph.nodes.contains { $0.op is RoundToBFloat16 })
    let inputs = extents.inputs(seed: 92, items: 5)
    let expected = try Executor(graph).run(inputs)
    let original = try Executor(float).run(inputs)
    let file = try file(graph)
    let found = try file.embeddings(inputs, width: extents.projection)
    for (name, values) in found {
      let reference = try #require(expected[name]).elements(of: Float.self)
      // What lies between two numbers of bfloat16 falls to one here, to the other there.
      #expect(largestDifference(values, reference) <= 0.01, "\(name)")
      let exact = try #require(original[name]).elements(of: Float.self)
      #expect(largestDifference(reference, exact) <= 0.05, "\(name)")
      #expect(largestDifference(reference, exact) > 1e-6, "\(name)")
    }
    for (batch, threads) in [(1, 1), (4, 3)] {
      let others = try file.embeddings(
        inputs, width: extents.projection, batch: batch, threads: threads)
      #expect(zip(found, others).allSatisfy { $0 == $1 }, "\(batch) by \(threads)")
    }
    #expect(file.reader.minorVersion == 5)
    for program in [file.reader.imageProgram, file.reader.textProgram] {
      for instruction in try #require(program).instructions {
        switch instruction {
        case .linear(let op):
          // Routers stay float32.
          let tensor = file.reader.tensors[op.weight]
          #expect(tensor.layout == .pairs || tensor.rows == experts)
        case .expertLinear(let op):
          #expect(op.experts.allSatisfy { file.reader.tensors[$0.weight].layout == .pairs })
        default: break
        }
      }
    }
  }

  /// Rounded activations mean products of bfloat16, which need such weights.
  @Test func weightsThatAreNoBFloat16AreRefused() throws {
    var graph = try rounded(try extents.graph(seed: 93))
    let value = try #require(graph.value(named: "image.layers.0.mlp.fc1.weight"))
    var parameter = try #require(graph.parameter(value))
    parameter.tensor = parameter.tensor.mapping { $1 + 0.001 }
    try graph.setParameter(value, parameter)
    do {
      _ = try file(graph)
      Issue.record("accepted")
    } catch let error as ExportError {
      #expect(error.description.contains("need weights that are bfloat16"))
    }
  }
}
