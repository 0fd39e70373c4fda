import ClipRuntime
import ModelFormat
import RuntimeFixtures
import Testing

@Suite struct DamageTests {
  /// Runs whatever can be opened; with AddressSanitizer, a read out of bounds ends the process.
  func runIfOpened(_ bytes: UnsafeRawBufferPointer, _ integrity: ModelReader.Integrity) -> Bool {
    guard let model = try? Model(bytes, integrity: integrity) else { return false }
    let info = model.info
    let limits = Limits(imageCount: 1, textCount: 1, tokenCount: min(4, info.contextLength))
    guard let size = try? Interpreter.arenaByteCount(model, limits: limits), size < 1 << 24,
      model.pixelCount < 1 << 16, var interpreter = try? Interpreter(model, limits: limits)
    else { return true }
    var embedding = [Float](repeating: 0, count: info.embeddingWidth)
    var span = embedding.mutableSpan
    if model.reader.imageProgram != nil {
      let pixels = [Float](repeating: 0.5, count: model.pixelCount)
      try? interpreter.encodeImages(pixels.span, count: 1, into: &span)
    }
    if model.reader.textProgram != nil {
      let ids = [Int32](repeating: Int32(info.vocabularyCount - 1), count: limits.tokenCount)
      try? interpreter.encodeTexts(
        ids.span, count: 1, tokenCount: limits.tokenCount, into: &span)
    }
    return true
  }

  static let victims = [
    Attack.victim, Attack.shortenedVictim, Attack.sparseVictim, Attack.expertVictim,
  ]

  @Test(arguments: [0x01, 0x80, 0xFF] as [UInt8], victims)
  func everyByteFlippedIsRefusedOrRunsInBounds(_ pattern: UInt8, _ victim: TinyModel) throws {
    let bytes = AlignedBytes(try victim.parts().writer.serialized())
    let weights = try ModelReader(bytes.raw).weights.count
    var refused = 0
    for offset in 0..<bytes.count {
      bytes.mutable[offset] ^= pattern
      let isOpened = runIfOpened(bytes.raw, .tables)
      _ = runIfOpened(bytes.raw, .structure)
      #expect(!isOpened || offset >= bytes.count - weights, "byte \(offset)")
      refused += isOpened ? 0 : 1
      bytes.mutable[offset] ^= pattern
    }
    #expect(refused >= bytes.count - weights)
    #expect(runIfOpened(bytes.raw, .everything))
  }

  @Test(arguments: victims) func everyTruncationIsRefused(_ victim: TinyModel) throws {
    let file = try victim.parts().writer.serialized()
    for count in 0..<file.count {
      let bytes = AlignedBytes(Array(file[..<count]))
      #expect(!runIfOpened(bytes.raw, .structure), "\(count) bytes")
    }
  }

  @Test(arguments: victims)
  func manyRandomEditsAreRefusedOrRunInBounds(_ victim: TinyModel) throws {
    let file = try victim.parts().writer.serialized()
    let bytes = AlignedBytes(file)
    var numbers = Numbers(seed: 3)
    for _ in 0..<5_000 {
      bytes.mutable.copyBytes(from: file)
      for _ in 0..<(1 + numbers.integer(below: 4)) {
        bytes.mutable[numbers.integer(below: file.count)] = UInt8(numbers.integer(below: 256))
      }
      _ = runIfOpened(bytes.raw, .structure)
    }
  }
}
