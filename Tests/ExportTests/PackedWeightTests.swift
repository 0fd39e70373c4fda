import Execution
import Export
import GraphIR
import ModelFormat
import Operators
import TensorCore
import TestSupport
import Testing

/// How weights and activations of a case are quantized.
struct PackedCase: CustomTestStringConvertible {
  var bitCount = 4
  var groupSize: Int?
  var grid = CodeGrid.symmetric
  /// Bits of activations; nil for floats.
  var activationBitCount: Int? = 8
  /// Bits of the token table; those of the weights otherwise.
  var tableBitCount: Int?
  /// Whether scales are numbers that float16 has.
  var hasShortScales = false
  /// Whether rows of activations have scales of their own.
  var scalesTokens = false
  /// Whether attention multiplies codes.
  var hasIntegerAttention = false

  var testDescription: String {
    "W\(bitCount)A\(activationBitCount ?? 32) group \(groupSize ?? 0) \(grid)"
      + " table \(tableBitCount ?? bitCount)\(scalesTokens ? " by tokens" : "")"
      + (hasIntegerAttention ? " attention" : "")
  }

  static let all = [
    PackedCase(groupSize: 64), PackedCase(groupSize: 64, hasShortScales: true),
    PackedCase(activationBitCount: nil), PackedCase(groupSize: 32, activationBitCount: nil),
    PackedCase(bitCount: 2), PackedCase(bitCount: 3, groupSize: 16), PackedCase(bitCount: 5),
    PackedCase(bitCount: 6, groupSize: 8), PackedCase(bitCount: 7, activationBitCount: nil),
    PackedCase(grid: .full), PackedCase(groupSize: 64, grid: .full),
    PackedCase(groupSize: 128, grid: .full, activationBitCount: nil),
    PackedCase(bitCount: 8, tableBitCount: 4), PackedCase(bitCount: 8, groupSize: 32),
    PackedCase(bitCount: 8, groupSize: 96, activationBitCount: nil),
    PackedCase(bitCount: 8, activationBitCount: 4),
    PackedCase(groupSize: 64, activationBitCount: 4),
    PackedCase(bitCount: 4, groupSize: 4096, activationBitCount: nil),
    PackedCase(groupSize: 64, scalesTokens: true),
    PackedCase(bitCount: 8, groupSize: 64, hasIntegerAttention: true),
    PackedCase(bitCount: 8, tableBitCount: 4, scalesTokens: true, hasIntegerAttention: true),
    PackedCase(groupSize: 64, activationBitCount: nil, hasIntegerAttention: true),
    PackedCase(bitCount: 8, tableBitCount: 3, scalesTokens: true),
    PackedCase(bitCount: 8, activationBitCount: 4, tableBitCount: 2, scalesTokens: true),
  ]

  /// Extents for which groups of 64 are less than a row.
  static var extents: RandomCLIP {
    var extents = RandomCLIP()
    (extents.imageWidth, extents.imageNeurons, extents.imageHeads) = (120, 200, 3)
    (extents.textWidth, extents.textNeurons, extents.textHeads) = (96, 144, 2)
    extents.patchSize = 8
    extents.imageSize = 24
    return extents
  }

  /// Codes of a parameter as its case has them.
  func codes(_ parameter: Parameter, bitCount: Int) -> Parameter {
    var quantization = WeightQuantization(
      bitCount: bitCount, grid: bitCount == 8 ? .symmetric : grid, groupSize: groupSize,
      scales: Tensor(scalar: 1))
    let elements = parameter.tensor.elements(of: Float.self)
    var codes = [Int8](repeating: 0, count: elements.count)
    var scales: [Float] = []
    quantization.forEachRun(of: parameter.tensor.shape) { run, _ in
      let peak = elements[run].max { abs($0) < abs($1) } ?? 0
      var scale = max(abs(peak) / Float(quantization.largestCode), 1e-6)
      // The longer side of a full grid is the negative one.
      if quantization.grid == .full { scale = -peak / Float(quantization.largestCode + 1) }
      if hasShortScales { scale = Float(Float16(scale)) }
      scales.append(scale)
      for index in run {
        let code = (elements[index] / scale).rounded(.toNearestOrEven)
        codes[index] = Int8(
          min(max(code, Float(quantization.smallestCode)), Float(quantization.largestCode)))
      }
    }
    quantization.scales = Tensor(
      shape: quantization.scaleShape(of: parameter.tensor.shape), scales)
    return Parameter(Tensor(shape: parameter.tensor.shape, codes), quantization: quantization)
  }

  /// Attention over codes of its operands.
  private func integerAttention(
    _ node: Node, _ op: Operators.Attention, _ rewriter: inout Graph.Rewriter
  ) throws(GraphError) {
    var inputs: [GraphIR.Value] = []
    for (index, input) in node.inputs.enumerated() {
      let codes = ActivationQuantization(
        scale: 0.06, zeroPoint: UInt8(120 + 4 * index), lowest: 0)
      inputs.append(
        try rewriter.result.add(
          "\(node.name).codes\(index)", FakeQuantize(parameters: codes),
          try rewriter.image(of: input)))
    }
    let attention = Operators.Attention(
      headWidth: op.headWidth, scale: op.scale, isCausal: op.isCausal,
      quantizesProbabilities: true)
    let outputs = try rewriter.result.addNode(node.name, attention, inputs)
    rewriter.setImage(of: node.outputs[0], to: outputs[0])
  }

  /// `graph` with codes as the case has them.
  func applied(to graph: Graph) throws -> Graph {
    var result = try graph.rewritten { node, rewriter throws(GraphError) in
      if hasIntegerAttention, let op = node.op as? Operators.Attention {
        return try integerAttention(node, op, &rewriter)
      }
      guard let bits = activationBitCount, node.op is Operators.Linear || node.op is GroupedLinear
      else {
        return try rewriter.copy(node)
      }
      let input = try rewriter.image(of: node.inputs[0])
      let name = "\(rewriter.result.name(of: input)).codes"
      let highest = (1 << bits) - 1
      let codes = ActivationQuantization(
        scale: 12.75 / Float(highest), zeroPoint: UInt8((highest + 1) / 2), lowest: 1,
        highest: UInt8(highest))
      let value: GraphIR.Value
      if let existing = rewriter.result.value(named: name) {
        value = existing
      } else {
        let op: any Op =
          scalesTokens ? FakeQuantizeTokens(bitCount: bits) : FakeQuantize(parameters: codes)
        value = try rewriter.result.addNode(name, op, [input])[0]
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
        let bits = node.op is Embedding ? tableBitCount ?? bitCount : bitCount
        try result.setParameter(node.inputs[index], codes(parameter, bitCount: bits))
      }
    }
    try result.verify()
    return result
  }
}

@Suite struct PackedWeightTests {
  /// The runtime gives what the graph simulates, and the file is as small as its codes are.
  @Test(arguments: PackedCase.all) func runtimeGivesTheSimulatedEmbeddings(
    _ variant: PackedCase
  ) throws {
    let extents = PackedCase.extents
    let graph = try variant.applied(to: try extents.graph(seed: 51))
    let inputs = extents.inputs(seed: 52, items: 5)
    let expected = try Executor(graph).run(inputs)
    let model = CLIPModel(graph: graph, tokenizer: nil, imageTransform: [])
    let file = try Mapped(try RuntimeFile(model).serialized())
    for (name, values) in try file.embeddings(inputs, width: extents.projection) {
      let reference = try #require(expected[name]).elements(of: Float.self)
      // Where activations are codes, some are rounded to the other side of an edge.
      let isFloat = variant.activationBitCount == nil && !variant.hasIntegerAttention
      let tolerance: Float = isFloat ? 2e-5 : 0.02
      #expect(largestDifference(values, reference) <= tolerance, "\(name)")
    }
    let tensors = file.reader.tensors
    for tensor in tensors where tensor.layout == .panels && tensor.storedType.isInteger {
      #expect(tensor.codeBitCount == variant.bitCount)
      let rows = (tensor.rows + 15) / 16 * 16
      #expect(tensor.byteCount == rows * ((tensor.columns + 3) / 4) * variant.bitCount / 2)
      let isGrouped = (variant.groupSize ?? .max) < tensor.columns
      #expect(tensor.groupSize == (isGrouped ? variant.groupSize : 0))
    }
    let table = try #require(tensors.first { $0.layout == .rowMajor && $0.storedType.isInteger })
    #expect(table.codeBitCount == variant.tableBitCount ?? variant.bitCount)
    #expect(tensors.contains { $0.storedType == .float16 } == variant.hasShortScales)
    #expect(file.reader.minorVersion == 2)
  }

  /// Weights of different codes over one input are products of their own.
  @Test func mixedWidthsAreNotPutTogether() throws {
    let extents = PackedCase.extents
    var graph = try PackedCase(groupSize: 64).applied(to: try extents.graph(seed: 61))
    let float = try extents.graph(seed: 61)
    let name = "image.layers.0.attention.key.weight"
    let value = try #require(graph.value(named: name))
    let parameter = try #require(float.parameter(named: name))
    try graph.setParameter(value, PackedCase(bitCount: 8).codes(parameter, bitCount: 8))
    let inputs = extents.inputs(seed: 62, items: 3)
    let expected = try Executor(graph).run(inputs)
    let model = CLIPModel(graph: graph, tokenizer: nil, imageTransform: [])
    let file = try Mapped(try RuntimeFile(model).serialized())
    let (_, images) = try file.embeddings(inputs, width: extents.projection)[0]
    let reference = try #require(expected["image_embeds"]).elements(of: Float.self)
    #expect(largestDifference(images, reference) <= 0.02)
  }

  @Test func groupsThatNoKernelHasAreRefused() throws {
    let graph = try PackedCase(groupSize: 6).applied(to: try PackedCase.extents.graph(seed: 1))
    let model = CLIPModel(graph: graph, tokenizer: nil, imageTransform: [])
    do {
      _ = try RuntimeFile(model)
      Issue.record("accepted")
    } catch {
      #expect(error.description.contains("expected groups of a multiple of 4 weights, found 6"))
    }
  }

  /// Floats that 16 bits have exactly are stored in 16 bits, and nothing changes.
  @Test(arguments: [true, false]) func shortFloatsAreStoredShort(_ isHalf: Bool) throws {
    let extents = PackedCase.extents
    var graph = try extents.graph(seed: 71)
    for value in graph.parameterValues where graph.name(of: value) != "logit_scale" {
      guard var parameter = graph.parameter(value) else { continue }
      parameter.tensor = Tensor(
        shape: parameter.tensor.shape,
        parameter.tensor.elements(of: Float.self).map {
          isHalf ? Float(Float16($0)) : Float(bitPattern: $0.bitPattern & 0xFFFF_0000)
        })
      try graph.setParameter(value, parameter)
    }
    let inputs = extents.inputs(seed: 72, items: 5)
    let expected = try Executor(graph).run(inputs)
    let model = CLIPModel(graph: graph, tokenizer: nil, imageTransform: [])
    let file = try Mapped(try RuntimeFile(model).serialized())
    // Numbers of bfloat16 that are not too small are numbers of float16 too.
    #expect(file.reader.tensors.allSatisfy { $0.storedType.isShortFloat })
    #expect(file.reader.tensors.contains { $0.storedType == .bfloat16 } == !isHalf)
    for (name, values) in try file.embeddings(inputs, width: extents.projection) {
      let reference = try #require(expected[name]).elements(of: Float.self)
      #expect(largestDifference(values, reference) <= 2e-5, "\(name)")
    }
  }
}
