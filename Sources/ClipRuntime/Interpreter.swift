import CClip
import CKernels
import ModelFormat

/// Runs a model's towers: one thread's at a time, no allocation after it is made.
///
/// Results do not depend on the number of threads, nor on how a call is cut into batches.
public struct Interpreter: ~Copyable, @unchecked Sendable {
  /// The model that it runs.
  public let model: Model
  /// What its memory is for; the token limit is at most the context length.
  public let limits: Limits
  /// Index of the kernel set in use.
  public let kernelSet: Int
  /// Bytes of the arena.
  public let arenaByteCount: Int

  private let plan: ArenaPlan
  private let arena: UnsafeMutableRawPointer
  private let ownsArena: Bool
  private let pool: OpaquePointer?
  private let weights: UnsafeRawPointer
  /// Where each tensor's elements are read from: the file, or their prepared form in the arena.
  private let tensorAddresses: [UnsafeRawPointer]
  private var profile: Profile?

  /// Makes an interpreter with an arena of its own.
  ///
  /// - Parameters:
  ///   - model: What to run.
  ///   - limits: How much to make room for.
  ///   - threadCount: Threads that share the work, the caller's being one of them.
  ///   - kernelSet: Index of a kernel set; by default the best that this processor has.
  /// - Throws: ``RuntimeError`` for numbers out of range and a lack of memory.
  public init(
    _ model: Model, limits: Limits, threadCount: Int = 1, kernelSet: Int? = nil
  ) throws(RuntimeError) {
    let limits = Interpreter.bound(limits, model)
    let size = try Interpreter.arenaByteCount(model, limits: limits, threadCount: threadCount)
    guard let memory = clip_memory_allocate(size) else { throw .outOfMemory }
    do {
      try self.init(
        model, limits: limits, threadCount: threadCount, kernelSet: kernelSet,
        UnsafeMutableRawBufferPointer(start: memory, count: size), ownsArena: true)
    } catch {
      clip_memory_free(memory)
      throw error
    }
  }

  /// Makes an interpreter in memory of the caller's, which must outlive it.
  ///
  /// - Parameters:
  ///   - model: What to run.
  ///   - limits: How much there is room for.
  ///   - threadCount: Threads that share the work, the caller's being one of them.
  ///   - kernelSet: Index of a kernel set; by default the best that this processor has.
  ///   - arena: As many bytes as ``arenaByteCount(_:limits:threadCount:)`` says or more, at a
  ///     multiple of 64.
  /// - Throws: ``RuntimeError`` for numbers out of range and an unfit arena.
  public init(
    _ model: Model, limits: Limits, threadCount: Int = 1, kernelSet: Int? = nil,
    arena: UnsafeMutableRawBufferPointer
  ) throws(RuntimeError) {
    try self.init(
      model, limits: Interpreter.bound(limits, model), threadCount: threadCount,
      kernelSet: kernelSet, arena, ownsArena: false)
  }

  private init(
    _ model: Model, limits: Limits, threadCount: Int, kernelSet: Int?,
    _ arena: UnsafeMutableRawBufferPointer, ownsArena: Bool
  ) throws(RuntimeError) {
    guard (1...64).contains(threadCount) else { throw .threadCount(found: threadCount) }
    let set = kernelSet ?? clip_kernel_sets_best()
    guard set >= 0, clip_kernel_sets_is_supported(set) else {
      throw .noSuchKernelSet(found: set)
    }
    let plan = try ArenaPlan(model.reader, limits, threadCount: threadCount)
    guard let base = arena.baseAddress, arena.count >= plan.byteCount else {
      throw .arenaByteCount(expected: plan.byteCount, found: arena.count)
    }
    guard UInt(bitPattern: base) % 64 == 0 else { throw .arenaAlignment }
    guard let weights = model.reader.weights.baseAddress else { throw .noSuchTower(.image) }
    // Zeros once, so that padding between rows never shows what the memory held before.
    base.initializeMemory(as: UInt8.self, repeating: 0, count: plan.byteCount)
    self.model = model
    self.limits = limits
    self.kernelSet = set
    self.plan = plan
    self.arena = base
    self.ownsArena = ownsArena
    self.weights = weights
    tensorAddresses = Interpreter.prepare(
      model.reader, plan, weights, base, clip_kernel_sets_at(set))
    arenaByteCount = plan.byteCount
    pool = clip_pool_create(threadCount)
  }

  deinit {
    clip_pool_destroy(pool)
    if ownsArena { clip_memory_free(arena) }
  }

  /// Threads that share the work, the caller's being one of them.
  public var threadCount: Int { Int(clip_pool_thread_count(pool)) }

  /// Bytes that an arena must have.
  ///
  /// - Throws: ``RuntimeError`` for limits out of range or an uncountable size.
  public static func arenaByteCount(
    _ model: Model, limits: Limits, threadCount: Int = 1
  ) throws(RuntimeError) -> Int {
    guard (1...64).contains(threadCount) else { throw .threadCount(found: threadCount) }
    return try ArenaPlan(model.reader, bound(limits, model), threadCount: threadCount).byteCount
  }

  /// Prepares the tensors that are not used as they lie in the file and tells where all tensors are read from.
  private static func prepare(
    _ reader: ModelReader, _ plan: ArenaPlan, _ weights: UnsafeRawPointer,
    _ arena: UnsafeMutableRawPointer, _ kernels: UnsafePointer<clip_kernel_set>
  ) -> [UnsafeRawPointer] {
    var addresses: [UnsafeRawPointer] = []
    addresses.reserveCapacity(reader.tensors.count)
    for (tensor, prepared) in zip(reader.tensors, plan.preparedTensors) {
      guard let prepared else {
        addresses.append(weights + tensor.offset)
        continue
      }
      PreparedWeights.prepare(tensor, weights + tensor.offset, at: arena + prepared, kernels)
      addresses.append(UnsafeRawPointer(arena + prepared))
    }
    return addresses
  }

  private static func bound(_ limits: Limits, _ model: Model) -> Limits {
    var limits = limits
    limits.tokenCount = min(limits.tokenCount, model.info.contextLength)
    return limits
  }

  // MARK: Running

  /// Embeds images.
  ///
  /// - Shapes: `pixels`: `[count, channels, height, width]`; `embeddings`:
  ///   `[count, embeddingWidth]`, each row of norm 1.
  /// - Throws: ``RuntimeError`` when the sizes do not fit; nothing is written then.
  public mutating func encodeImages(
    _ pixels: Span<Float>, count: Int, into embeddings: inout MutableSpan<Float>
  ) throws(RuntimeError) {
    guard let program = model.reader.imageProgram, !plan.imageSlots.isEmpty else {
      throw .noSuchTower(.image)
    }
    let expected = try Interpreter.product(count, model.pixelCount)
    guard pixels.count == expected else {
      throw .pixelCount(expected: expected, found: pixels.count)
    }
    try checkRoom(embeddings.count, count)
    var done = 0
    while done < count {
      let items = min(count - done, limits.imageCount)
      let firstRows = firstRows
      for item in 0...items { firstRows[item] = item }
      for item in 0..<items { pooledPositions[item] = 0 }
      pixels.withUnsafeBufferPointer { pixels in
        guard let pixels = pixels.baseAddress else { return }
        var frame = frame(.image, program, items: items)
        frame.pixels = pixels + done * model.pixelCount
        run(program, frame, .image)
      }
      copyResult(program, plan.imageSlots, items: items, to: &embeddings, at: done)
      done += items
    }
  }

  /// Embeds texts, each as far as its pooled position where the tower is causal.
  ///
  /// - Shapes: `ids`: `[count, tokenCount]`, padded behind the end token with any ids of the
  ///   vocabulary; `embeddings`: `[count, embeddingWidth]`, each row of norm 1.
  /// - Throws: ``RuntimeError`` when sizes do not fit or an id is out of range; nothing is
  ///   written then.
  public mutating func encodeTexts(
    _ ids: Span<Int32>, count: Int, tokenCount: Int, into embeddings: inout MutableSpan<Float>
  ) throws(RuntimeError) {
    guard let program = model.reader.textProgram, !plan.textSlots.isEmpty else {
      throw .noSuchTower(.text)
    }
    let expected = try Interpreter.product(count, tokenCount)
    guard ids.count == expected, tokenCount >= 1 else {
      throw .tokenCount(expected: expected, found: ids.count)
    }
    guard tokenCount <= limits.tokenCount else {
      throw .textTooLong(limit: limits.tokenCount, found: tokenCount)
    }
    try checkRoom(embeddings.count, count)
    for index in 0..<ids.count where ids[index] < 0 || ids[index] >= model.info.vocabularyCount {
      throw .tokenOutOfRange(
        text: index / tokenCount, position: index % tokenCount, found: ids[index])
    }
    let (isCausal, sharesPrefix) = (program.isCausal, program.sharesPrefix)
    let (firstRows, pooledPositions) = (firstRows, pooledPositions)
    var done = 0
    while done < count {
      let items = min(count - done, limits.textCount)
      let texts = done..<(done + items)
      for item in 0..<items {
        let start = (done + item) * tokenCount
        pooledPositions[item] = Interpreter.pooledPosition(
          program, ids, start..<(start + tokenCount))
      }
      let prefix = sharesPrefix ? sharedPrefix(ids, texts, tokenCount) : 0
      firstRows[0] = prefix
      for item in 0..<items {
        let count = (isCausal ? pooledPositions[item] + 1 : tokenCount) - prefix
        firstRows[item + 1] = firstRows[item] + count
      }
      ids.withUnsafeBufferPointer { ids in
        guard let ids = ids.baseAddress else { return }
        var frame = frame(.text, program, items: items, prefixCount: prefix)
        frame.ids = ids + done * tokenCount
        frame.idStride = tokenCount
        run(program, frame, .text)
      }
      copyResult(program, plan.textSlots, items: items, to: &embeddings, at: done)
      done += items
    }
  }

  private static func product(_ count: Int, _ size: Int) throws(RuntimeError) -> Int {
    let (product, overflow) = count.multipliedReportingOverflow(by: size)
    guard count >= 0, size >= 0, !overflow else { throw .limit(found: count) }
    return product
  }

  private func checkRoom(_ found: Int, _ count: Int) throws(RuntimeError) {
    let expected = try Interpreter.product(count, model.info.embeddingWidth)
    guard found == expected else { throw .embeddingCount(expected: expected, found: found) }
  }

  private static func pooledPosition(
    _ program: Program, _ ids: Span<Int32>, _ range: Range<Int>
  ) -> Int {
    var best = range.lowerBound
    switch program.poolingRule {
    case .firstRow: break
    case .largestToken:
      for index in range where ids[index] > ids[best] { best = index }
    case .endToken:
      for index in range where ids[index] == program.endToken { return index - range.lowerBound }
    }
    return best - range.lowerBound
  }

  /// How many tokens all of several texts begin with, each text's pooled one left out.
  private func sharedPrefix(_ ids: Span<Int32>, _ texts: Range<Int>, _ tokenCount: Int) -> Int {
    guard texts.count > 1 else { return 0 }
    let first = texts.lowerBound * tokenCount
    var count = tokenCount
    for (item, text) in texts.enumerated() {
      count = min(count, pooledPositions[item])
      var common = 0
      while common < count, ids[text * tokenCount + common] == ids[first + common] { common += 1 }
      count = common
    }
    return count
  }

  private var firstRows: UnsafeMutablePointer<Int> {
    (arena + plan.firstRows).assumingMemoryBound(to: Int.self)
  }

  private var pooledPositions: UnsafeMutablePointer<Int> {
    (arena + plan.pooledPositions).assumingMemoryBound(to: Int.self)
  }

  private func frame(
    _ tower: Tower, _ program: Program, items: Int, prefixCount: Int = 0
  ) -> Frame {
    Frame(
      tower: tower, kernels: clip_kernel_sets_at(kernelSet), pool: pool,
      threadCount: Int(clip_pool_thread_count(pool)), info: model.info, buffers: program.buffers,
      tensors: model.reader.tensors, tensorAddresses: tensorAddresses, weights: weights,
      transposed: (arena + plan.transposed).assumingMemoryBound(to: Float.self),
      gathered: arena + plan.gathered, arena: arena,
      slots: tower == .image ? plan.imageSlots : plan.textSlots, items: items,
      firstRows: UnsafePointer(firstRows), prefixCount: prefixCount,
      pooledPositions: UnsafePointer(pooledPositions),
      tokenPlans: arena + plan.tokenPlans, tokenPlanByteCount: plan.tokenPlanByteCount,
      scratch: arena + plan.scratch, scratchByteCount: plan.scratchByteCount)
  }

  private mutating func run(_ program: Program, _ frame: Frame, _ tower: Tower) {
    guard profile != nil else {
      for index in 0..<program.instructions.count { frame.run(program.instructions[index]) }
      return
    }
    for index in 0..<program.instructions.count {
      let start = profile?.clock() ?? 0
      frame.run(program.instructions[index])
      profile?.add(since: start, tower, index)
    }
  }

  private func copyResult(
    _ program: Program, _ slots: [Int], items: Int, to embeddings: inout MutableSpan<Float>,
    at first: Int
  ) {
    guard let last = program.instructions.last else { return }
    let buffer = program.buffers[last.output]
    let width = model.info.embeddingWidth
    for item in 0..<items {
      let row = (arena + slots[buffer.slot] + item * buffer.rowByteCount)
        .assumingMemoryBound(to: Float.self)
      for column in 0..<width { embeddings[(first + item) * width + column] = row[column] }
    }
  }

  // MARK: Profiling

  /// Begins to measure, anew: every instruction is timed by `clock` from now on.
  ///
  /// - Parameter clock: Any monotonic counter; times are told in its unit.
  public mutating func startProfile(clock: @escaping @convention(c) () -> UInt64) {
    profile = Profile(
      clock: clock, image: model.reader.imageProgram?.instructions.count ?? 0,
      text: model.reader.textProgram?.instructions.count ?? 0)
  }

  /// What each instruction of a tower took since ``startProfile(clock:)``, in the clock's unit.
  public func profile(_ tower: Tower) -> [UInt64] {
    (tower == .image ? profile?.image : profile?.text) ?? []
  }
}

/// Time spent in each instruction.
private struct Profile {
  let clock: @convention(c) () -> UInt64
  var image: [UInt64]
  var text: [UInt64]

  init(clock: @escaping @convention(c) () -> UInt64, image: Int, text: Int) {
    self.clock = clock
    self.image = [UInt64](repeating: 0, count: image)
    self.text = [UInt64](repeating: 0, count: text)
  }

  mutating func add(since start: UInt64, _ tower: Tower, _ index: Int) {
    let time = clock() &- start
    if tower == .image { image[index] &+= time } else { text[index] &+= time }
  }
}
