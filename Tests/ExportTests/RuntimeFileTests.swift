import ClipRuntime
import Execution
import Export
import GraphIR
import ModelFormat
import Operators
import TensorCore
import TestSupport
import Testing

/// How the graph of a case stores weights and activations.
enum Precision: CaseIterable {
  case float
  case integerWeights
  case integer

  /// The largest difference of an embedding's element between simulation and runtime.
  var tolerance: Float { self == .integer ? 0.03 : 2e-5 }

  /// The same where tokens are compared, which codes near a rounding edge may decide otherwise.
  var shortenedTolerance: Float { self == .integer ? 0.08 : 1e-5 }
}

@Suite struct RuntimeFileTests {
  /// `graph` with codes for every linear weight and table, and for activations on request.
  func quantized(_ graph: Graph, activations: Bool) throws -> Graph {
    var result = try graph.rewritten { node, rewriter throws(GraphError) in
      guard activations, node.op is Operators.Linear else { return try rewriter.copy(node) }
      let input = try rewriter.image(of: node.inputs[0])
      let name = "\(rewriter.result.name(of: input)).codes"
      let codes = ActivationQuantization(scale: 0.05, zeroPoint: 128, lowest: 1)
      let value: GraphIR.Value
      if let existing = rewriter.result.value(named: name) {
        value = existing
      } else {
        value = try rewriter.result.add(name, FakeQuantize(parameters: codes), input)
      }
      var inputs = [value]
      for other in node.inputs.dropFirst() { inputs.append(try rewriter.image(of: other)) }
      let outputs = try rewriter.result.addNode(node.name, node.op, inputs)
      rewriter.setImage(of: node.outputs[0], to: outputs[0])
    }
    for node in result.nodes {
      guard let op = node.op as? any QuantizableOp else { continue }
      for index in op.weightInputs {
        guard let parameter = result.parameter(node.inputs[index]), parameter.quantization == nil
        else { continue }
        try result.setParameter(node.inputs[index], codes(parameter))
      }
    }
    try result.verify()
    return result
  }

  func codes(_ parameter: Parameter) -> Parameter {
    let elements = parameter.tensor.elements(of: Float.self)
    let width = parameter.tensor.shape[1]
    var scales: [Float] = []
    var codes: [Int8] = []
    for row in 0..<parameter.tensor.shape[0] {
      let slice = elements[(row * width)..<((row + 1) * width)]
      let scale = max(slice.reduce(0) { max($0, abs($1)) } / 127, 1e-12)
      scales.append(scale)
      codes += slice.map { Int8(($0 / scale).rounded(.toNearestOrEven)) }
    }
    return Parameter(
      Tensor(shape: parameter.tensor.shape, codes),
      quantization: WeightQuantization(
        bitCount: 8, scales: Tensor(shape: [scales.count], scales)))
  }

  func variant(_ graph: Graph, _ precision: Precision) throws -> Graph {
    precision == .float ? graph : try quantized(graph, activations: precision == .integer)
  }

  @Test(arguments: Precision.allCases, [true, false])
  func runtimeGivesTheSimulatedEmbeddings(_ precision: Precision, _ usesQuickGELU: Bool) throws {
    var extents = RandomCLIP()
    extents.usesQuickGELU = usesQuickGELU
    let graph = try variant(try extents.graph(seed: 21), precision)
    let inputs = extents.inputs(seed: 22, items: 5)
    let expected = try Executor(graph).run(inputs)
    let model = CLIPModel(graph: graph, tokenizer: nil, imageTransform: [])
    let bytes = try RuntimeFile(model).serialized()
    let actual = try Mapped(bytes).embeddings(inputs, width: extents.projection)
    for (name, values) in actual {
      let reference = try #require(expected[name]).elements(of: Float.self)
      #expect(largestDifference(values, reference) <= precision.tolerance, "\(name)")
    }
  }

  /// Tokens that merge and tokens that go, by hand: the graph's embeddings are the runtime's.
  @Test(arguments: Precision.allCases, [true, false])
  func runtimeShortensSequencesAsTheGraphDoes(_ precision: Precision, _ merges: Bool) throws {
    var extents = RandomCLIP()
    extents.imageSize = 20
    extents.imageLayers = 4
    let shortened = try shortened(try extents.graph(seed: 31), merges: merges)
    let graph = try variant(shortened, precision)
    let inputs = extents.inputs(seed: 32, items: 5)
    let expected = try Executor(graph, arithmetic: .definitions).run(inputs)
    let model = CLIPModel(graph: graph, tokenizer: nil, imageTransform: [])
    let file = try Mapped(try RuntimeFile(model).serialized())
    for (name, values) in try file.embeddings(inputs, width: extents.projection) {
      let reference = try #require(expected[name]).elements(of: Float.self)
      #expect(largestDifference(values, reference) <= precision.shortenedTolerance, "\(name)")
    }
    let program = try #require(file.reader.imageProgram)
    let code = merges ? OpCode.mergeTokens : .dropTokens
    #expect(program.instructions.count { $0.opCode == code } == 3)
    // Queries, keys and values are still one product.
    let products = program.instructions.count { $0.opCode == .linear }
    #expect(products == (precision == .integer ? 2 : 2) + 4 * 4 + 1)
  }

  /// `graph` with tokens merged or dropped behind the attention of every image layer but the last.
  private func shortened(_ graph: Graph, merges: Bool) throws -> Graph {
    var sizes: GraphIR.Value?
    let heads = 3
    return try graph.rewritten { node, rewriter throws(GraphError) in
      var inputs: [GraphIR.Value] = []
      for input in node.inputs { inputs.append(try rewriter.image(of: input)) }
      var op = node.op
      if let known = sizes, let attention = op as? Operators.Attention,
        node.name.hasPrefix("image")
      {
        inputs.append(known)
        op = ProportionalAttention(attention)
      }
      let made = try rewriter.result.addNode(node.name, op, inputs)
      for (old, new) in zip(node.outputs, made) { rewriter.setImage(of: old, to: new) }
      guard node.name.hasPrefix("image"), node.name.hasSuffix(".attended"),
        !node.name.contains("layers.3")
      else { return }
      let name = node.name.dropLast("attended".count)
      func value(_ part: String) throws(GraphError) -> GraphIR.Value {
        guard let value = rewriter.result.value(named: "\(name)attention.\(part)") else {
          throw .unknownName(part)
        }
        return value
      }
      let width = rewriter.result.tensorType(of: made[0]).extents[2].fixedCount ?? 0
      let tokens = rewriter.result.tensorType(of: made[0]).extents[1].fixedCount ?? 0
      if merges {
        let merged = try rewriter.result.addNode(
          "\(name)merged", TokenMerge(count: 4, headWidth: width / heads),
          [made[0], try value("key")] + (sizes.map { [$0] } ?? []))
        rewriter.setImage(of: node.outputs[0], to: merged[0])
        sizes = merged[1]
      } else {
        let isFirst = node.name.contains("layers.0")
        let grid = isFirst ? TokenGrid(leading: 1, columns: 5, spacing: 2) : TokenGrid(leading: 5)
        let kept = try rewriter.result.add(
          "\(name)kept",
          TokenDrop(count: tokens - 5, grid: grid, headWidth: width / heads, scale: 0.3), made[0],
          try value("query"), try value("key"))
        rewriter.setImage(of: node.outputs[0], to: kept)
      }
    }
  }

  /// Masked weights are stored as what is left of them, and the embeddings stay.
  @Test(arguments: Precision.allCases, [(1, 2), (1, 4), (3, 4)])
  func prunedWeightsAreStoredCompactly(_ precision: Precision, _ keeps: (Int, Int)) throws {
    var extents = RandomCLIP()
    extents.imageSize = 16
    var graph = try variant(try extents.graph(seed: 41), precision)
    var random = SplitMix64(seed: 43)
    for node in graph.nodes where node.op is Operators.Linear {
      guard var parameter = graph.parameter(node.inputs[1]) else { continue }
      let mask = (0..<parameter.tensor.count).map { _ in
        random.nextIndex(below: keeps.1) < keeps.0 ? UInt8(1) : 0
      }
      parameter.mask = Tensor(shape: parameter.tensor.shape, mask)
      try graph.setParameter(node.inputs[1], parameter)
    }
    let inputs = extents.inputs(seed: 42, items: 5)
    let expected = try Executor(graph).run(inputs)
    let model = CLIPModel(graph: graph, tokenizer: nil, imageTransform: [])
    let file = try Mapped(try RuntimeFile(model).serialized())
    let found = try file.embeddings(inputs, width: extents.projection)
    for (name, values) in found {
      let reference = try #require(expected[name]).elements(of: Float.self)
      #expect(largestDifference(values, reference) <= precision.tolerance, "\(name)")
    }
    let expanded = try Mapped(try RuntimeFile(model, expands: true).serialized())
    let same = try expanded.embeddings(inputs, width: extents.projection)
    #expect(zip(found, same).allSatisfy { $0 == $1 })
    #expect(expanded.reader.tensors.allSatisfy { !$0.isSparse || $0.layout == .sparse })
    let weights = file.reader.tensors.filter { $0.layout != .rowMajor }
    #expect(weights.contains { $0.isSparse })
    let isSkipping = precision == .float && keeps == (1, 4)
    #expect(weights.contains { $0.layout == .sparse } == isSkipping)
    for tensor in weights where tensor.isSparse {
      #expect(tensor.byteCount < tensor.panelByteCount ?? 0)
    }
  }

  @Test func sameModelGivesTheSameBytes() throws {
    let model = CLIPModel(
      graph: try RandomCLIP().graph(seed: 3), tokenizer: nil, imageTransform: [3])
    #expect(try RuntimeFile(model).serialized() == RuntimeFile(model).serialized())
  }

  @Test func onlyThePooledRowGoesThroughTheTail() throws {
    let graph = try RandomCLIP().graph(seed: 3)
    let model = CLIPModel(graph: graph, tokenizer: nil, imageTransform: [])
    let file = try Mapped(try RuntimeFile(model).serialized())
    let program = try #require(file.reader.imageProgram)
    guard
      case .attention(let last)? = program.instructions.last(where: {
        $0.opCode == .attention
      })
    else {
      Issue.record("no attention")
      return
    }
    #expect(program.buffers[last.output].rows == .perItem(1))
    #expect(program.buffers[last.key.buffer].rows == .perItem(5))
  }

  @Test func aTowerAloneIsSmaller() throws {
    let model = CLIPModel(
      graph: try RandomCLIP().graph(seed: 3), tokenizer: nil, imageTransform: [])
    let both = try RuntimeFile(model).serialized()
    let image = try RuntimeFile(model, towers: [.image]).serialized()
    #expect(image.count < both.count)
    let file = try Mapped(image)
    #expect(file.reader.textProgram == nil && file.reader.imageProgram != nil)
  }
}

/// A file's bytes where a mapping would put them, with the reader over them.
final class Mapped {
  private let bytes: UnsafeMutableRawBufferPointer
  let reader: ModelReader

  init(_ content: [UInt8], integrity: ModelReader.Integrity = .everything) throws {
    bytes = .allocate(byteCount: content.count, alignment: 64)
    bytes.copyBytes(from: content)
    reader = try ModelReader(UnsafeRawBufferPointer(bytes), integrity: integrity)
  }

  deinit { bytes.deallocate() }

  func embeddings(
    _ inputs: [String: Tensor], width: Int, batch: Int = 2, threads: Int = 2
  ) throws -> [(String, [Float])] {
    let pixels = try #require(inputs["pixel_values"])
    let ids = try #require(inputs["input_ids"])
    var interpreter = try Interpreter(
      ClipRuntime.Model(reader),
      limits: Limits(imageCount: batch, textCount: batch + 1, tokenCount: ids.shape[1]),
      threadCount: threads)
    var images = [Float](repeating: 0, count: pixels.shape[0] * width)
    var texts = [Float](repeating: 0, count: ids.shape[0] * width)
    var imageSpan = images.mutableSpan
    try interpreter.encodeImages(
      pixels.elements(of: Float.self).span, count: pixels.shape[0], into: &imageSpan)
    var textSpan = texts.mutableSpan
    try interpreter.encodeTexts(
      ids.elements(of: Int32.self).span, count: ids.shape[0], tokenCount: ids.shape[1],
      into: &textSpan)
    return [("image_embeds", images), ("text_embeds", texts)]
  }
}
