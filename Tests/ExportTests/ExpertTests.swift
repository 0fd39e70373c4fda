import ClipRuntime
import Execution
import Export
import GraphIR
import ModelFormat
import Operators
import TensorCore
import TestSupport
import Testing

/// How the experts of a case are chosen and stored.
struct ExpertCase: CustomTestStringConvertible {
  /// Experts of every layer.
  var experts = 3
  /// How they are chosen.
  var route = Operators.RouteTokens(topK: 2)
  /// Whether gates are shares among those chosen.
  var isNormalized = true
  /// How weights and activations are stored; nil for floats.
  var coding: PackedCase?

  /// Whether a choice depends on other tokens.
  var isLimited: Bool { route.capacity > 0 }

  var testDescription: String {
    "\(route.choice) of \(experts) capacity \(route.capacity) "
      + "\(isNormalized ? "normalized" : "as shares") \(coding?.testDescription ?? "float")"
  }

  static let routes = [
    ExpertCase(experts: 1, route: Operators.RouteTokens(topK: 1)), ExpertCase(),
    ExpertCase(route: Operators.RouteTokens(topK: 1), isNormalized: false),
    ExpertCase(route: Operators.RouteTokens(topK: 2, capacity: 2)),
    ExpertCase(experts: 8, isNormalized: false),
    ExpertCase(experts: 8, route: Operators.RouteTokens(topK: 3, capacity: 1), isNormalized: false),
    ExpertCase(route: Operators.RouteTokens(expertChoiceOf: 2)),
    ExpertCase(experts: 8, route: Operators.RouteTokens(expertChoiceOf: 1), isNormalized: false),
  ]

  static let codings = [
    PackedCase(bitCount: 8), PackedCase(groupSize: 64),
    PackedCase(bitCount: 8, activationBitCount: nil),
    PackedCase(groupSize: 32, activationBitCount: nil),
    PackedCase(bitCount: 8, scalesTokens: true), PackedCase(groupSize: 64, scalesTokens: true),
  ]

  static let all =
    routes
    + codings.flatMap { coding in
      [1, 3, 6].map { index in
        var variant = routes[index]
        variant.coding = coding
        return variant
      }
    }

  /// `dense` with every feed-forward part a mixture.
  func mixed(_ dense: Graph, seed: UInt64 = 9) throws -> Graph {
    try dense.withMixtures(
      experts: experts, route: route, normalizesGates: isNormalized, routerScale: 0.3, seed: seed)
  }

  /// The graph of the case, with codes if it has them.
  func graph() throws -> Graph {
    let mixed = try mixed(try PackedCase.extents.graph(seed: 81))
    return try coding?.applied(to: mixed) ?? mixed
  }
}

@Suite struct ExpertTests {
  let extents = PackedCase.extents

  func file(
    _ graph: Graph, integrity: ModelReader.Integrity = .everything
  ) throws -> Mapped {
    let model = CLIPModel(graph: graph, tokenizer: nil, imageTransform: [])
    return try Mapped(try RuntimeFile(model).serialized(), integrity: integrity)
  }

  /// The runtime gives what the graph simulates, for any batches and threads the same bits, and
  /// computes nothing but the pooled token in the last layer.
  @Test(arguments: ExpertCase.all) func runtimeGivesTheSimulatedEmbeddings(
    _ variant: ExpertCase
  ) throws {
    let graph = try variant.graph()
    let inputs = extents.inputs(seed: 82, items: 5)
    let expected = try Executor(graph).run(inputs)
    let file = try file(graph)
    let found = try file.embeddings(inputs, width: extents.projection)
    for (name, values) in found {
      let reference = try #require(expected[name]).elements(of: Float.self)
      let tolerance: Float = variant.coding?.activationBitCount == nil ? 2e-5 : 0.02
      #expect(largestDifference(values, reference) <= tolerance, "\(name)")
    }
    for (batch, threads) in [(1, 1), (5, 1), (4, 3)] {
      let others = try file.embeddings(
        inputs, width: extents.projection, batch: batch, threads: threads)
      #expect(zip(found, others).allSatisfy { $0 == $1 }, "\(batch) by \(threads)")
    }
    #expect(file.reader.minorVersion == 3)
    for program in [file.reader.imageProgram, file.reader.textProgram] {
      let program = try #require(program)
      let routes = program.instructions.compactMap { instruction in
        if case .routeTokens(let op) = instruction { return op }
        return nil
      }
      #expect(routes.count == 2)
      let last = try #require(routes.last)
      #expect(program.buffers[last.places].rows == .perItem(1))
      // Where tokens compete, all must be seen.
      #expect((program.buffers[last.logits].rows != .perItem(1)) == variant.isLimited)
      #expect(program.isCausal == (last.topK > 0 && program == file.reader.textProgram))
      let widths = program.instructions.compactMap { instruction in
        if case .expertLinear(let op) = instruction { return op.experts.count }
        return nil
      }
      #expect(widths == [Int](repeating: variant.experts, count: 4))
    }
  }

  /// A graph whose last layer works on the chosen token alone is the same model.
  @Test(arguments: [ExpertCase.routes[1], ExpertCase.routes[2], ExpertCase.routes[3]])
  func earlySelectionIsTheSameModel(_ variant: ExpertCase) throws {
    for coding in [nil, PackedCase(bitCount: 8), PackedCase(bitCount: 8, scalesTokens: true)] {
      var variant = variant
      variant.coding = coding
      let graph = try variant.graph()
      let early = try graph.selectingEarly()
      let inputs = extents.inputs(seed: 83, items: 4)
      let found = try file(early).embeddings(inputs, width: extents.projection)
      let wanted = try file(graph).embeddings(inputs, width: extents.projection)
      #expect(zip(found, wanted).allSatisfy { $0 == $1 }, "\(variant.testDescription)")
    }
  }

  /// Nothing of an expert that no token takes is read: numbers that would spread change nothing.
  @Test(arguments: [nil, PackedCase(bitCount: 8), PackedCase(groupSize: 64)])
  func anExpertThatNoTokenTakesIsNotRead(_ coding: PackedCase?) throws {
    let variant = ExpertCase(route: Operators.RouteTokens(topK: 1))
    var graph = try variant.mixed(try extents.graph(seed: 84))
    // The last expert's logits are those of the first, which is taken in its place.
    for value in graph.routerWeights {
      guard var parameter = graph.parameter(value) else { continue }
      var elements = parameter.tensor.elements(of: Float.self)
      let width = parameter.tensor.shape[1]
      for column in 0..<width { elements[2 * width + column] = elements[column] }
      parameter.tensor = Tensor(shape: parameter.tensor.shape, elements)
      try graph.setParameter(value, parameter)
    }
    let sound = try coding?.applied(to: graph) ?? graph
    var poisoned = sound
    var count = 0
    for layer in sound.expertLayers {
      for value in layer.parameters(ofExpert: 2) {
        guard var parameter = sound.parameter(value) else { continue }
        func poison(_ tensor: Tensor) -> Tensor {
          Tensor(shape: tensor.shape, [Float](repeating: .nan, count: tensor.count))
        }
        if var quantization = parameter.quantization {
          quantization.scales = poison(quantization.scales)
          parameter.quantization = quantization
        } else {
          parameter.tensor = poison(parameter.tensor)
        }
        try poisoned.setParameter(value, parameter)
        count += 1
      }
    }
    #expect(count == 4 * 4)
    let inputs = extents.inputs(seed: 85, items: 5)
    let wanted = try file(sound).embeddings(inputs, width: extents.projection)
    let found = try file(poisoned, integrity: .tables).embeddings(
      inputs, width: extents.projection)
    #expect(zip(found, wanted).allSatisfy { $0 == $1 })
    #expect(found.allSatisfy { $0.1.allSatisfy { $0.isFinite } })
  }

  /// What is pruned inside of experts stays out, and a mixture without gates is refused.
  @Test func prunedExpertsAreStoredAndGatesAskedFor() throws {
    var graph = try ExpertCase().graph()
    var random = SplitMix64(seed: 86)
    for layer in graph.expertLayers {
      for value in layer.parameters(ofExpert: 1) {
        guard var parameter = graph.parameter(value), parameter.tensor.shape.count == 2 else {
          continue
        }
        let mask = (0..<parameter.tensor.count).map { _ in UInt8(random.nextIndex(below: 2)) }
        parameter.mask = Tensor(shape: parameter.tensor.shape, mask)
        try graph.setParameter(value, parameter)
      }
    }
    let inputs = extents.inputs(seed: 87, items: 3)
    let expected = try Executor(graph).run(inputs)
    for (name, values) in try file(graph).embeddings(inputs, width: extents.projection) {
      let reference = try #require(expected[name]).elements(of: Float.self)
      #expect(largestDifference(values, reference) <= 2e-5, "\(name)")
    }
    let ungated = try graph.rewritten { node, rewriter throws(GraphError) in
      guard node.op is Operators.CombineExperts else { return try rewriter.copy(node) }
      let rows = try rewriter.image(of: node.inputs[0])
      guard let layer = graph.expertLayers.first(where: { $0.mixture == node.outputs[0] }) else {
        throw .unknownName(node.name)
      }
      let gates = try rewriter.result.add(
        "\(node.name).mask", SlotMask(), try rewriter.image(of: layer.assignment))
      rewriter.setImage(
        of: node.outputs[0],
        to: try rewriter.result.add(node.name, Operators.CombineExperts(), rows, gates))
    }
    let model = CLIPModel(graph: ungated, tokenizer: nil, imageTransform: [])
    do {
      _ = try RuntimeFile(model)
      Issue.record("accepted")
    } catch {
      #expect(error.description.contains("expected one expert_gates"))
    }
  }
}
