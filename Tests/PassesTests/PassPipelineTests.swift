import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport
import Testing

@Suite struct PassPipelineTests {
  @Test func recordsEveryStep() throws {
    let graph = try RandomCLIP().graph(seed: 2)
    var prune = Prune.Options()
    prune.structure = [.heads, .neurons]
    prune.sparsity = 0.15
    var quantize = Quantize.Options()
    quantize.exclude = ["*.fc1.weight", "x"]
    let result = try PassPipeline([
      Prune(options: prune), Quantize(options: quantize),
    ]).run(on: graph, inputSHA256: "ab12", in: PassContext(seed: 7))
    #expect(result.provenance.map(\.pass) == ["prune", "quantize"])
    #expect(result.provenance.allSatisfy { $0.seed == 7 && $0.inputSHA256 == "ab12" })
    let first = result.provenance[0].options
    #expect(first["structure"] == "heads,neurons")
    #expect(first["sparsity"] == "0.15")
    #expect(first["method"] == "magnitude")
    #expect(first["scope"] == nil)
    let second = result.provenance[1].options
    #expect(second["exclude"] == "*.fc1.weight,x")
    #expect(second["weights"] == "int8")
    #expect(second["percentile"] == "99.99")
  }

  /// Leaves a graph whose types are not what operators infer.
  struct Break: Pass {
    static let name = "break"
    struct Options: Codable, Sendable {}
    let options: Options
    init(options: Options) { self.options = options }
    func run(
      on graph: consuming Graph, in context: borrowing PassContext
    ) throws(PassError) -> Graph {
      var graph = graph
      if let bias = graph.value(named: "image.layers.0.mlp.fc1.bias") {
        do {
          try graph.setParameter(bias, Parameter(Tensor(shape: [1], [Float(0)])))
        } catch {
          throw .graph(pass: Self.name, error)
        }
      }
      return graph
    }
  }

  @Test func catchesWhatAPassBreaks() throws {
    let graph = try RandomCLIP().graph(seed: 2)
    let error = #expect(throws: PassError.self) {
      try PassPipeline([Break(options: .init()), Quantize()])
        .run(on: graph, inputSHA256: "", in: PassContext())
    }
    #expect(error?.description.hasPrefix("break: ") == true)
  }

  @Test func removesOnlyWhatBecameUnread() throws {
    var graph = try RandomCLIP().graph(seed: 2)
    let spare = try graph.addParameter(
      "spare", Parameter(Tensor(shape: [24, 24], of: Float.self) { _ in }))
    let norm = try #require(graph.value(named: "image.pre_norm"))
    _ = try graph.add("dead", Linear(), norm, spare)
    let cleaned = try PassPipeline([RemoveUnread()])
      .run(on: graph, inputSHA256: "", in: PassContext())
    #expect(cleaned.value(named: "dead") == nil)
    #expect(cleaned.value(named: "spare") == nil)
    #expect(cleaned.value(named: "logit_scale") != nil)
    #expect(cleaned.inputs.count == graph.inputs.count)
    let inputs = RandomCLIP().inputs(seed: 3)
    #expect(try outputs(cleaned, inputs) == outputs(graph, inputs))
  }

  @Test func patternsOfNames() {
    #expect(matches("image.layers.0.mlp", pattern: "image.*"))
    #expect(matches("image.layers.0.mlp", pattern: "*mlp"))
    #expect(matches("image.layers.0.mlp", pattern: "image*0*mlp"))
    #expect(matches("a", pattern: "*"))
    #expect(matches("a", pattern: "a"))
    #expect(!matches("ab", pattern: "a"))
    #expect(!matches("image.layers.0.mlp", pattern: "text*"))
    #expect(!matches("aba", pattern: "ab*ba"))
    #expect(matches("abba", pattern: "ab*ba"))
  }
}
