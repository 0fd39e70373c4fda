import ModelFormat

/// A bad file and what the reader must say about it.
package struct Attack: Sendable {
  /// What is wrong, also the name of the file in `formats/attacks`.
  package let name: String
  /// The file.
  package let bytes: [UInt8]
  /// The answer.
  package let expected: ModelError

  /// The smallest model of both towers that has every kind of buffer.
  package static var victim: TinyModel {
    var model = TinyModel()
    model.precision = .integer
    model.width = 4
    model.headCount = 1
    model.headWidth = 2
    model.neuronCount = 4
    model.layerCount = 1
    model.imageExtent = 4
    model.patchSize = 2
    model.vocabularyCount = 5
    model.contextLength = 3
    model.embeddingWidth = 2
    return model
  }

  /// The smallest model whose image tower drops tokens, then merges some.
  package static var shortenedVictim: TinyModel {
    var model = victim
    model.precision = .float
    model.layerCount = 3
    model.imageExtent = 6
    model.mergedCount = 1
    model.dropsTokens = true
    return model
  }

  /// The smallest model with sparse tensors of every layout.
  package static var sparseVictim: TinyModel {
    var model = victim
    model.precision = .float
    model.towers = [.image]
    model.isSparse = true
    model.width = 6
    model.neuronCount = 70
    return model
  }

  /// The smallest model with codes of few bits in groups and floats of 16 bits.
  package static var packedVictim: TinyModel {
    var model = victim
    model.width = 10
    model.neuronCount = 10
    model.codeBitCount = 3
    model.groupSize = 4
    model.activationBitCount = 4
    model.hasShortFloats = true
    return model
  }

  /// A small model whose products are of bfloat16.
  package static var pairVictim: TinyModel {
    var model = Attack.victim
    model.precision = .bfloat16
    return model
  }

  /// The smallest model whose attention multiplies codes.
  package static var integerAttentionVictim: TinyModel {
    var model = victim
    model.hasIntegerAttention = true
    model.width = 6
    return model
  }

  /// The smallest model whose rows of activations have scales of their own.
  package static var tokenScaleVictim: TinyModel {
    var model = victim
    model.scalesTokens = true
    return model
  }

  /// The smallest model whose layer is a mixture of experts, in integers.
  package static var expertVictim: TinyModel {
    var model = victim
    (model.expertCount, model.expertTopK, model.expertCapacity) = (3, 2, 2)
    model.neuronCount = 6
    return model
  }

  /// The smallest model of one tower that knows two classes.
  package static var labelVictim: TinyModel {
    var model = victim
    model.precision = .float
    model.towers = [.image]
    model.labels = ["cat", "na\u{EF}ve \u{72AC}"]
    return model
  }

  /// One attack for each check of the reader.
  package static func all() throws -> [Attack] {
    let file = try victim.parts().writer.serialized()
    return header(file) + sections(file) + facts(file) + tensors(file) + programs(file)
      + buffers(file) + instructions(file) + names(file)
      + reductions(try shortenedVictim.parts().writer.serialized())
      + sparseTensors(try sparseVictim.parts().writer.serialized())
      + packedTensors(try packedVictim.parts().writer.serialized())
      + pairs(try pairVictim.parts().writer.serialized())
      + integerAttention(try integerAttentionVictim.parts().writer.serialized())
      + tokenScales(try tokenScaleVictim.parts().writer.serialized())
      + experts(try expertVictim.parts().writer.serialized())
      + labels(try labelVictim.parts().writer.serialized())
  }

  init(_ name: String, _ bytes: [UInt8], _ expected: ModelError) {
    self.name = name
    self.bytes = bytes
    self.expected = expected
  }

  /// Edits one section.
  init(
    _ name: String, _ file: [UInt8], _ kind: SectionKind, _ expected: ModelError,
    _ edit: (inout [UInt8]) -> Void
  ) {
    var editor = FileEditor(file)
    edit(&editor[kind])
    self.init(name, editor.assembled, expected)
  }

  /// Edits the header or the section table, whose checksum is made right again.
  init(
    _ name: String, header file: [UInt8], _ expected: ModelError, _ edit: (inout [UInt8]) -> Void
  ) {
    var file = file
    edit(&file)
    file.repairHeaderChecksum()
    self.init(name, file, expected)
  }
}

/// Where a section starts in a file.
func sectionStart(_ kind: SectionKind, _ file: [UInt8]) -> Int {
  Int(file.number(row(kind, file) + 8, UInt64.self))
}

/// Where a section's row starts in the section table.
private func row(_ kind: SectionKind, _ file: [UInt8]) -> Int {
  let index = (0..<64).first { file.number(64 + $0 * 32, UInt32.self) == kind.rawValue } ?? 0
  return 64 + index * 32
}

extension Attack {
  private static func header(_ file: [UInt8]) -> [Attack] {
    var textMode = file
    textMode.remove(at: 4)
    var bitSeven = file
    bitSeven[0] = 0x41
    var container = file
    container.put(Layout.containerMagic, at: 0)
    var checksum = file
    checksum[28] ^= 1
    return [
      Attack("empty", [], .tooShort(byteCount: 0)),
      Attack("magic-cut", Array(file[..<4]), .notAModelFile),
      Attack("header-cut", Array(file[..<40]), .tooShort(byteCount: 40)),
      Attack("other-format", Array("GGUF".utf8) + file[4...], .notAModelFile),
      Attack("text-mode", textMode, .damagedByTextTransfer),
      Attack("seven-bits", bitSeven, .damagedByTextTransfer),
      Attack("container", container, .compressedContainer),
      Attack(
        "truncated", Array(file[..<1000]),
        .wrongFileLength(
          expected: UInt64(file.count), found: 1000)),
      Attack(
        "header-checksum", checksum,
        .headerChecksum(
          expected: checksum.number(28, UInt32.self), found: file.number(28, UInt32.self))),
      Attack("byte-order", header: file, .wrongByteOrder(found: 0x0403_0201)) {
        $0.put(UInt32(0x0403_0201), at: 12)
      },
      Attack("version-newer", header: file, .unsupportedVersion(major: 2, minor: 0)) {
        $0.put(UInt16(2), at: 8)
      },
      Attack("version-zero", header: file, .unsupportedVersion(major: 0, minor: 7)) {
        $0.put(UInt16(0), at: 8)
        $0.put(UInt16(7), at: 10)
      },
      Attack("length-huge", header: file, .wrongFileLength(expected: .max, found: file.count)) {
        $0.put(UInt64.max, at: 16)
      },
      Attack("sections-none", header: file, .sectionCount(found: 0)) { $0.put(UInt32(0), at: 24) },
      Attack("sections-many", header: file, .sectionCount(found: 65)) {
        $0.put(UInt32(65), at: 24)
      },
      Attack("section-table-cut", header: file, .tooShort(byteCount: 128)) {
        $0.removeSubrange(128...)
        $0.put(UInt64(128), at: 16)
      },
      Attack("header-reserved", header: file, .notZero(offset: 45)) { $0[45] = 1 },
    ]
  }

  private static func sections(_ file: [UInt8]) -> [Attack] {
    let names = row(.names, file)
    let last = row(.weights, file)
    let weights = sectionStart(.weights, file)
    let weightsLength = UInt64(file.count - weights)
    var flipped = file
    flipped[sectionStart(.info, file)] ^= 1
    let infoChecksum = file.number(row(.info, file) + 24, UInt32.self)
    let infoEnd = sectionStart(.info, file) + 40
    let flippedChecksum = flipped[(infoEnd - 40)..<infoEnd].withUnsafeBytes {
      Checksum().value(of: $0)
    }
    return [
      Attack("section-unknown-required", header: file, .unsupportedSection(kind: 200)) {
        $0.put(UInt32(200), at: names)
        $0.put(UInt32(1), at: names + 4)
      },
      Attack("section-unknown-flags", header: file, .sectionFlags(kind: 200, found: 2)) {
        $0.put(UInt32(200), at: names)
        $0.put(UInt32(2), at: names + 4)
      },
      Attack("section-flags", header: file, .sectionFlags(kind: 256, found: 0)) {
        $0.put(UInt32(0), at: last + 4)
      },
      Attack("section-twice", header: file, .sectionOrder(kind: 7)) {
        $0.put(UInt32(7), at: names)
      },
      Attack("section-order", header: file, .sectionOrder(kind: 6)) {
        $0.put(UInt32(6), at: names)
      },
      Attack(
        "section-hole", header: file,
        .sectionOffset(kind: 256, expected: UInt64(weights), found: UInt64(weights + 64))
      ) { $0.put(UInt64(weights + 64), at: last + 8) },
      Attack(
        "section-overlap", header: file,
        .sectionOffset(kind: 256, expected: UInt64(weights), found: UInt64(weights - 64))
      ) { $0.put(UInt64(weights - 64), at: last + 8) },
      Attack("section-length", header: file, .sectionLength(kind: 256, length: .max - 63)) {
        $0.put(UInt64.max - 63, at: last + 16)
      },
      Attack("section-reserved", header: file, .notZero(offset: last + 28)) { $0[last + 28] = 1 },
      Attack("section-padding", header: file, .notZero(offset: infoEnd)) { $0[infoEnd] = 1 },
      Attack("trailing-bytes", header: file, .trailingBytes(count: 64)) {
        $0.put(weightsLength - 64, at: last + 16)
      },
      Attack(
        "section-checksum", flipped,
        .sectionChecksum(kind: 1, expected: infoChecksum, found: flippedChecksum)),
      without("info-missing", file, [.info], .missingSection(.info)),
      without("tensors-missing", file, [.tensors], .missingSection(.tensors)),
      without("weights-missing", file, [.weights], .missingSection(.weights)),
      without("programs-missing", file, [.imageProgram, .textProgram], .noProgram),
    ]
  }

  private static func without(
    _ name: String, _ file: [UInt8], _ kinds: [SectionKind], _ expected: ModelError
  ) -> Attack {
    var editor = FileEditor(file)
    for kind in kinds { editor.remove(kind) }
    return Attack(name, editor.assembled, expected)
  }

  private static func facts(_ file: [UInt8]) -> [Attack] {
    let start = sectionStart(.info, file)
    func field(_ name: String, _ field: Field, _ index: Int, _ value: UInt32) -> Attack {
      Attack(
        name, file, .info, .field(field, offset: start + index * 4, found: UInt64(value))
      ) { $0.put(value, at: index * 4) }
    }
    return [
      field("embedding-width-zero", .embeddingWidth, 0, 0),
      field("embedding-width-huge", .embeddingWidth, 0, 65_537),
      field("channels-many", .imageChannelCount, 1, 17),
      field("image-height-zero", .imageHeight, 2, 0),
      field("image-width-huge", .imageWidth, 3, .max),
      field("context-zero", .contextLength, 4, 0),
      field("vocabulary-huge", .vocabularyCount, 5, .max),
      field("logit-scale-nan", .logitScale, 6, Float.nan.bitPattern),
      field("logit-scale-zero", .logitScale, 6, 0),
      field("start-token", .startToken, 7, 5),
      field("end-token", .endToken, 8, 5),
      Attack("info-reserved", file, .info, .notZero(offset: start + 36)) { $0[36] = 1 },
      Attack("info-cut", file, .info, .truncatedSection(.info, offset: start + 32)) {
        $0.removeLast(8)
      },
      Attack("info-long", file, .info, .oversizedSection(.info, offset: start + 40)) {
        $0 += [0, 0]
      },
    ]
  }

  private static func tensors(_ file: [UInt8]) -> [Attack] {
    let editor = FileEditor(file)
    let table = editor[.tensors]
    let count = Int(table.number(0, UInt32.self))
    let start = sectionStart(.tensors, file)
    let record = 16
    let end = 16 + (count - 1) * 32
    let lastOffset = table.number(end + 16, UInt64.self)
    func fault(
      _ name: String, _ fault: TensorFault, index: Int = 0, _ edit: (inout [UInt8]) -> Void
    ) -> Attack { Attack(name, file, .tensors, .tensor(index: index, fault), edit) }
    func bulk(_ value: UInt32) -> ModelError {
      .field(.tensorCount, offset: start, found: UInt64(value))
    }
    let small = (0..<count).first { table.number(16 + $0 * 32 + 24, UInt64.self) % 64 != 0 } ?? 0
    let smallEnd = Int(
      table.number(16 + small * 32 + 16, UInt64.self)
        + table.number(16 + small * 32 + 24, UInt64.self))
    let weights = sectionStart(.weights, file)
    return [
      Attack("tensors-none", file, .tensors, bulk(0)) { $0.put(UInt32(0), at: 0) },
      Attack("tensors-many", file, .tensors, bulk(.max)) { $0.put(UInt32.max, at: 0) },
      Attack("tensors-reserved", file, .tensors, .notZero(offset: start + 8)) { $0[8] = 1 },
      Attack(
        "tensors-cut", file, .tensors,
        .truncatedSection(.tensors, offset: start + table.count - 8)
      ) { $0.removeLast(8) },
      Attack(
        "tensors-long", file, .tensors, .oversizedSection(.tensors, offset: start + table.count)
      ) { $0 += [0] },
      fault("tensor-type", .storedType(found: 9)) { $0[record] = 9 },
      fault("tensor-layout", .layout(found: 9)) { $0[record + 1] = 9 },
      fault("tensor-layout-of-int32", .layout(found: 1)) {
        $0[record] = StoredType.int32.rawValue
        $0[record + 1] = 1
      },
      fault("tensor-reserved", .reserved) { $0[record + 2] = 1 },
      fault("tensor-rows-zero", .rows(found: 0)) { $0.put(UInt32(0), at: record + 4) },
      fault("tensor-rows-huge", .rows(found: .max)) { $0.put(UInt32.max, at: record + 4) },
      fault("tensor-columns-zero", .columns(found: 0)) { $0.put(UInt32(0), at: record + 8) },
      fault("tensor-columns-huge", .columns(found: 65_537)) {
        $0.put(UInt32(65_537), at: record + 8)
      },
      fault("tensor-offset", .offset(expected: 0, found: 64)) {
        $0.put(UInt64(64), at: record + 16)
      },
      fault("tensor-overlap", .offset(expected: lastOffset, found: 0), index: count - 1) {
        $0.put(UInt64(0), at: end + 16)
      },
      fault(
        "tensor-bytes", .byteCount(expected: table.number(record + 24, UInt64.self), found: 1)
      ) { $0.put(UInt64(1), at: record + 24) },
      fault("tensor-past-weights", .pastWeights, index: count - 1) {
        $0.put(UInt32(1 << 24), at: end + 4)
        let rows = UInt64(1 << 24)
        let columns = UInt64($0.number(end + 8, UInt32.self))
        $0.put(rows * ((columns + 3) / 4 * 4), at: end + 24)
        $0[end] = StoredType.int8.rawValue
        $0[end + 1] = 1
      },
      Attack(
        "tensor-padding", file, .weights, .notZero(offset: weights + smallEnd)
      ) { $0[smallEnd] = 1 },
      Attack(
        "weights-long", file, .weights,
        .oversizedSection(.weights, offset: weights + editor[.weights].count)
      ) { $0 += [UInt8](repeating: 0, count: 64) },
    ]
  }
}
