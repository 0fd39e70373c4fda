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
    for program in [image, text] {
      guard let program else { continue }
      let needed = try ArenaPlan.scratchByteCount(program, reader, tokens: limits.tokenCount)
      scratchByteCount = max(scratchByteCount, needed)
      tokenPlanByteCount = max(tokenPlanByteCount, ArenaPlan.tokenPlanByteCount(program))
    }
    tokenPlans = try reserve(tokenPlanByteCount, times: limits.imageCount)
    preparedTensors = [Int?](repeating: nil, count: reader.tensors.count)
    var transposedByteCount = 0
    for (program, count) in [(image, limits.imageCount), (text, limits.textCount)] {
      guard let program else { continue }
      try prepareTensors(of: program, reader)
      let needed = try ArenaPlan.transposedByteCount(
        program, reader, items: count, tokens: limits.tokenCount)
      transposedByteCount = max(transposedByteCount, needed)
    }
    transposed = try reserve(transposedByteCount, times: 1)
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
      var rows = tokens
      if case .perItem(let count) = buffer.rows { rows = count }
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
      let (rows, overflow) = (rowCount(program, op.input) ?? tokens)
        .multipliedReportingOverflow(by: items)
      guard !overflow else { throw .outOfMemory }
      let floats = clip_f32_transposed_count(rows, tensor.columns)
      guard floats < Int.max / 8 else { throw .outOfMemory }
      most = max(most, floats * 4)
    }
    return most
  }

  private static func scratchByteCount(
    _ program: Program, _ reader: ModelReader, tokens: Int
  ) throws(RuntimeError) -> Int {
    var most = 0
    for instruction in program.instructions {
      let floats: Int
      switch instruction {
      case .attention(let op):
        let keys = rowCount(program, op.key.buffer) ?? tokens
        floats =
          op.isInteger
          ? clip_qu8_attention_scratch_byte_count(keys, op.headWidth) / 4 + 1
          : clip_f32_attention_scratch_count(keys, op.headWidth)
      case .mergeTokens(let op):
        let keys = rowCount(program, op.key.buffer) ?? tokens
        floats = clip_f32_match_tokens_scratch_count(keys, op.headWidth)
      case .dropTokens(let op):
        floats = clip_f32_select_tokens_scratch_count(rowCount(program, op.input) ?? tokens)
      case .linear(let op):
        let weight = reader.tensors[op.weight]
        guard weight.isWidened else { continue }
        let isFloat = program.buffers[op.input].quantization == nil
        floats =
          clip_pw_scratch_byte_count(weight.columns, weight.groupSize, isFloat) / 4 + 1
      default: continue
      }
      guard floats < Int.max / 8 else { throw .outOfMemory }
      most = max(most, floats * 4)
    }
    return aligned(most)
  }

  /// Rows of a buffer for each item; nil where they are its tokens.
  private static func rowCount(_ program: Program, _ buffer: Int) -> Int? {
    if case .perItem(let rows) = program.buffers[buffer].rows { return rows }
    return nil
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
        let (tokens, kept) = (rowCount(program, op.input) ?? 0, rowCount(program, op.output) ?? 0)
        most = max(most, 4 * (kept + 3 * (tokens - kept)))
      case .dropTokens(let op): most = max(most, 4 * (rowCount(program, op.output) ?? 0))
      default: continue
      }
    }
    return aligned(most)
  }
}
