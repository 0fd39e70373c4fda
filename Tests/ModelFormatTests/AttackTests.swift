import Foundation
import ModelFormat
import RuntimeFixtures
import Testing

/// The folder `formats`, and whether the files in it are to be made anew.
enum Formats {
  /// The folder beside this package's sources.
  static var folder: URL {
    var folder = URL(filePath: #filePath).resolvingSymlinksInPath()
    for _ in 0..<3 { folder.deleteLastPathComponent() }
    return folder.appending(path: "formats")
  }

  /// Set `CLIPC_RECORD_FORMATS` to write the files instead of reading them.
  static var isRecording: Bool {
    ProcessInfo.processInfo.environment["CLIPC_RECORD_FORMATS"] != nil
  }

  /// The committed file, after it was written when recording.
  static func file(_ path: String, _ content: [UInt8]) throws -> [UInt8] {
    let url = folder.appending(path: path)
    if isRecording { try Data(content).write(to: url) }
    return [UInt8](try Data(contentsOf: url))
  }
}

func error(_ bytes: [UInt8], _ integrity: ModelReader.Integrity = .tables) -> ModelError? {
  let aligned = AlignedBytes(bytes)
  do throws(ModelError) {
    _ = try ModelReader(aligned.raw, integrity: integrity)
    return nil
  } catch { return error }
}

@Suite struct AttackTests {
  @Test func everyAttackIsRefusedForItsReason() throws {
    for attack in try Attack.all() {
      let committed = try Formats.file("attacks/\(attack.name).clipc", attack.bytes)
      #expect(committed == attack.bytes, "\(attack.name)")
      #expect(error(committed) == attack.expected, "\(attack.name)")
    }
  }

  @Test func everyAttackHasItsFileAndNoFileIsLeftOver() throws {
    let names = Set(try Attack.all().map { $0.name + ".clipc" })
    let found = try FileManager.default.contentsOfDirectory(
      atPath: Formats.folder.appending(path: "attacks").path)
    #expect(Set(found.filter { $0.hasSuffix(".clipc") }) == names)
    #expect(try Attack.all().count == names.count)
  }

  @Test func theVictimIsValid() throws {
    let victims = [
      Attack.victim, Attack.shortenedVictim, Attack.sparseVictim, Attack.packedVictim,
      Attack.tokenScaleVictim, Attack.integerAttentionVictim, Attack.expertVictim,
      Attack.labelVictim, Attack.pairVictim,
    ]
    for victim in victims {
      let file = try victim.parts().writer.serialized()
      #expect(error(file, .everything) == nil)
      #expect(FileEditor(file).assembled == file)
    }
  }

  @Test func descriptionsAreOneSentence() throws {
    for attack in try Attack.all() {
      let text = attack.expected.description
      #expect(!text.isEmpty && !text.contains("\n") && !text.hasSuffix("."), "\(attack.name)")
    }
  }

  @Test func memoryOffTheGridIsRefused() throws {
    let file = try Attack.victim.parts().writer.serialized()
    let aligned = AlignedBytes([UInt8](repeating: 0, count: 8) + file)
    #expect(throws: ModelError.misalignedMemory) {
      _ = try ModelReader(UnsafeRawBufferPointer(rebasing: aligned.raw[8...]))
    }
  }

  @Test func anUnknownOptionalSectionIsSkipped() throws {
    let file = try Attack.victim.parts().writer.serialized()
    var editor = FileEditor(file)
    let before = editor.sections.count - 1
    editor.sections.insert(.init(kind: 200, flags: 0, bytes: [1, 2, 3]), at: before)
    #expect(error(editor.assembled, .everything) == nil)
    var newer = editor.assembled
    newer.put(UInt16(9), at: 10)
    newer.repairHeaderChecksum()
    let aligned = AlignedBytes(newer)
    #expect(try ModelReader(aligned.raw).minorVersion == 9)
  }

  @Test func badNumbersInShortTensorsAreFoundByTheFullCheckOnly() throws {
    let parts = Attack.packedVictim.parts()
    let editor = FileEditor(try parts.writer.serialized())
    let file = AlignedBytes(editor.assembled)
    let model = try ModelReader(file.raw)
    func with(_ edit: (inout [UInt8]) -> Void) -> [UInt8] {
      var copy = editor
      edit(&copy[.weights])
      return copy.assembled
    }
    for (type, word) in [(StoredType.float16, UInt16(0x7C01)), (.bfloat16, 0xFF80)] {
      let short = try #require(model.tensors.firstIndex { $0.storedType == type && $0.columns > 1 })
      let infinite = with { $0.put(word, at: model.tensors[short].offset + 2) }
      #expect(error(infinite) == nil)
      #expect(error(infinite, .everything) == .tensor(index: short, .notFinite(element: 1)))
    }
    for layout in [TensorLayout.panels, .rowMajor] {
      let packed = try #require(
        model.tensors.firstIndex { $0.storedType == .codes && $0.layout == layout })
      // The last code of the last block: the high end of the last byte of its first part.
      let block = model.tensors[packed].byteCount - 24
      let padding = with { $0[model.tensors[packed].offset + block + 15] |= 0x80 }
      #expect(
        error(padding, .everything) == .tensor(index: packed, .panelPadding(offset: block)))
    }
  }

  @Test func badNumbersInWeightsAreFoundByTheFullCheckOnly() throws {
    let parts = Attack.victim.parts()
    var editor = FileEditor(try parts.writer.serialized())
    let reader = AlignedBytes(editor.assembled)
    let model = try ModelReader(reader.raw)
    let float = try #require(
      model.tensors.firstIndex { $0.storedType == .float32 && $0.columns > 1 })
    let packed = try #require(model.tensors.firstIndex { $0.layout == .panels })
    func with(_ edit: (inout [UInt8]) -> Void) -> [UInt8] {
      var copy = editor
      edit(&copy[.weights])
      return copy.assembled
    }
    let nan = with { $0.put(Float.nan.bitPattern, at: model.tensors[float].offset + 4) }
    #expect(error(nan) == nil)
    #expect(error(nan, .everything) == .tensor(index: float, .notFinite(element: 1)))
    let code = with { $0[model.tensors[packed].offset + 1] = 0x80 }
    #expect(error(code, .everything) == .tensor(index: packed, .code(element: 1)))
    let last = model.tensors[packed].byteCount - 1
    let padding = with { $0[model.tensors[packed].offset + last] = 1 }
    #expect(error(padding, .everything) == .tensor(index: packed, .panelPadding(offset: last)))
    var flipped = editor.assembled
    flipped[flipped.count - model.weights.count + model.tensors[packed].offset] ^= 1
    #expect(error(flipped) == nil)
    let found = try #require(error(flipped, .everything))
    guard case .sectionChecksum(kind: 256, _, _) = found else {
      Issue.record("\(found)")
      return
    }
    editor.remove(.names)
    #expect(error(editor.assembled, .everything) == nil)
  }
}
