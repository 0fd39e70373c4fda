import Foundation
import ModelFormat
import RuntimeFixtures
import Testing

@Suite struct FormatTests {
  @Test(arguments: TinyPrecision.allCases)
  func whatIsWrittenIsReadBack(_ precision: TinyPrecision) throws {
    var tiny = TinyModel()
    tiny.precision = precision
    tiny.hasPooledTail = precision == .weightOnly
    tiny.mergedCount = precision == .integer ? 1 : 0
    tiny.isSparse = precision == .float
    tiny.activationBitCount = 5
    tiny.scalesTokens = precision == .integer
    tiny.expertCount = precision == .weightOnly ? 3 : 0
    let parts = tiny.parts()
    let bytes = AlignedBytes(try parts.writer.serialized())
    let reader = try ModelReader(bytes.raw, integrity: .everything)
    #expect(reader.info == parts.info)
    #expect(reader.imageProgram == parts.image)
    #expect(reader.textProgram == parts.text)
    #expect(reader.tensors.count == parts.tensors.count)
    for (index, tensor) in parts.tensors.enumerated() {
      #expect(Array(reader.data(ofTensor: index)) == tensor.bytes)
      #expect(reader.name(ofTensor: index) == parts.tensorNames[index])
      #expect(Int(bitPattern: reader.data(ofTensor: index).baseAddress) % 64 == 0)
    }
    for (index, name) in parts.textNames.enumerated() {
      #expect(reader.name(ofInstruction: index, .text) == name)
    }
    #expect(reader.section(.tokenizer).map { Array($0) } == Array("tokens".utf8))
    #expect(reader.section(.imageTransform) == nil)
  }

  @Test(arguments: TinyPrecision.allCases)
  func theCommittedExampleIsWhatTheWriterMakes(_ precision: TinyPrecision) throws {
    var tiny = TinyModel()
    tiny.precision = precision
    let bytes = try tiny.parts().writer.serialized()
    let name = precision == .weightOnly ? "weight-only" : precision.rawValue
    let version = precision == .bfloat16 ? "1.5" : "1.0"
    #expect(try Formats.file("examples/\(name)-\(version).clipc", bytes) == bytes)
  }

  @Test func theCommittedExamplesOfVersion1Point1AreWhatTheWriterMakes() throws {
    let bytes = try Attack.shortenedVictim.parts().writer.serialized()
    #expect(try Formats.file("examples/shortened-1.1.clipc", bytes) == bytes)
    let sparse = try Attack.sparseVictim.parts().writer.serialized()
    #expect(try Formats.file("examples/sparse-1.1.clipc", sparse) == sparse)
  }

  @Test func theCommittedExampleOfVersion1Point2IsWhatTheWriterMakes() throws {
    let bytes = try Attack.packedVictim.parts().writer.serialized()
    #expect(try Formats.file("examples/packed-1.2.clipc", bytes) == bytes)
    let tokens = try Attack.tokenScaleVictim.parts().writer.serialized()
    #expect(try Formats.file("examples/tokens-1.2.clipc", tokens) == tokens)
    let attention = try Attack.integerAttentionVictim.parts().writer.serialized()
    #expect(try Formats.file("examples/attention-1.2.clipc", attention) == attention)
  }

  @Test func theCommittedExampleOfVersion1Point3IsWhatTheWriterMakes() throws {
    let bytes = try Attack.expertVictim.parts().writer.serialized()
    #expect(try Formats.file("examples/experts-1.3.clipc", bytes) == bytes)
  }

  @Test func aFileStatesTheOldestVersionThatHasWhatItUses() throws {
    let plain = AlignedBytes(try TinyModel().parts().writer.serialized())
    #expect(try ModelReader(plain.raw).minorVersion == 0)
    let newer = AlignedBytes(try Attack.shortenedVictim.parts().writer.serialized())
    #expect(try ModelReader(newer.raw).minorVersion == 1)
    let sparse = AlignedBytes(try Attack.sparseVictim.parts().writer.serialized())
    #expect(try ModelReader(sparse.raw).minorVersion == 1)
    var narrow = Attack.victim
    narrow.activationBitCount = 4
    let codes = AlignedBytes(try narrow.parts().writer.serialized())
    #expect(try ModelReader(codes.raw).minorVersion == 2)
    var grouped = Attack.victim
    grouped.groupSize = 4
    grouped.width = 8
    let groups = AlignedBytes(try grouped.parts().writer.serialized())
    #expect(try ModelReader(groups.raw).minorVersion == 2)
    var pairs = TinyModel()
    pairs.precision = .bfloat16
    let short = AlignedBytes(try pairs.parts().writer.serialized())
    #expect(try ModelReader(short.raw).minorVersion == 5)
    let experts = AlignedBytes(try Attack.expertVictim.parts().writer.serialized())
    #expect(try ModelReader(experts.raw).minorVersion == 3)
  }

  @Test func thePlanSharesSlots() throws {
    let program = try #require(TinyModel().parts().image)
    #expect(program.slotCount < 6)
    #expect(program.buffers.count > 15)
  }

  @Test func theWriterRefusesWhatTheReaderWould() throws {
    var parts = TinyModel().parts()
    parts.info.embeddingWidth = 7
    #expect(throws: ModelError.wrongResult(.image)) { _ = try parts.writer.serialized() }
    parts = TinyModel().parts()
    parts.info.logitScale = .nan
    #expect(throws: ModelError.self) { _ = try parts.writer.serialized() }
    parts.image = nil
    parts.text = nil
    #expect(throws: ModelError.noProgram) { _ = try parts.writer.serialized() }
  }

  @Test func longNamesAreCutAtACharacter() throws {
    var parts = TinyModel().parts()
    parts.tensorNames[0] = String(repeating: "é", count: 200)
    let bytes = AlignedBytes(try parts.writer.serialized())
    let reader = try ModelReader(bytes.raw)
    #expect(reader.name(ofTensor: 0) == String(repeating: "é", count: 127))
  }

  @Test func theSpecificationListsEveryCode() throws {
    let text = try String(
      contentsOf: Formats.folder.appending(path: "model.md"), encoding: .utf8)
    for code in OpCode.allCases {
      let name = "\(code)".map { $0.isUppercase ? "_\($0.lowercased())" : "\($0)" }.joined()
      #expect(
        text.contains("| \(code.rawValue) | `\(name)` | \(code.wordCount) |"), "\(code)")
    }
    for kind in SectionKind.allCases {
      #expect(text.contains("| \(kind.rawValue) | `\(kind)` |"), "\(kind)")
    }
  }
}
