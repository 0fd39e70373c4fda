import CAllocationCounter
import CKernels
import ClipRuntime
import ModelFormat
import RuntimeFixtures
import Testing

/// A model in memory together with what it was made from.
struct TinyFile {
  let tiny: TinyModel
  let parts: TinyParts
  let bytes: AlignedBytes
  let model: Model

  init(_ tiny: TinyModel) throws {
    self.tiny = tiny
    parts = tiny.parts()
    bytes = AlignedBytes(try parts.writer.serialized())
    model = try Model(bytes.raw, integrity: .everything)
  }

  func interpreter(
    batch: Int = 3, threads: Int = 1, kernelSet: Int? = nil
  ) throws -> Interpreter {
    try Interpreter(
      model,
      limits: Limits(imageCount: batch, textCount: batch, tokenCount: tiny.contextLength),
      threadCount: threads, kernelSet: kernelSet)
  }

  func images(_ count: Int, _ interpreter: inout Interpreter) throws -> [Float] {
    var result = [Float](repeating: .nan, count: count * tiny.embeddingWidth)
    var span = result.mutableSpan
    try interpreter.encodeImages(tiny.pixels(count).span, count: count, into: &span)
    return result
  }

  func texts(
    _ count: Int, tokens: Int, _ interpreter: inout Interpreter
  ) throws -> [Float] {
    var result = [Float](repeating: .nan, count: count * tiny.embeddingWidth)
    var span = result.mutableSpan
    let ids = tiny.texts(count, tokenCount: tokens)
    try interpreter.encodeTexts(ids.span, count: count, tokenCount: tokens, into: &span)
    return result
  }

  func expectedImages(_ count: Int) -> [Double] {
    guard let program = parts.image else { return [] }
    let pixels = tiny.pixels(count)
    let size = pixels.count / count
    return (0..<count).flatMap { item in
      var reference = ReferenceInterpreter(parts, program)
      reference.pixels = Array(pixels[(item * size)..<((item + 1) * size)])
      return reference.run()
    }
  }

  func expectedTexts(_ count: Int, tokens: Int) -> [Double] {
    guard let program = parts.text else { return [] }
    let ids = tiny.texts(count, tokenCount: tokens)
    return (0..<count).flatMap { item in
      var reference = ReferenceInterpreter(parts, program)
      reference.ids = Array(ids[(item * tokens)..<((item + 1) * tokens)])
      return reference.run()
    }
  }
}

func largestDifference(_ found: [Float], _ expected: [Double]) -> Double {
  guard found.count == expected.count else { return .infinity }
  return zip(found, expected).map { difference in
    difference.0.isFinite ? abs(Double(difference.0) - difference.1) : .infinity
  }.max() ?? .infinity
}

@Suite struct InterpreterTests {
  static var kernelSets: [Int] {
    (0..<clip_kernel_sets_count()).filter { clip_kernel_sets_is_supported($0) }
  }

  static var variants: [TinyModel] {
    var variants: [TinyModel] = []
    for precision in TinyPrecision.allCases {
      for (index, activation) in [Activation.quickGELU, .gelu].enumerated() {
        var model = TinyModel()
        model.precision = precision
        model.activation = activation
        model.hasPooledTail = index == 1
        model.poolingRule = index == 1 ? .largestToken : .endToken
        variants.append(model)
        model.isCausal = false
        model.width = 32
        model.headWidth = 16
        model.neuronCount = 64
        variants.append(model)
        model.layerCount = 4
        model.imageExtent = 22
        model.mergedCount = 3
        model.dropsTokens = index == 1
        variants.append(model)
        model.isSparse = true
        model.imageExtent = 35
        variants.append(model)
      }
    }
    for bits in [2, 4] {
      var model = TinyModel()
      model.precision = .integer
      model.activationBitCount = bits
      variants.append(model)
    }
    for bits in 2...8 {
      for precision in [TinyPrecision.weightOnly, .integer] {
        var model = TinyModel()
        model.precision = precision
        model.codeBitCount = bits
        model.groupSize = [0, 4, 8, 12, 16][bits % 5]
        model.hasPooledTail = bits % 2 == 0
        model.hasShortFloats = bits % 3 == 0
        model.layerCount = 1
        if bits == 4 {
          model.groupSize = 32
          model.width = 70
        }
        variants.append(model)
      }
    }
    for bits in [3, 8] {
      var model = TinyModel()
      model.precision = .integer
      model.scalesTokens = true
      model.activationBitCount = bits
      model.groupSize = bits == 8 ? 8 : 0
      model.hasPooledTail = bits == 3
      variants.append(model)
    }
    for width in [5, 16, 18] {
      var model = TinyModel()
      model.precision = .integer
      model.hasIntegerAttention = true
      model.headWidth = width
      model.hasPooledTail = width == 5
      model.imageExtent = width == 16 ? 26 : 9
      variants.append(model)
    }
    var short = TinyModel()
    short.hasShortFloats = true
    variants.append(short)
    return variants + expertVariants
  }

  /// Models whose layers are mixtures of experts.
  static var expertVariants: [TinyModel] {
    var variants: [TinyModel] = []
    let routes = [(1, 1, 0), (3, 1, 0), (3, 2, 2), (8, 2, 0), (8, 0, 1), (3, 0, 2), (4, 3, 1)]
    for precision in TinyPrecision.allCases {
      for (index, route) in routes.enumerated() {
        var model = TinyModel()
        model.precision = precision
        (model.expertCount, model.expertTopK, model.expertCapacity) = route
        model.normalizesGates = index % 2 == 0
        model.isCausal = route.1 > 0
        model.hasPooledTail = index % 3 == 1
        model.poolsExperts = index % 3 != 0
        model.activation = index % 2 == 0 ? .quickGELU : .gelu
        if index > 2 { (model.width, model.neuronCount) = (70, 140) }
        if precision == .integer, index % 2 == 1 { model.scalesTokens = true }
        if precision != .float, index > 1 { (model.codeBitCount, model.groupSize) = (4, 16) }
        if index == 5 { model.hasShortFloats = true }
        variants.append(model)
      }
    }
    return variants
  }

  @Test(arguments: variants, kernelSets)
  func towersGiveWhatTheFormatSays(_ tiny: TinyModel, _ kernelSet: Int) throws {
    let file = try TinyFile(tiny)
    // Codes are rounded from float32 here and from float64 there: some fall on the other side.
    let tolerance = tiny.precision.roundsActivations ? 0.02 : 1e-5
    var interpreter = try file.interpreter(kernelSet: kernelSet)
    let images = try file.images(4, &interpreter)
    #expect(largestDifference(images, file.expectedImages(4)) < tolerance)
    for tokens in [1, 5, 8] {
      let texts = try file.texts(5, tokens: tokens, &interpreter)
      #expect(largestDifference(texts, file.expectedTexts(5, tokens: tokens)) < tolerance)
    }
  }

  @Test(arguments: variants)
  func resultsDependNeitherOnThreadsNorOnBatches(_ tiny: TinyModel) throws {
    let file = try TinyFile(tiny)
    var one = try file.interpreter(batch: 1)
    let images = try file.images(5, &one)
    let texts = try file.texts(5, tokens: 8, &one)
    for threads in 1...3 {
      for batch in [2, 5] {
        var other = try file.interpreter(batch: batch, threads: threads)
        #expect(try file.images(5, &other) == images)
        #expect(try file.texts(5, tokens: 8, &other) == texts)
      }
    }
  }

  /// What texts begin with alike is computed once, and gives each of them the bits that it has alone.
  @Test(arguments: variants)
  func sharedBeginningsChangeNothing(_ tiny: TinyModel) throws {
    let file = try TinyFile(tiny)
    let end = Int32(tiny.endToken)
    let batches: [[[Int32]]] = [
      [[0, 3, 4, 5, end, 0], [0, 3, 4, 6, 7, end], [0, 3, 4, 5, 5, end]],
      // One ends where the others go on, and all are the same.
      [[0, 3, end, 4, 4, 4], [0, 3, end, 5, 5, 5], [0, 3, 4, 5, 6, end]],
      [[0, 9, 2, end, 1, 1], [0, 9, 2, end, 1, 1], [0, 9, 2, end, 1, 1]],
    ]
    for texts in batches {
      var together = try file.interpreter(batch: 3)
      var alone = try file.interpreter(batch: 1)
      var results = [[Float]](
        repeating: [Float](repeating: 0, count: 3 * tiny.embeddingWidth), count: 2)
      let ids = texts.flatMap { $0 }
      var span = results[0].mutableSpan
      try together.encodeTexts(ids.span, count: 3, tokenCount: 6, into: &span)
      span = results[1].mutableSpan
      try alone.encodeTexts(ids.span, count: 3, tokenCount: 6, into: &span)
      #expect(results[0] == results[1])
    }
  }

  @Test(
    .enabled(if: allocation_counter_is_available(), "a sanitizer has the allocator"),
    arguments: TinyPrecision.allCases, [true, false])
  func runsAllocateNothing(_ precision: TinyPrecision, _ isSparse: Bool) async throws {
    var tiny = TinyModel()
    if !isSparse {
      (tiny.expertCount, tiny.expertTopK, tiny.expertCapacity) = (4, 2, 3)
      tiny.poolsExperts = true
    }
    tiny.precision = precision
    tiny.layerCount = 3
    tiny.imageExtent = 22
    tiny.mergedCount = 2
    tiny.dropsTokens = true
    tiny.isSparse = isSparse
    if !isSparse {
      tiny.codeBitCount = 5
      tiny.groupSize = 8
      tiny.scalesTokens = true
      tiny.hasIntegerAttention = true
      tiny.mergedCount = 0
      tiny.dropsTokens = false
      tiny.hasShortFloats = true
    }
    let file = try TinyFile(tiny)
    var interpreter = try file.interpreter(batch: 2, threads: 2)
    let pixels = tiny.pixels(4)
    let ids = tiny.texts(4, tokenCount: 8)
    var result = [Float](repeating: 0, count: 4 * tiny.embeddingWidth)
    var span = result.mutableSpan
    try interpreter.encodeImages(pixels.span, count: 4, into: &span)
    // Other tests may allocate meanwhile, but not in every one of so many tries.
    var least = Int.max
    for _ in 0..<200 where least > 0 {
      let before = allocation_counter_count()
      try interpreter.encodeImages(pixels.span, count: 4, into: &span)
      try interpreter.encodeTexts(ids.span, count: 4, tokenCount: 8, into: &span)
      least = min(least, Int(allocation_counter_count() - before))
    }
    #expect(least == 0)
  }

  /// What becomes panels again is multiplied as ever; what skips zeros, in the same order.
  @Test(arguments: [TinyPrecision.float, .weightOnly, .integer]) func sparseTensorsLoseNothing(
    _ precision: TinyPrecision
  ) throws {
    var tiny = TinyModel()
    tiny.precision = precision
    tiny.isSparse = true
    tiny.width = 70
    let sparse = try TinyFile(tiny)
    tiny.storesZeros = true
    let dense = try TinyFile(tiny)
    #expect(sparse.bytes.count < dense.bytes.count)
    var one = try sparse.interpreter(threads: 2)
    var other = try dense.interpreter()
    let found = try sparse.images(3, &one) + sparse.texts(3, tokens: 8, &one)
    let wanted = try dense.images(3, &other) + dense.texts(3, tokens: 8, &other)
    if precision == .float {
      #expect(largestDifference(found, wanted.map { Double($0) }) < 1e-6)
    } else {
      #expect(found == wanted)
    }
  }

  @Test func profileCountsEveryInstruction() throws {
    let file = try TinyFile(TinyModel())
    var interpreter = try file.interpreter()
    #expect(interpreter.profile(.image).isEmpty)
    interpreter.startProfile { clockTick() }
    _ = try file.images(3, &interpreter)
    let expected = [UInt64](repeating: 1, count: file.parts.imageNames.count)
    #expect(interpreter.profile(.image) == expected)
    #expect(interpreter.profile(.text).allSatisfy { $0 == 0 })
  }

  @Test func anArenaOfTheCallersIsUsed() throws {
    let file = try TinyFile(TinyModel())
    let limits = Limits(imageCount: 1, textCount: 1, tokenCount: 8)
    let size = try Interpreter.arenaByteCount(file.model, limits: limits)
    let arena = AlignedBytes([UInt8](repeating: 0xFF, count: size))
    var own = try file.interpreter(batch: 1)
    var given = try Interpreter(file.model, limits: limits, arena: arena.mutable)
    #expect(try file.images(2, &given) == file.images(2, &own))
    #expect(throws: RuntimeError.arenaByteCount(expected: size, found: size - 64)) {
      let small = UnsafeMutableRawBufferPointer(rebasing: arena.mutable[64...])
      _ = try Interpreter(file.model, limits: limits, arena: small)
    }
    #expect(throws: RuntimeError.arenaAlignment) {
      let larger = AlignedBytes([UInt8](repeating: 0, count: size + 64))
      let shifted = UnsafeMutableRawBufferPointer(rebasing: larger.mutable[8...])
      _ = try Interpreter(file.model, limits: limits, arena: shifted)
    }
  }

  @Test func wrongCallsAreRefused() throws {
    var tiny = TinyModel()
    tiny.towers = [.text]
    let file = try TinyFile(tiny)
    var interpreter = try file.interpreter(batch: 2)
    var result = [Float](repeating: 5, count: 6)
    func texts(_ ids: [Int32], _ count: Int, _ tokens: Int) -> RuntimeError? {
      var span = result.mutableSpan
      do throws(RuntimeError) {
        try interpreter.encodeTexts(ids.span, count: count, tokenCount: tokens, into: &span)
        return nil
      } catch { return error }
    }
    #expect(
      texts([0, 19], 1, 2) == .tokenOutOfRange(text: 0, position: 1, found: 19))
    #expect(texts([-1, 0], 1, 2) == .tokenOutOfRange(text: 0, position: 0, found: -1))
    #expect(texts([0, 1, 2], 1, 2) == .tokenCount(expected: 2, found: 3))
    #expect(texts([], 1, 0) == .tokenCount(expected: 0, found: 0))
    #expect(
      texts([Int32](repeating: 0, count: 9), 1, 9) == .textTooLong(limit: 8, found: 9))
    #expect(texts([0, 1, 0, 1], 2, 2) == .embeddingCount(expected: 12, found: 6))
    #expect(texts([0], .max, .max) == .limit(found: .max))
    #expect(texts([0], -1, 1) == .limit(found: -1))
    #expect(result == [Float](repeating: 5, count: 6))
    #expect(throws: RuntimeError.noSuchTower(.image)) {
      _ = try file.images(1, &interpreter)
    }
    let limits = Limits(imageCount: 0, textCount: 1, tokenCount: 8)
    #expect(throws: RuntimeError.threadCount(found: 0)) {
      _ = try Interpreter(file.model, limits: limits, threadCount: 0)
    }
    #expect(throws: RuntimeError.noSuchKernelSet(found: 99)) {
      _ = try Interpreter(file.model, limits: limits, kernelSet: 99)
    }
    #expect(throws: RuntimeError.limit(found: -1)) {
      _ = try Interpreter(
        file.model, limits: Limits(imageCount: -1, textCount: 1, tokenCount: 8))
    }
  }
}

/// A clock that every look moves on by one; the profile test is its only user.
private func clockTick() -> UInt64 {
  ticks += 1
  return ticks
}

nonisolated(unsafe) private var ticks: UInt64 = 0
