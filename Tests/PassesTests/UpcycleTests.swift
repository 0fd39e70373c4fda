import Execution
import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport
import Testing

@Suite struct UpcycleTests {
  private let extents = RandomCLIP()

  private func upcycled(
    _ graph: Graph, seed: UInt64 = 0, _ change: (inout Upcycle.Options) -> Void = { _ in }
  ) throws -> Graph {
    var options = Upcycle.Options()
    change(&options)
    let result = try Upcycle(options: options).run(on: graph, in: PassContext(seed: seed))
    try result.verify()
    return result
  }

  private func difference(_ a: Graph, _ b: Graph, seed: UInt64 = 5) throws -> Float {
    let inputs = extents.inputs(seed: seed, items: 3)
    return zip(try outputs(a, inputs), try outputs(b, inputs)).reduce(0) {
      max($0, abs($1.0 - $1.1))
    }
  }

  @Test(arguments: [(4, 2), (4, 1), (3, 3), (1, 1), (8, 5)])
  func copiesComputeWhatTheDenseModelDid(_ experts: Int, _ topK: Int) throws {
    let dense = try extents.graph(seed: 1)
    for layers in ["every-other", "all", "last:1", "image:1,text:2"] {
      let sparse = try upcycled(dense) { options in
        options.experts = experts
        options.topK = topK
        options.routerDeviation = 3
        options.layers = LayerChoice(parsing: layers) ?? .everyOther
      }
      #expect(!sparse.expertLayers.isEmpty)
      #expect(try difference(dense, sparse) < 1e-5)
    }
  }

  @Test func sharesThatDoNotAddUpChangeTheModel() throws {
    let dense = try extents.graph(seed: 1)
    let sparse = try upcycled(dense) { $0.normalizesGates = false }
    #expect(try difference(dense, sparse) > 1e-3)
  }

  @Test func expertsThatChooseLeaveTextAlone() throws {
    let dense = try extents.graph(seed: 1)
    let image = try upcycled(dense) { options in
      options.choice = .experts
      options.capacity = 4
      options.tower = .image
    }
    // With room for every token at each of four experts, all of them are taken.
    #expect(try difference(dense, image) < 1e-5)
    #expect(throws: PassError.self) {
      try upcycled(dense) { options in
        options.choice = .experts
        options.capacity = 1
      }
    }
  }

  @Test func capacityLimitsWhatAnExpertTakes() throws {
    let dense = try extents.graph(seed: 1)
    let even = try upcycled(dense) { $0.capacity = 0.5 }
    let route = try #require(even.expertLayers.first { $0.name.hasPrefix("image") }?.route)
    // Five tokens, two of four experts each: half of two and a half, rounded up; two find no place.
    #expect(route.capacity == 2)
    #expect(try difference(dense, even) > 1e-4)
    let wide = try upcycled(dense) { $0.capacity = 2 }
    #expect(try difference(dense, wide) < 1e-5)
    #expect(wide.expertLayers.allSatisfy { $0.route.capacity == 0 })
  }

  @Test func noiseMakesExpertsDiffer() throws {
    let dense = try extents.graph(seed: 1)
    let sparse = try upcycled(dense) { $0.noise = 0.01 }
    let name = "image.layers.1.mlp.experts.\(0).fc1.weight"
    let first = try #require(sparse.parameter(named: name)?.tensor)
    #expect(first == dense.parameter(named: "image.layers.1.mlp.fc1.weight")?.tensor)
    let other = try #require(
      sparse.parameter(named: "image.layers.1.mlp.experts.3.fc1.weight")?.tensor)
    let (a, b) = (first.elements(of: Float.self), other.elements(of: Float.self))
    let noise = zip(a, b).reduce(0.0) { $0 + Double(($1.0 - $1.1) * ($1.0 - $1.1)) }
    let power = a.reduce(0.0) { $0 + Double($1 * $1) }
    #expect(abs((noise / power).squareRoot() - 0.01) < 0.002)
    #expect(try difference(dense, sparse) > 0)
  }

  @Test func parametersAndOperationsAreThoseOfTheExperts() throws {
    let dense = try extents.graph(seed: 1)
    let sparse = try upcycled(dense) { options in
      options.experts = 8
      options.topK = 3
      options.tower = .image
    }
    let part = 2 * 24 * 40 + 40 + 24
    let router = 8 * 24
    let before = dense.parameterCount(of: [.image])
    #expect(sparse.parameterCount(of: [.image]) == before + 7 * part + router)
    #expect(sparse.activeParameterCount(of: [.image]) == before + 2 * part + router)
    #expect(sparse.parameter(named: "image.layers.1.mlp.fc1.weight") == nil)
    #expect(sparse.parameter(named: "logit_scale") != nil)
    #expect(sparse.parameterCount(of: [.text]) == dense.parameterCount(of: [.text]))
    let tokens = 5
    #expect(
      sparse.multiplyAccumulateCount(output: "image_embeds")
        >= dense.multiplyAccumulateCount(output: "image_embeds")
        + tokens * (2 * 2 * 24 * 40 + router))
  }

  @Test func aSingleExpertIsADenseModel() throws {
    let dense = try extents.graph(seed: 1)
    let sparse = try upcycled(dense) { $0.noise = 0.1 }
    let first = try sparse.withSingleExpert(0)
    try first.verify()
    #expect(try difference(dense, first) < 1e-6)
    let last = try sparse.withSingleExpert(3)
    #expect(try difference(dense, last) > 1e-4)
    #expect(last.value(named: "text.layers.1.mlp.experts.3.fc2.bias") != nil)
    #expect(last.value(named: "text.layers.1.mlp.experts.2.fc2.bias") == nil)
    #expect(last.value(named: "text.layers.1.mlp.router.weight") == nil)
  }

  @Test func seedDecidesRouters() throws {
    let dense = try extents.graph(seed: 1)
    let name = "text.layers.1.mlp.router.weight"
    let a = try upcycled(dense, seed: 4).parameter(named: name)
    #expect(a == (try upcycled(dense, seed: 4).parameter(named: name)))
    #expect(a != (try upcycled(dense, seed: 5).parameter(named: name)))
    let uniform = try upcycled(dense) { $0.router = .uniform }.parameter(named: name)
    let weights = try #require(uniform?.tensor.elements(of: Float.self))
    #expect(weights.allSatisfy { abs($0) <= 0.25 } && weights.contains { abs($0) > 0.15 })
  }

  @Test func badChoicesAreRefused() throws {
    let dense = try extents.graph(seed: 1)
    let changes: [(inout Upcycle.Options) -> Void] = [
      { $0.topK = 5 }, { $0.topK = 0 }, { $0.experts = 0 }, { $0.experts = 1000 },
      { $0.capacity = 0 }, { $0.capacity = 0.1 }, { $0.noise = -1 },
      { $0.layers = .listed([LayerChoice.Listed(tower: nil, layer: 3)]) }, { $0.layers = .last(3) },
    ]
    for change in changes {
      #expect(throws: PassError.self) { try upcycled(dense, change) }
    }
    let sparse = try upcycled(dense)
    #expect(throws: PassError.self) { try upcycled(sparse) }
  }

  @Test func layersAreReadAndWritten() throws {
    for text in ["every-other", "all", "last:3", "1,4", "image:2,text:1,5"] {
      #expect(LayerChoice(parsing: text)?.description == text)
    }
    for text in ["", "0", "last:0", "last:", "1,,2", "1,1", "audio:1", "-2", "every"] {
      #expect(LayerChoice(parsing: text) == nil, "\(text)")
    }
    #expect(try LayerChoice.everyOther.layers(of: .image, count: 6) == [1, 3, 5])
    #expect(try LayerChoice.everyOther.layers(of: .text, count: 3) == [1])
    let listed = try #require(LayerChoice(parsing: "image:2,text:1,3"))
    #expect(try listed.layers(of: .image, count: 6) == [1, 2])
    #expect(try listed.layers(of: .text, count: 3) == [0, 2])
  }

  @Test func textOfTheGraphIsReadBack() throws {
    let sparse = try upcycled(try extents.graph(seed: 1)) { $0.capacity = 0.9 }
    let read = try Graph(parsing: sparse.text(), registry: .standard) {
      name, _ throws(GraphError) in
      guard let parameter = sparse.parameter(named: name) else { throw .unknownName(name) }
      return parameter
    }
    #expect(read.text() == sparse.text())
  }
}
