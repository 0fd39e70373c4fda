import ModelFormat

/// Builds a tiny model step by step.
struct TinyBuilder {
  let model: TinyModel
  var parts: TinyParts
  var numbers: Numbers
  var program = ProgramBuilder()
  /// Weights stored so far.
  private var turn = 0
  /// Whether layers shorten the sequence.
  private var reduces = false
  /// How many tokens each stands for, behind a merging.
  private var sizes: Int?
  /// Queries and keys of the layer at hand.
  private var heads: (query: HeadColumns, key: HeadColumns)?

  init(_ model: TinyModel) {
    self.model = model
    parts = TinyParts(info: model.info)
    numbers = Numbers(seed: model.seed)
  }

  /// Parameters of codes around zero.
  var codes: BufferQuantization? {
    guard model.precision == .integer, !model.scalesTokens else { return nil }
    guard model.activationBitCount == 8 else { return narrowCodes(range: 4, zeroShare: 0.5) }
    return BufferQuantization(scale: 0.03, zeroPoint: 128, lowest: 1)
  }

  /// Parameters of codes of one-sided values.
  var neuronCodes: BufferQuantization? {
    guard model.precision == .integer, !model.scalesTokens else { return nil }
    guard model.activationBitCount == 8 else { return narrowCodes(range: 2, zeroShare: 0.1) }
    return BufferQuantization(scale: 0.02, zeroPoint: 9)
  }

  /// Parameters of codes of few bits that cover a range.
  private func narrowCodes(range: Float, zeroShare: Float) -> BufferQuantization {
    let highest = Float((1 << model.activationBitCount) - 1)
    return BufferQuantization(
      scale: range / highest, zeroPoint: UInt8(zeroShare * highest), highest: UInt8(highest))
  }

  mutating func tensor(_ tensor: StoredTensor, _ name: String) -> Int {
    parts.tensors.append(tensor)
    parts.tensorNames.append(name)
    return parts.tensors.count - 1
  }

  mutating func vector(_ count: Int, _ name: String, mean: Float = 0) -> Int {
    tensor(floats(numbers.floats(count, scale: 0.2, mean: mean), columns: count), name)
  }

  mutating func matrix(_ rows: Int, _ columns: Int, _ name: String) -> Int {
    let elements = numbers.floats(rows * columns, scale: 0.5)
    return tensor(floats(elements, rows: rows, columns: columns), name)
  }

  /// Floats as they are, or cut such that float16 and bfloat16 by turns have them exactly.
  private mutating func floats(
    _ elements: [Float], rows: Int = 1, columns: Int, _ layout: TensorLayout = .rowMajor
  ) -> StoredTensor {
    guard model.hasShortFloats else {
      return layout == .panels
        ? .panels(elements, rows: rows, columns: columns)
        : .float32(elements, rows: rows, columns: columns)
    }
    turn += 1
    let isHalf = turn % 2 == 0
    var cut = elements.map {
      isHalf ? Float(Float16($0)) : Float(bitPattern: $0.bitPattern & 0xFFFF_0000)
    }
    // Too small for float16.
    if !isHalf { cut[0] = 0x1p-30 }
    return .floats(cut, rows: rows, columns: columns, layout)
  }

  /// Codes of the model's bits; those of 8 bits are symmetric.
  private mutating func codes(_ count: Int) -> [Int8] {
    let half = 1 << (model.codeBitCount - 1)
    let least = model.codeBitCount == 8 ? 1 - half : -half
    return (0..<count).map { _ in Int8(numbers.integer(below: half - least) + least) }
  }

  /// The size of groups in rows of `columns`.
  private func groupSize(_ columns: Int) -> Int {
    model.groupSize < columns ? model.groupSize : 0
  }

  /// The largest code of a weight.
  private var largestCode: Float { Float((1 << (model.codeBitCount - 1)) - 1) }

  /// Two of every five weights of a row, or all of them.
  private func pruned<Element: WeightElement>(_ weights: [Element], columns: Int) -> [Element] {
    guard model.isSparse else { return weights }
    return weights.indices.map { index in
      let (row, column) = (index / columns, index % columns)
      return (column % 5 + row) % 5 < 2 ? weights[index] : .zero
    }
  }

  /// Weights in the layout whose turn it is.
  private mutating func stored<Element: WeightElement>(
    _ weights: [Element], rows: Int, columns: Int
  ) -> StoredTensor {
    guard model.isSparse, !model.storesZeros else {
      if let floats = weights as? [Float] {
        return self.floats(floats, rows: rows, columns: columns, .panels)
      }
      return .codes(
        weights as? [Int8] ?? [], rows: rows, columns: columns, bitCount: model.codeBitCount,
        groupSize: groupSize(columns), .panels)
    }
    turn += 1
    if turn % 3 == 1 { return .bits(weights, rows: rows, columns: columns, .bitmap) }
    guard turn % 3 == 2 || Element.storedType == .int8 else {
      return .bits(weights, rows: rows, columns: columns, .sparse)
    }
    let pattern = SparsityPattern(keptCount: 2, groupCount: 5)
    return .choices(weights, rows: rows, columns: columns, pattern)
  }

  /// A product of `input` with random weights into a new value.
  mutating func linear(
    _ name: String, _ input: Int, from inputs: Int, quantization: BufferQuantization?,
    to count: Int, _ rows: RowRule, codes: BufferQuantization? = nil, residual: Int? = nil,
    activation: Activation = .none, hasBias: Bool = true
  ) -> Int {
    var linear = Linear(input: input, output: 0, weight: 0, residual: residual)
    var quantization = quantization
    if let rows = tokenCodes(name, input, from: inputs, rows) {
      linear.input = rows.codes
      linear.rowScale = rows.scales
      quantization = rows.quantization
    }
    linear.activation = activation
    let operands = operands(
      name, from: inputs, quantization: quantization, to: count, hasBias: hasBias)
    linear.weight = operands.weight
    linear.scale = operands.scale
    linear.correction = operands.correction
    linear.bias = operands.bias
    linear.output = program.buffer(rows, columns: count, quantization: codes)
    program.append(.linear(linear), name: name)
    return linear.output
  }

  /// The rows of `input` as codes of scales of their own, where the model has such.
  mutating func tokenCodes(
    _ name: String, _ input: Int, from inputs: Int, _ rows: RowRule
  ) -> (codes: Int, scales: Int, quantization: BufferQuantization)? {
    guard model.scalesTokens, model.precision == .integer else { return nil }
    let zeroPoint = UInt8(1 << (model.activationBitCount - 1))
    let quantization = BufferQuantization(
      scale: 1, zeroPoint: zeroPoint, lowest: 1, highest: zeroPoint - 1 + zeroPoint)
    let codes = program.buffer(rows, columns: inputs, quantization: quantization)
    let scales = program.buffer(rows, columns: 1)
    program.append(
      .quantizeTokens(input: input, output: codes, scales: scales), name: name + ".quantize")
    return (codes, scales, quantization)
  }

  /// Random weights and what goes with them.
  mutating func operands(
    _ name: String, from inputs: Int, quantization: BufferQuantization?, to count: Int,
    hasBias: Bool = true
  ) -> ExpertLinear.Expert {
    let scale = 1.7 / Float(inputs).squareRoot()
    var operands = ExpertLinear.Expert(weight: 0)
    if model.precision == .float {
      let weights = pruned(numbers.floats(inputs * count, scale: scale), columns: inputs)
      operands.weight = tensor(stored(weights, rows: count, columns: inputs), name + ".weight")
    } else if model.precision == .bfloat16 {
      let weights = numbers.floats(inputs * count, scale: scale).map {
        Float(bitPattern: $0.bitPattern & 0xFFFF_0000)
      }
      operands.weight = tensor(.pairs(weights, rows: count, columns: inputs), name + ".weight")
    } else {
      let weights = pruned(self.codes(inputs * count), columns: inputs)
      operands.weight = tensor(stored(weights, rows: count, columns: inputs), name + ".weight")
      let group = groupSize(inputs)
      let groups = group == 0 ? 1 : (inputs + group - 1) / group
      var scales = numbers.floats(
        count * groups, scale: scale / (2 * largestCode), mean: scale / largestCode)
      if group == 0, let quantization {
        for index in scales.indices { scales[index] *= quantization.scale }
        operands.correction = tensor(
          .correction(
            weights, rows: count, columns: inputs, zeroPoint: quantization.zeroPoint),
          name + ".correction")
      }
      operands.scale = tensor(
        group == 0
          ? floats(scales, columns: count) : floats(scales, rows: count, columns: groups, .panels),
        name + ".scale")
    }
    if hasBias { operands.bias = vector(count, name + ".bias") }
    return operands
  }

  mutating func norm(
    _ name: String, _ input: Int, _ rows: RowRule, codes: BufferQuantization? = nil
  ) -> Int {
    let weight = vector(model.width, name + ".weight", mean: 1)
    let bias = vector(model.width, name + ".bias")
    let output = program.buffer(rows, columns: model.width, quantization: codes)
    program.append(
      .layerNorm(
        LayerNorm(input: input, output: output, weight: weight, bias: bias, epsilon: 1e-5)),
      name: name)
    return output
  }

  mutating func pool(_ input: Int, codes: BufferQuantization? = nil) -> Int {
    let output = program.buffer(.perItem(1), columns: model.width, quantization: codes)
    program.append(.pool(input: input, output: output), name: "pool")
    return output
  }

  // MARK: Towers

  mutating func image() {
    program = ProgramBuilder()
    let side = model.imageExtent / model.patchSize
    let patchCount = side * side
    let columns = 3 * model.patchSize * model.patchSize
    let patches = program.buffer(.perItem(patchCount), columns: columns, quantization: codes)
    program.append(
      .patchUnfold(PatchUnfold(output: patches, patchSize: model.patchSize)), name: "patches")
    let embedded = linear(
      "embed", patches, from: columns, quantization: codes, to: model.width,
      .perItem(patchCount), hasBias: false)
    let rows = RowRule.perItem(patchCount + 1)
    let tokens = program.buffer(rows, columns: model.width)
    let classRow = vector(model.width, "class")
    let position = matrix(patchCount + 1, model.width, "position")
    program.append(
      .assembleTokens(
        AssembleTokens(input: embedded, output: tokens, classRow: classRow, position: position)),
      name: "assemble")
    let first = norm("pre_norm", tokens, rows)
    reduces = true
    layers(first, rows, isCausal: false)
    reduces = false
    parts.image = program.build()
    parts.imageNames = program.names
  }

  mutating func text() {
    program = ProgramBuilder(poolingRule: model.poolingRule, endToken: model.endToken)
    let tokens = program.buffer(.perToken, columns: model.width)
    var embedding = TokenEmbedding(output: tokens, table: 0, position: 0)
    let count = model.vocabularyCount
    if model.precision == .float {
      embedding.table = matrix(count, model.width, "table")
    } else {
      let group = groupSize(model.width)
      let groups = group == 0 ? 1 : (model.width + group - 1) / group
      embedding.table = tensor(
        .codes(
          codes(count * model.width), rows: count, columns: model.width,
          bitCount: model.codeBitCount, groupSize: group, .rowMajor), "table")
      embedding.scale = tensor(
        floats(
          numbers.floats(
            count * groups, scale: 0.003 * (127 / largestCode), mean: 0.01 * (127 / largestCode)),
          rows: count, columns: groups), "table.scale")
    }
    embedding.position = matrix(model.contextLength + 1, model.width, "position")
    program.append(.tokenEmbedding(embedding), name: "embed")
    layers(tokens, .perToken, isCausal: model.isCausal)
    parts.text = program.build()
    parts.textNames = program.names
  }

  /// The layers and what follows them.
  mutating func layers(_ first: Int, _ rows: RowRule, isCausal: Bool) {
    var state = first
    var rows = rows
    for index in 0..<model.layerCount {
      let normed = norm("layer\(index).norm1", state, rows, codes: codes)
      let isTail = model.hasPooledTail && index == model.layerCount - 1
      let attended = attention(
        index, normed, rows, isCausal: isCausal, isTail: isTail)
      if isTail {
        state = pool(state)
        rows = .perItem(1)
      }
      let attentionWidth = model.headCount * model.headWidth
      if index == 0 {
        let output = linear(
          "layer\(index).output", attended, from: attentionWidth, quantization: codes,
          to: model.width, rows)
        let sum = program.buffer(rows, columns: model.width)
        program.append(.add(left: state, right: output, output: sum), name: "add")
        state = sum
      } else {
        state = linear(
          "layer\(index).output", attended, from: attentionWidth, quantization: codes,
          to: model.width, rows, residual: state)
      }
      if reduces, index < model.layerCount - 1 { state = reduced(index, state, &rows) }
      let second = norm("layer\(index).norm2", state, rows, codes: codes)
      if model.expertCount > 0 {
        let isPooled = model.poolsExperts && !model.hasPooledTail && index == model.layerCount - 1
        state = experts("layer\(index)", second, state, &rows, isPooled: isPooled)
        continue
      }
      let neurons = linear(
        "layer\(index).fc1", second, from: model.width, quantization: codes,
        to: model.neuronCount, rows, codes: neuronCodes, activation: model.activation)
      state = linear(
        "layer\(index).fc2", neurons, from: model.neuronCount, quantization: neuronCodes,
        to: model.width, rows, residual: state)
    }
    if rows != .perItem(1) { state = pool(state) }
    state = norm("final_norm", state, .perItem(1))
    if let codes {
      let quantized = program.buffer(.perItem(1), columns: model.width, quantization: codes)
      program.append(.quantize(input: state, output: quantized), name: "quantize")
      state = quantized
    }
    let embedding = linear(
      "projection", state, from: model.width, quantization: codes, to: model.embeddingWidth,
      .perItem(1), hasBias: false)
    let result = program.buffer(.perItem(1), columns: model.embeddingWidth)
    program.append(.l2Normalize(input: embedding, output: result), name: "normalize")
  }

  mutating func attention(
    _ index: Int, _ normed: Int, _ rows: RowRule, isCausal: Bool, isTail: Bool
  ) -> Int {
    let width = model.headCount * model.headWidth
    let isInteger = model.hasIntegerAttention && model.precision == .integer
    let headCodes = isInteger ? BufferQuantization(scale: 0.05, zeroPoint: 117) : nil
    let query: HeadColumns
    let key: HeadColumns
    let value: HeadColumns
    if isTail {
      let pooled = pool(normed, codes: codes)
      query = HeadColumns(
        buffer: linear(
          "layer\(index).query", pooled, from: model.width, quantization: codes, to: width,
          .perItem(1), codes: headCodes))
      let other = linear(
        "layer\(index).key+value", normed, from: model.width, quantization: codes,
        to: 2 * width, rows, codes: headCodes)
      key = HeadColumns(buffer: other)
      value = HeadColumns(buffer: other, column: width)
    } else {
      let all = linear(
        "layer\(index).query+key+value", normed, from: model.width, quantization: codes,
        to: 3 * width, rows, codes: headCodes)
      query = HeadColumns(buffer: all)
      key = HeadColumns(buffer: all, column: width)
      value = HeadColumns(buffer: all, column: 2 * width)
    }
    heads = (query, key)
    let output = program.buffer(
      isTail ? .perItem(1) : rows, columns: width, quantization: codes)
    program.append(
      .attention(
        Attention(
          query: query, key: key, value: value, output: output, headCount: model.headCount,
          headWidth: model.headWidth, scoreScale: 1 / Float(model.headWidth).squareRoot(),
          isCausal: isCausal, sizes: reduces ? sizes : nil,
          isInteger: isInteger)),
      name: "layer\(index).attention")
    return output
  }

  /// What is left of the tokens of `state` behind a layer's attention.
  mutating func reduced(_ index: Int, _ state: Int, _ rows: inout RowRule) -> Int {
    guard case .perItem(let tokens) = rows, let heads else { return state }
    let isDropping = model.dropsTokens && index == 0
    let kept = isDropping ? (tokens + 3) / 2 : tokens - min(model.mergedCount, (tokens - 1) / 2)
    guard kept < tokens else { return state }
    rows = .perItem(kept)
    let output = program.buffer(rows, columns: model.width)
    if isDropping {
      program.append(
        .dropTokens(
          DropTokens(
            input: state, query: heads.query, key: heads.key, output: output,
            headCount: model.headCount, headWidth: model.headWidth, scoreScale: 0.7, leading: 1,
            columns: model.imageExtent / model.patchSize, spacing: 2)),
        name: "layer\(index).drop")
      return output
    }
    let outputSizes = program.buffer(.perItem(1), columns: kept)
    program.append(
      .mergeTokens(
        MergeTokens(
          input: state, key: heads.key, sizes: sizes, output: output, outputSizes: outputSizes,
          headCount: model.headCount, headWidth: model.headWidth)),
      name: "layer\(index).merge")
    sizes = outputSizes
    return output
  }
}
