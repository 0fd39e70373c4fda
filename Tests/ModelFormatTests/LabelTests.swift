import Foundation
import ModelFormat
import RuntimeFixtures
import Testing

@Suite struct LabelTests {
  @Test func whatIsWrittenIsReadBack() throws {
    var tiny = TinyModel()
    tiny.labels = ["a", "two words", String(repeating: "\u{1F600}", count: 255), "\u{7FF}", "z"]
    let parts = tiny.parts()
    let bytes = AlignedBytes(try parts.writer.serialized())
    let reader = try ModelReader(bytes.raw, integrity: .everything)
    let labels = try #require(reader.labels)
    #expect(labels.count == 5)
    #expect(labels.allNames == tiny.labels)
    #expect(Array(labels.embeddings) == parts.labelEmbeddings)
    let address = Int(bitPattern: labels.embeddings.baseAddress)
    #expect(address % 64 == 0)
    #expect(UInt(bitPattern: address) - UInt(bitPattern: bytes.raw.baseAddress) < bytes.count)
    for index in 0..<labels.count {
      let name = try #require(labels.nameBytes(index).baseAddress)
      #expect(String(cString: name.assumingMemoryBound(to: CChar.self)) == tiny.labels[index])
    }
    #expect(reader.minorVersion == 4)
    tiny.labels = []
    let without = AlignedBytes(try tiny.parts().writer.serialized())
    let plain = try ModelReader(without.raw)
    #expect(plain.labels == nil && plain.minorVersion == 0)
  }

  @Test func theCommittedExampleOfVersion1Point4IsWhatTheWriterMakes() throws {
    let bytes = try Attack.labelVictim.parts().writer.serialized()
    #expect(try Formats.file("examples/labels-1.4.clipc", bytes) == bytes)
  }

  @Test func everyCutIsRefused() throws {
    let file = try Attack.labelVictim.parts().writer.serialized()
    let editor = FileEditor(file)
    for count in 0..<editor[.labels].count {
      var cut = editor
      cut[.labels] = Array(editor[.labels].prefix(count))
      #expect(error(cut.assembled) != nil, "\(count) bytes")
    }
  }

  /// Whatever a byte of the tables becomes, names lie in the section and are text.
  @Test func noByteLeadsOutOfTheSection() throws {
    let editor = FileEditor(try Attack.labelVictim.parts().writer.serialized())
    for offset in 0..<40 {
      for value in [0, 1, 2, 4, 0x7F, 0x80, 0xC3, 0xFF] as [UInt8] {
        var damaged = editor
        damaged[.labels][offset] = value
        let bytes = AlignedBytes(damaged.assembled)
        guard let labels = try? ModelReader(bytes.raw).labels else { continue }
        for index in 0..<labels.count {
          let name = labels.nameBytes(index)
          #expect(String(validating: name, as: UTF8.self) != nil)
          #expect(!name.isEmpty && !name.contains(0))
        }
      }
    }
  }

  @Test func textIsTheStandardLibrarysText() throws {
    var numbers = Numbers(seed: 5)
    let interesting: [UInt8] = [
      0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC,
      0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF,
    ]
    let editor = FileEditor(try Attack.labelVictim.parts().writer.serialized())
    var counts = (valid: 0, invalid: 0)
    for _ in 0..<4_000 {
      let name = (0..<3).map { _ in interesting[numbers.integer(below: interesting.count)] }
      var edited = editor
      edited[.labels].replaceSubrange(24..<27, with: name)
      let isValid = String(validating: name, as: UTF8.self) != nil
      if isValid { counts.valid += 1 } else { counts.invalid += 1 }
      #expect(error(edited.assembled, .structure) == (isValid ? nil : .label(index: 0, .notText)))
    }
    #expect(counts.valid > 10 && counts.invalid > 1_000)
  }

  @Test func badEmbeddingsAreFoundByTheFullCheckOnly() throws {
    let editor = FileEditor(try Attack.labelVictim.parts().writer.serialized())
    for value in [Float.nan, .infinity, 3, 0x1p100] {
      var edited = editor
      let last = edited[.labels].count - 4
      edited[.labels].put(value.bitPattern, at: last)
      #expect(error(edited.assembled) == nil)
      #expect(error(edited.assembled, .everything) == .label(index: 1, .norm))
    }
  }

  @Test func theWriterRefusesWhatTheReaderWould() throws {
    var parts = Attack.labelVictim.parts()
    for name in ["", "a\u{0}b", String(repeating: "x", count: 1_024)] {
      parts.labels[1] = name
      #expect(throws: ModelError.self) { _ = try parts.writer.serialized() }
    }
    parts = Attack.labelVictim.parts()
    parts.labelEmbeddings[0] *= 2
    #expect(throws: ModelError.self) { _ = try parts.writer.serialized() }
  }

  @Test func olderReadersSkipTheSection() throws {
    let file = try Attack.labelVictim.parts().writer.serialized()
    let editor = FileEditor(file)
    let section = try #require(editor.sections.first { $0.kind == SectionKind.labels.rawValue })
    #expect(section.flags == 0)
  }
}
