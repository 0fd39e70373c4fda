import CKernels
import ModelFormat

/// How much an interpreter can do at a time, which is what its memory is for.
public struct Limits: Equatable, Sendable {
  /// Images run together, 0 to leave out the image tower.
  public var imageCount: Int
  /// Texts run together, 0 to leave out the text tower.
  public var textCount: Int
  /// Tokens of the longest text; more than the context length counts as that.
  public var tokenCount: Int

  /// Gathers the limits.
  public init(imageCount: Int, textCount: Int, tokenCount: Int) {
    self.imageCount = imageCount
    self.textCount = textCount
    self.tokenCount = tokenCount
  }
}

/// The file's memory plan with batch and tokens bound: offsets into one arena, in bytes.
///
/// Both towers share the arena, since they never run at the same time.
struct ArenaPlan {
  /// Where each slot of the image program starts.
  private(set) var imageSlots: [Int] = []
  /// Where each slot of the text program starts.
  private(set) var textSlots: [Int] = []
  /// Where the first row of each item, and of the end, is kept: one `Int` more than items.
  private(set) var firstRows = 0
  /// Where the pooled position of each item is kept.
  private(set) var pooledPositions = 0
  /// Where the plans start of which tokens of each item stay.
  private(set) var tokenPlans = 0
  /// Bytes from one item's plan to the next.
  private(set) var tokenPlanByteCount = 0
  /// Where each tensor's prepared form starts; nil where it is used as it lies in the file.
  private(set) var preparedTensors: [Int?] = []
  /// Where the transposed activations of a sparse product start.
  private(set) var transposed = 0
  /// Where the rows of tokens start in the order of their experts.
  private(set) var gathered = 0
  /// Where the threads' scratch starts.
  private(set) var scratch = 0
  /// Bytes from one thread's scratch to the next.
  private(set) var scratchByteCount = 0
  /// Bytes in all.
  private(set) var byteCount = 0

  /// Binds the plan.
  init(_ reader: ModelReader, _ limits: Limits, threadCount: Int) throws(RuntimeError) {
    for limit in [limits.imageCount, limits.textCount, limits.tokenCount] {
      guard limit >= 0, limit <= Limit.rowCount else { throw .limit(found: limit) }
    }
    let items = max(limits.imageCount, limits.textCount)
    firstRows = try reserve(8, times: items + 1)
    pooledPositions = try reserve(8, times: items)
    let image = limits.imageCount > 0 ? reader.imageProgram : nil
    let text = limits.textCount > 0 && limits.tokenCount > 0 ? reader.textProgram : nil
    for (program, count) in [(image, limits.imageCount), (text, limits.textCount)] {
      guard let program else { continue }
      let needed = try ArenaPlan.scratchByteCount(
        program, reader, items: count, tokens: limits.tokenCount)
      scratchByteCount = max(scratchByteCount, needed)
      tokenPlanByteCount = max(tokenPlanByteCount, ArenaPlan.tokenPlanByteCount(program))
    }
    tokenPlans = try reserve(tokenPlanByteCount, times: limits.imageCount)
    preparedTensors = [Int?](repeating: nil, count: reader.tensors.count)
    var (transposedByteCount, gatheredByteCount) = (0, 0)
    for (program, count) in [(image, limits.imageCount), (text, limits.textCount)] {
      guard let program else { continue }
      try prepareTensors(of: program, reader)
      let needed = try ArenaPlan.transposedByteCount(
        program, reader, items: count, tokens: limits.tokenCount)
      transposedByteCount = max(transposedByteCount, needed)
      let rows = try ArenaPlan.gatheredByteCount(
        program, items: count, tokens: limits.tokenCount)
      gatheredByteCount = max(gatheredByteCount, rows)
    }
    transposed = try reserve(transposedByteCount, times: 1)
    gathered = try reserve(gatheredByteCount, times: 1)
    scratch = try reserve(scratchByteCount, times: threadCount)
    let start = byteCount
    if let image { imageSlots = try place(image, items: limits.imageCount, tokens: 0) }
    let imageEnd = byteCount
    byteCount = start
    if let text {
      textSlots = try place(text, items: limits.textCount, tokens: limits.tokenCount)
    }
    byteCount = max(byteCount, imageEnd)
  }

  private mutating func reserve(_ size: Int, times count: Int) throws(RuntimeError) -> Int {
    let start = byteCount
    let (bytes, overflow) = size.multipliedReportingOverflow(by: count)
    guard !overflow, bytes <= Int.max - 64 else { throw .outOfMemory }
    let (end, endOverflow) = start.addingReportingOverflow(aligned(bytes))
    guard !endOverflow, end <= Int.max - 64 else { throw .outOfMemory }
    byteCount = end
    return start
  }

  private mutating func place(
    _ program: Program, items: Int, tokens: Int
  ) throws(RuntimeError) -> [Int] {
    var sizes = [Int](repeating: 0, count: program.slotCount)
    for buffer in program.buffers {
      let rows = try ArenaPlan.rowCount(buffer, tokens: tokens)
      let (size, overflow) = rows.multipliedReportingOverflow(by: buffer.rowByteCount)
      guard !overflow else { throw .outOfMemory }
      sizes[buffer.slot] = max(sizes[buffer.slot], size)
    }
    var offsets: [Int] = []
    for size in sizes { offsets.append(try reserve(size, times: items)) }
    return offsets
  }

  /// Makes room for the sparse tensors that a program multiplies with and for the vectors that are
  /// stored short.
  private mutating func prepareTensors(
    of program: Program, _ reader: ModelReader
  ) throws(RuntimeError) {
    for instruction in program.instructions {
      for index in instruction.vectors where preparedTensors[index] == nil {
        let tensor = reader.tensors[index]
        guard tensor.storedType.isShortFloat, tensor.layout == .rowMajor else { continue }
        guard let size = PreparedWeights.byteCount(tensor) else { throw .outOfMemory }
        preparedTensors[index] = try reserve(size, times: 1)
      }
    }
    for case .linear(let op) in program.instructions {
      let tensor = reader.tensors[op.weight]
      guard tensor.isSparse, preparedTensors[op.weight] == nil else { continue }
      guard let size = PreparedWeights.byteCount(tensor) else { throw .outOfMemory }
      preparedTensors[op.weight] = try reserve(size, times: 1)
    }
  }

  /// Bytes of the largest transposed input of a sparse product.
  private static func transposedByteCount(
    _ program: Program, _ reader: ModelReader, items: Int, tokens: Int
  ) throws(RuntimeError) -> Int {
    var most = 0
    for case .linear(let op) in program.instructions {
      let tensor = reader.tensors[op.weight]
      guard tensor.layout == .sparse else { continue }
      let (rows, overflow) = try rowCount(program.buffers[op.input], tokens: tokens)
        .multipliedReportingOverflow(by: items)
      guard !overflow else { throw .outOfMemory }
      let floats = clip_f32_transposed_count(rows, tensor.columns)
      guard floats < Int.max / 8 else { throw .outOfMemory }
      most = max(most, floats * 4)
    }
    return most
  }

  /// Bytes of the largest input of experts in their order, a scale behind each row.
  private static func gatheredByteCount(
    _ program: Program, items: Int, tokens: Int
  ) throws(RuntimeError) -> Int {
    var most = 0
    for case .expertLinear(let op) in program.instructions where !op.isOrdered {
      let (rows, overflow) = try rowCount(program.buffers[op.order], tokens: tokens)
        .multipliedReportingOverflow(by: items)
      let (bytes, isLarge) = rows.multipliedReportingOverflow(
        by: program.buffers[op.input].rowByteCount + 4)
      guard !overflow, !isLarge else { throw .outOfMemory }
      most = max(most, bytes)
    }
    return most
  }

  private static func scratchByteCount(
    _ program: Program, _ reader: ModelReader, items: Int, tokens: Int
  ) throws(RuntimeError) -> Int {
    var most = 0
    for instruction in program.instructions {
      let floats: Int
      switch instruction {
      case .attention(let op):
        let keys = try rowCount(program.buffers[op.key.buffer], tokens: tokens)
        floats =
          op.isInteger
          ? clip_qu8_attention_scratch_byte_count(keys, op.headWidth) / 4 + 1
          : clip_f32_attention_scratch_count(keys, op.headWidth)
      case .mergeTokens(let op):
        let keys = try rowCount(program.buffers[op.key.buffer], tokens: tokens)
        floats = clip_f32_match_tokens_scratch_count(keys, op.headWidth)
      case .dropTokens(let op):
        floats = clip_f32_select_tokens_scratch_count(
          try rowCount(program.buffers[op.input], tokens: tokens))
      case .linear(let op):
        let input = program.buffers[op.input]
        let rows = try rowCount(input, tokens: tokens)
        floats = productCount(reader.tensors[op.weight], input, rows: rows, times: items)
      case .expertLinear(let op):
        let input = program.buffers[op.input]
        let rows = try rowCount(program.buffers[op.order], tokens: tokens)
        floats = op.experts.reduce(0) {
          max($0, productCount(reader.tensors[$1.weight], input, rows: rows, times: items))
        }
      case .routeTokens(let op):
        let logits = program.buffers[op.logits]
        floats = Routing.scratchCount(
          experts: logits.columns, slots: program.buffers[op.gates].columns,
          tokens: try rowCount(logits, tokens: tokens))
      default: continue
      }
      guard floats < Int.max / 8 else { throw .outOfMemory }
      most = max(most, floats * 4)
    }
    return aligned(most)
  }

  /// Floats of scratch in which a product of `input` widens its weights or rounds its rows.
  private static func productCount(
    _ weight: TensorRecord, _ input: Buffer, rows: Int, times items: Int
  ) -> Int {
    if weight.layout == .pairs {
      let (count, overflow) = rows.multipliedReportingOverflow(by: items)
      return clip_f32_bf16w_scratch_byte_count(overflow ? Int.max : count, weight.columns) / 4
    }
    guard weight.isWidened else { return 0 }
    let isFloat = input.quantization == nil
    return clip_pw_scratch_byte_count(weight.columns, weight.groupSize, isFloat) / 4 + 1
  }

  /// Rows of a buffer for each item that has so many tokens.
  private static func rowCount(_ buffer: Buffer, tokens: Int) throws(RuntimeError) -> Int {
    switch buffer.rows {
    case .perItem(let rows): return rows
    case .perToken: return tokens
    case .perSlot(let rows):
      let (count, overflow) = tokens.multipliedReportingOverflow(by: rows)
      guard !overflow else { throw .outOfMemory }
      return count
    }
  }

  /// Rows of a value of images for each of them.
  private static func rowCount(_ program: Program, _ buffer: Int) -> Int {
    if case .perItem(let rows) = program.buffers[buffer].rows { return rows }
    return 0
  }

  /// Bytes of an item's largest plan of which tokens stay.
  ///
  /// For each row left its source, for each merged token its number, its row and its share; there
  /// are at most ``Limit/rowCount`` of each.
  private static func tokenPlanByteCount(_ program: Program) -> Int {
    var most = 0
    for instruction in program.instructions {
      switch instruction {
      case .mergeTokens(let op):
        let (tokens, kept) = (rowCount(program, op.input), rowCount(program, op.output))
        most = max(most, 4 * (kept + 3 * (tokens - kept)))
      case .dropTokens(let op): most = max(most, 4 * rowCount(program, op.output))
      default: continue
      }
    }
    return aligned(most)
  }
}
