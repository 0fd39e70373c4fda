/// How many rows a buffer has.
public enum RowRule: Equatable, Sendable {
  /// So many rows for each image or text.
  case perItem(Int)
  /// A row for each token of each text.
  case perToken
  /// So many rows, at least two, for each token of each text.
  case perSlot(Int)

  /// The minor version of the format that has the rule first.
  var minorVersion: UInt16 {
    if case .perSlot = self { return 3 }
    return 0
  }
}

/// How floats become uint8 codes: `clamp(rint(x * inverseScale) + zeroPoint, lowest, highest)`.
public struct BufferQuantization: Equatable, Sendable {
  /// The step between codes, in units of the floats; finite and positive.
  public var scale: Float
  /// `1 / scale` rounded to float32.
  public var inverseScale: Float
  /// The code of 0.
  public var zeroPoint: UInt8
  /// The least code: 0, or 1 for a symmetric signed tensor with zero point 128.
  public var lowest: UInt8
  /// The greatest code: `2^bits - 1`, so 255 at 8 bits.
  public var highest: UInt8

  /// Derives the inverse.
  public init(scale: Float, zeroPoint: UInt8, lowest: UInt8 = 0, highest: UInt8 = 255) {
    self.init(
      scale: scale, inverseScale: 1 / scale, zeroPoint: zeroPoint, lowest: lowest,
      highest: highest)
  }

  /// Takes what a file says.
  init(scale: Float, inverseScale: Float, zeroPoint: UInt8, lowest: UInt8, highest: UInt8) {
    self.scale = scale
    self.inverseScale = inverseScale
    self.zeroPoint = zeroPoint
    self.lowest = lowest
    self.highest = highest
  }

  /// Whether codes of magnitudes up to one limit stand for whole numbers.
  var isSymmetricUnit: Bool {
    scale == 1 && Int(lowest) + Int(highest) == 2 * Int(zeroPoint)
  }

  /// Whether scale and inverse are finite, positive and belong together, and there are codes.
  var isValid: Bool {
    scale.isFinite && scale > 0 && inverseScale.isFinite && inverseScale > 0
      && inverseScale == 1 / scale && lowest <= 1 && lowest < highest
  }
}

/// A `[rows, columns]` value of a program: float32, uint8 with quantization parameters, or
/// indices.
public struct Buffer: Equatable, Sendable {
  /// How many rows it has.
  public var rows: RowRule
  /// How many columns.
  public var columns: Int
  /// The parameters of uint8 codes; nil for others.
  public var quantization: BufferQuantization?
  /// Whether it has 32-bit indices, which nothing but ``RouteTokens`` writes.
  public var isIndices: Bool
  /// Where the memory plan puts it.
  public var slot: Int

  /// Describes a buffer; ``ProgramBuilder`` fills in the slot.
  public init(
    rows: RowRule, columns: Int, quantization: BufferQuantization? = nil, isIndices: Bool = false,
    slot: Int = 0
  ) {
    self.rows = rows
    self.columns = columns
    self.quantization = quantization
    self.isIndices = isIndices
    self.slot = slot
  }

  /// Bytes from one row to the next: a multiple of 64, but not of 2048.
  ///
  /// Products read a dozen rows side by side, which at a greater power of two apart would drive each
  /// other out of the few places that the nearest cache has for them.
  public var rowByteCount: Int {
    let size = aligned(quantization == nil ? columns * 4 : columns)
    return size % 2048 == 0 ? size + 64 : size
  }

  /// Whether it has float32 numbers.
  public var isFloat: Bool { quantization == nil && !isIndices }

  /// The minor version of the format that has its kind of elements and rows first.
  var minorVersion: UInt16 {
    max(rows.minorVersion, isIndices ? 3 : (quantization?.highest ?? 255) == 255 ? 0 : 2)
  }

  /// Whether both have the same rows, columns, type and quantization.
  public func hasSameType(as other: Buffer) -> Bool {
    rows == other.rows && columns == other.columns && quantization == other.quantization
      && isIndices == other.isIndices
  }
}

/// One step of a program; numbers are indices of buffers and tensors.
public enum Instruction: Equatable, Sendable {
  /// See ``PatchUnfold``.
  case patchUnfold(PatchUnfold)
  /// See ``Linear``.
  case linear(Linear)
  /// See ``LayerNorm``.
  case layerNorm(LayerNorm)
  /// See ``Attention``.
  case attention(Attention)
  /// See ``TokenEmbedding``.
  case tokenEmbedding(TokenEmbedding)
  /// See ``AssembleTokens``.
  case assembleTokens(AssembleTokens)
  /// The row at each item's pooled position, of any type.
  case pool(input: Int, output: Int)
  /// Each float32 row divided by its Euclidean norm.
  case l2Normalize(input: Int, output: Int)
  /// float32 rows as the codes of the output's quantization.
  case quantize(input: Int, output: Int)
  /// The sum of two float32 buffers.
  case add(left: Int, right: Int, output: Int)
  /// See ``MergeTokens``.
  case mergeTokens(MergeTokens)
  /// See ``DropTokens``.
  case dropTokens(DropTokens)

  /// float32 rows as symmetric codes of the output's quantization, whose scale is 1, each by a scale of
  /// its own, which becomes a row of `scales`.
  case quantizeTokens(input: Int, output: Int, scales: Int)
  /// See ``RouteTokens``.
  case routeTokens(RouteTokens)
  /// See ``ExpertLinear``.
  case expertLinear(ExpertLinear)
  /// See ``CombineExperts``.
  case combineExperts(CombineExperts)

  /// The wire code.
  public var opCode: OpCode {
    switch self {
    case .patchUnfold: .patchUnfold
    case .linear(let op): op.rowScale == nil ? .linear : .linearTokens
    case .layerNorm: .layerNorm
    case .attention(let op):
      op.isInteger ? .integerAttention : op.sizes == nil ? .attention : .proportionalAttention
    case .tokenEmbedding: .tokenEmbedding
    case .assembleTokens: .assembleTokens
    case .pool: .pool
    case .l2Normalize: .l2Normalize
    case .quantize: .quantize
    case .add: .add
    case .mergeTokens: .mergeTokens
    case .dropTokens: .dropTokens
    case .quantizeTokens: .quantizeTokens
    case .routeTokens: .routeTokens
    case .expertLinear: .expertLinear
    case .combineExperts: .combineExperts
    }
  }
}

/// Patches of the input pixels as rows, in order of channel, kernel row, kernel column.
public struct PatchUnfold: Equatable, Sendable {
  /// `[patches, channels * patchSize * patchSize]`, float32 or uint8.
  public var output: Int
  /// Side of a patch and step between patches, in pixels.
  public var patchSize: Int

  /// Gathers the operands.
  public init(output: Int, patchSize: Int) {
    self.output = output
    self.patchSize = patchSize
  }
}

/// `output = residual + activation(input * weightᵀ + bias)`.
///
/// float32 input takes float32 weights, or int8 weights with `scale`; uint8 input takes int8
/// weights with `scale` and `correction`.
public struct Linear: Equatable, Sendable {
  /// `[rows, K]`.
  public var input: Int
  /// `[rows, N]`, float32 or uint8.
  public var output: Int
  /// `[N, K]` in panels.
  public var weight: Int
  /// `[1, N]` float32: weight scale, times the input's scale where that is uint8.
  public var scale: Int?
  /// `[1, N]` int32: the input's zero point times the sum of the channel's codes.
  public var correction: Int?
  /// `[1, N]` float32.
  public var bias: Int?
  /// `[rows, N]` float32 buffer.
  public var residual: Int?
  /// Applied before the residual is added.
  public var activation: Activation
  /// `[rows, 1]` float32 buffer: what else the rows of a uint8 input are multiplied by.
  public var rowScale: Int?

  /// Gathers the operands.
  public init(
    input: Int, output: Int, weight: Int, scale: Int? = nil, correction: Int? = nil,
    bias: Int? = nil, residual: Int? = nil, activation: Activation = .none, rowScale: Int? = nil
  ) {
    self.input = input
    self.output = output
    self.weight = weight
    self.scale = scale
    self.correction = correction
    self.bias = bias
    self.residual = residual
    self.activation = activation
    self.rowScale = rowScale
  }

  /// What the input is multiplied by, as one expert has it.
  public var operands: ExpertLinear.Expert {
    ExpertLinear.Expert(weight: weight, scale: scale, correction: correction, bias: bias)
  }
}

/// Normalization of float32 rows, then scale and shift.
public struct LayerNorm: Equatable, Sendable {
  /// `[rows, columns]` float32.
  public var input: Int
  /// `[rows, columns]`, float32 or uint8.
  public var output: Int
  /// `[1, columns]` float32.
  public var weight: Int
  /// `[1, columns]` float32.
  public var bias: Int
  /// Added to the variance; finite and positive.
  public var epsilon: Float

  /// Gathers the operands.
  public init(input: Int, output: Int, weight: Int, bias: Int, epsilon: Float) {
    self.input = input
    self.output = output
    self.weight = weight
    self.bias = bias
    self.epsilon = epsilon
  }
}

/// Columns of a buffer, beginning with `column`, that hold all heads side by side.
public struct HeadColumns: Equatable, Sendable {
  /// The float32 buffer.
  public var buffer: Int
  /// The first column.
  public var column: Int

  /// Gathers the operands.
  public init(buffer: Int, column: Int = 0) {
    self.buffer = buffer
    self.column = column
  }
}

/// `softmax(scoreScale * Q Kᵀ) V` for each head of each item; a key's exponential counts as often as
/// its size says.
///
/// Queries have the rows of the keys, or one row an item: then that row is the pooled position.
public struct Attention: Equatable, Sendable {
  /// Queries.
  public var query: HeadColumns
  /// Keys.
  public var key: HeadColumns
  /// Values, with the rows of the keys.
  public var value: HeadColumns
  /// `[query rows, headCount * headWidth]`, float32 or uint8.
  public var output: Int
  /// Heads.
  public var headCount: Int
  /// Columns of a head.
  public var headWidth: Int
  /// Multiplies the scores; finite.
  public var scoreScale: Float
  /// Whether a position sees itself and earlier ones only.
  public var isCausal: Bool
  /// `[1, keys]` float32, how many tokens each key stands for; one each without it.
  public var sizes: Int?
  /// Whether queries, keys and values are codes and both products are computed in integers; there
  /// are no sizes then.
  public var isInteger: Bool

  /// Gathers the operands.
  public init(
    query: HeadColumns, key: HeadColumns, value: HeadColumns, output: Int, headCount: Int,
    headWidth: Int, scoreScale: Float, isCausal: Bool, sizes: Int? = nil,
    isInteger: Bool = false
  ) {
    self.query = query
    self.key = key
    self.value = value
    self.output = output
    self.headCount = headCount
    self.headWidth = headWidth
    self.scoreScale = scoreScale
    self.isCausal = isCausal
    self.sizes = sizes
    self.isInteger = isInteger
  }
}

/// `output[token] = table[id] * scale[id] + position[position of the token]`.
public struct TokenEmbedding: Equatable, Sendable {
  /// `[tokens, columns]` float32.
  public var output: Int
  /// `[vocabulary, columns]` row-major, float32 or int8.
  public var table: Int
  /// `[vocabulary, 1]` float32 with an int8 table.
  public var scale: Int?
  /// `[context length or more, columns]` row-major float32.
  public var position: Int

  /// Gathers the operands.
  public init(output: Int, table: Int, scale: Int? = nil, position: Int) {
    self.output = output
    self.table = table
    self.scale = scale
    self.position = position
  }
}

/// `output[0] = classRow + position[0]`, `output[1 + i] = input[i] + position[1 + i]`.
public struct AssembleTokens: Equatable, Sendable {
  /// `[patches, columns]` float32.
  public var input: Int
  /// `[patches + 1, columns]` float32.
  public var output: Int
  /// `[1, columns]` float32.
  public var classRow: Int
  /// `[patches + 1, columns]` row-major float32.
  public var position: Int

  /// Gathers the operands.
  public init(input: Int, output: Int, classRow: Int, position: Int) {
    self.input = input
    self.output = output
    self.classRow = classRow
    self.position = position
  }
}

/// What a tower computes: buffers, their places, and instructions in order of execution.
///
/// The last instruction writes the embeddings, one row an item.
public struct Program: Equatable, Sendable {
  /// All values, each written by one instruction.
  public var buffers: [Buffer]
  /// Places of the memory plan; buffers that are never live together share one.
  public var slotCount: Int
  /// The steps.
  public var instructions: [Instruction]
  /// How the pooled position is found.
  public var poolingRule: PoolingRule
  /// The token that ``PoolingRule/endToken`` looks for, otherwise 0.
  public var endToken: Int

  /// Gathers the parts; ``ProgramBuilder`` is the easier way.
  public init(
    buffers: [Buffer], slotCount: Int, instructions: [Instruction], poolingRule: PoolingRule,
    endToken: Int
  ) {
    self.buffers = buffers
    self.slotCount = slotCount
    self.instructions = instructions
    self.poolingRule = poolingRule
    self.endToken = endToken
  }

  /// Whether no position ever sees a later one, so that what follows the pooled position can be
  /// left out.
  public var isCausal: Bool {
    for instruction in instructions {
      if case .attention(let attention) = instruction, !attention.isCausal { return false }
      if case .routeTokens(let route) = instruction, route.topK == 0 { return false }
    }
    return true
  }

  /// Whether the tokens that several texts begin with can be computed once for all of them: then no
  /// token depends on later ones, nor on which others are of its text.
  public var sharesPrefix: Bool {
    for instruction in instructions {
      if case .routeTokens = instruction { return false }
    }
    return isCausal
  }
}
