import CKernels
import ClipRuntime
import Glibc
import ModelFormat

/// The time of one instruction.
struct BenchNode {
  let name: String
  let kind: String
  /// How the weights of a product are stored and multiplied.
  let layout: String?
  /// The mean of all calls.
  let milliseconds: Double
  /// The fastest call.
  let leastMilliseconds: Double
  /// Of the mean of all instructions.
  let share: Double
  let work: NodeWork
}

/// Calls of one tower with the same made-up input.
struct BenchRun: ~Copyable {
  private var interpreter: Interpreter
  private let tower: Tower
  private let batch: Int
  private let tokenCount: Int
  private let pixels: [Float]
  private let ids: [Int32]
  private let embeddings: UnsafeMutableBufferPointer<Float>

  init(
    _ interpreter: consuming Interpreter, tower: Tower, batch: Int, tokenCount: Int,
    info: ModelInfo
  ) {
    self.tower = tower
    self.batch = batch
    self.tokenCount = tokenCount
    let pixelCount =
      tower == .image ? batch * info.imageChannelCount * info.imageHeight * info.imageWidth : 0
    // A pattern without structure, of about the spread that normalized pixels have.
    pixels = (0..<pixelCount).map { Float(($0 &* 2_654_435_761) >> 8 & 0xFFFF) / 20_000 - 1.6 }
    let highest = max(info.vocabularyCount - 1, 0)
    ids = (0..<(tower == .text ? batch * tokenCount : 0)).map { index in
      // The end token stands last, so that every position counts.
      let position = index % max(tokenCount, 1)
      if position == tokenCount - 1 { return Int32(info.endToken > 0 ? info.endToken : highest) }
      return Int32(1 + (index &* 7919) % max(highest - 2, 1))
    }
    embeddings = .allocate(capacity: batch * info.embeddingWidth)
    embeddings.initialize(repeating: 0)
    self.interpreter = interpreter
  }

  deinit { embeddings.deallocate() }

  var arenaByteCount: Int { interpreter.arenaByteCount }

  /// What this processor can do at best with the kernel set in use.
  func peak(threadCount: Int) -> MachinePeak {
    MachinePeak(kernelSet: interpreter.kernelSet, threadCount: threadCount)
  }

  var kernelSetName: String { String(cString: clip_kernel_sets_name(interpreter.kernelSet)) }

  mutating func call() throws {
    let (rows, pixels, ids) = (embeddings, pixels, ids)
    var span = rows.mutableSpan
    if tower == .image {
      try interpreter.encodeImages(pixels.span, count: batch, into: &span)
    } else {
      try interpreter.encodeTexts(ids.span, count: batch, tokenCount: tokenCount, into: &span)
    }
  }

  /// Milliseconds of each call after a tenth of the time, at least three calls, as warm-up.
  mutating func measure(seconds: Double) throws -> [Double] {
    let clock = ContinuousClock()
    let warm = clock.now + .seconds(seconds / 10)
    var count = 0
    while count < 3 || clock.now < warm {
      try call()
      count += 1
    }
    var times: [Double] = []
    let end = clock.now + .seconds(seconds)
    while times.isEmpty || clock.now < end {
      let start = clock.now
      try call()
      times.append((clock.now - start) / .milliseconds(1))
    }
    return times
  }

  /// Milliseconds of each instruction.
  mutating func profile(seconds: Double, _ reader: ModelReader) throws -> [BenchNode] {
    interpreter.startProfile {
      var now = timespec()
      clock_gettime(CLOCK_MONOTONIC, &now)
      return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
    }
    let clock = ContinuousClock()
    let end = clock.now + .seconds(seconds)
    var count = 0
    var total: [UInt64] = []
    var least: [UInt64] = []
    while count < 1 || clock.now < end {
      try call()
      count += 1
      let now = interpreter.profile(tower)
      let call = total.isEmpty ? now : zip(now, total).map { $0 - $1 }
      least = least.isEmpty ? call : zip(least, call).map { min($0, $1) }
      total = now
    }
    let times = total.map { Double($0) / 1e6 / Double(count) }
    let whole = max(times.reduce(0, +), 1e-12)
    guard let program = reader.program(tower) else { return [] }
    return times.enumerated().map { index, time in
      let instruction = program.instructions[index]
      return BenchNode(
        name: reader.name(ofInstruction: index, tower) ?? "\(index)",
        kind: "\(instruction.opCode)", layout: Self.layout(instruction, reader),
        milliseconds: time, leastMilliseconds: Double(least[index]) / 1e6, share: time / whole,
        work: NodeWork(instruction, program, reader, batch: batch, tokens: tokenCount))
    }
  }

  /// `panels` for weights used as they lie in the file, `bitmap` or `pattern` for those that became
  /// panels in memory, `sparse` for those of which zeros are skipped; nil for no product.
  private static func layout(_ instruction: Instruction, _ reader: ModelReader) -> String? {
    switch instruction {
    case .linear(let op): "\(reader.tensors[op.weight].layout)"
    case .expertLinear(let op): op.experts.first.map { "\(reader.tensors[$0.weight].layout)" }
    default: nil
    }
  }
}
