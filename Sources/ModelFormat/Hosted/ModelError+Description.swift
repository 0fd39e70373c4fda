extension ModelError: CustomStringConvertible {
  /// One sentence: what, where, expected, found.
  public var description: String {
    switch self {
    case .tooShort(let byteCount):
      "runtime file: expected a header of \(Layout.headerByteCount) bytes, "
        + "found a file of \(byteCount)"
    case .misalignedMemory: "runtime file: its bytes must lie at a multiple of 64 in memory"
    case .notAModelFile: "not a clipc runtime file: the magic is missing"
    case .damagedByTextTransfer:
      "runtime file: the magic was changed as by a transfer in text mode; copy it as binary"
    case .compressedContainer: "runtime file: it is a compressed container and must be unpacked"
    case .wrongByteOrder(let found):
      "runtime file: expected the byte order marker \(hexadecimal(Layout.byteOrderMarker)), "
        + "found \(hexadecimal(found))"
    case .unsupportedVersion(let major, let minor):
      "runtime file: expected version \(Layout.majorVersion).x, found \(major).\(minor)"
    case .wrongFileLength(let expected, let found):
      "runtime file: expected \(expected) bytes as its header states, found \(found)"
    case .headerChecksum(let expected, let found):
      "runtime file, header: expected checksum \(hexadecimal(expected)), "
        + "found \(hexadecimal(found))"
    case .notZero(let offset): "runtime file: expected zero at byte \(offset)"
    case .noProgram: "runtime file: it has neither an image nor a text program"
    case .tensor(let index, let fault): "runtime file, tensor \(index): \(fault.description)"
    case .buffer(let tower, let index, let fault):
      "runtime file, \(tower) program, buffer \(index): \(fault.description)"
    case .instruction(let tower, let index, let fault):
      "runtime file, \(tower) program, instruction \(index): \(fault.description)"
    case .wrongResult(let tower):
      "runtime file, \(tower) program: expected the last instruction to write one float32 row of "
        + "the embedding width for each item"
    case .label(let index, let fault): "runtime file, label \(index): \(fault.description)"
    case .field(let field, let offset, let found):
      "runtime file, byte \(offset): \(field) \(found) is out of range"
    default: sectionDescription
    }
  }

  private var sectionDescription: String {
    switch self {
    case .sectionCount(let found):
      "runtime file: expected 1 to \(Limit.sectionCount) sections, found \(found)"
    case .unsupportedSection(let kind):
      "runtime file: section kind \(kind) is needed to run it and unknown to this version"
    case .sectionFlags(let kind, let found):
      "runtime file, section \(name(kind)): flags \(hexadecimal(found)) are not allowed for it"
    case .sectionOrder(let kind):
      "runtime file, section \(name(kind)): sections must stand once each in ascending order"
    case .sectionOffset(let kind, let expected, let found):
      "runtime file, section \(name(kind)): expected offset \(expected), found \(found)"
    case .sectionLength(let kind, let length):
      "runtime file, section \(name(kind)): its \(length) bytes reach past the end of the file"
    case .trailingBytes(let count): "runtime file: \(count) bytes lie behind the last section"
    case .sectionChecksum(let kind, let expected, let found):
      "runtime file, section \(name(kind)): expected checksum \(hexadecimal(expected)), "
        + "found \(hexadecimal(found))"
    case .missingSection(let kind): "runtime file: section \(kind) is missing"
    case .truncatedSection(let kind, let offset):
      "runtime file, section \(kind): it ends at byte \(offset) in the middle of an entry"
    case .oversizedSection(let kind, let offset):
      "runtime file, section \(kind): unexpected bytes from byte \(offset) on"
    default: "runtime file: malformed"
    }
  }

  private func name(_ kind: UInt32) -> String {
    SectionKind(rawValue: kind).map { "\($0)" } ?? "\(kind)"
  }

  private func hexadecimal(_ value: UInt32) -> String { "0x" + String(value, radix: 16) }
}

extension TensorFault: CustomStringConvertible {
  /// The fault as the end of a sentence.
  public var description: String {
    switch self {
    case .storedType(let found): "no stored type has the number \(found)"
    case .layout(let found): "layout \(found) is unknown or not for its type"
    case .reserved: "reserved bytes are not zero"
    case .rows(let found): "expected 1 to \(Limit.tensorRowCount) rows, found \(found)"
    case .columns(let found): "expected 1 to \(Limit.columnCount) columns, found \(found)"
    case .offset(let expected, let found): "expected offset \(expected), found \(found)"
    case .byteCount(let expected, let found): "expected \(expected) bytes, found \(found)"
    case .pastWeights: "it reaches past the end of the weights"
    case .notFinite(let element): "element \(element) is infinite or no number"
    case .panelPadding(let offset): "expected zero padding at its byte \(offset)"
    case .pattern(let found): "pattern \(found) is none or not for its layout"
    case .codeBits(let found): "expected codes of 2 to 7 bits, found \(found)"
    case .groupSize(let found):
      "expected groups of a multiple of 4 below its columns, found \(found)"
    case .sparseValueCount(let expected, let found):
      "expected bits for its \(expected) values, found \(found)"
    case .sparseChoice(let row): "row \(row) has a choice of columns that its pattern has not"
    case .sparsePadding(let offset): "expected zero padding at its byte \(offset)"
    case .code(let element): "element \(element) is -128, which no writer makes"
    }
  }
}

extension LabelFault: CustomStringConvertible {
  /// The fault as the end of a sentence.
  public var description: String {
    switch self {
    case .end(let found): "its name ends at byte \(found) of the names, which is not possible"
    case .byteCount(let found):
      "expected a name of 1 to \(Limit.labelByteCount) bytes, found \(found)"
    case .unterminated: "expected a zero byte behind its name"
    case .notText: "its name is not valid UTF-8 without zero bytes"
    case .norm: "expected an embedding of norm 1"
    }
  }
}

extension BufferFault: CustomStringConvertible {
  /// The fault as the end of a sentence.
  public var description: String {
    switch self {
    case .elementType(let found): "expected element type float32, uint8 or int32, found \(found)"
    case .rowRule(let found): "row rule \(found) is unknown or not for its tower"
    case .rows(let found): "\(found) rows are out of range or not for its row rule"
    case .columns(let found): "expected 1 to \(Limit.columnCount) columns, found \(found)"
    case .slot(let found): "the memory plan has no slot \(found)"
    case .quantization: "its quantization parameters do not fit its type or each other"
    case .reserved: "reserved bytes are not zero"
    case .neverWritten: "no instruction writes it"
    case .overlaps(let other): "it takes the slot of buffer \(other), which is still to be read"
    }
  }
}

extension InstructionFault: CustomStringConvertible {
  /// The fault as the end of a sentence.
  public var description: String {
    switch self {
    case .unknownOpCode(let found): "unknown code \(found)"
    case .wordCount(let expected, let found): "expected \(expected) words, found \(found)"
    case .wrongTower: "its code belongs to the other tower"
    case .noSuchBuffer(let found): "there is no buffer \(found)"
    case .noSuchTensor(let found): "there is no tensor \(found)"
    case .readBeforeWritten(let buffer): "buffer \(buffer) is read before it is written"
    case .writtenTwice(let buffer): "buffer \(buffer) is written a second time"
    case .bufferType(let buffer): "buffer \(buffer) has a type that it does not take"
    case .bufferRows(let buffer): "buffer \(buffer) has another number of rows than expected"
    case .bufferColumns(let buffer, let expected, let found):
      "buffer \(buffer): expected \(expected) columns, found \(found)"
    case .tensorType(let tensor): "tensor \(tensor) has a type or layout that it does not take"
    case .tensorShape(let tensor, let rows, let columns):
      "tensor \(tensor): expected shape [\(rows), \(columns)]"
    case .optionalTensor(let operand):
      "operand \(operand) is missing or there against the types of the others"
    case .parameter(let operand, let found): "operand \(operand) is out of range, found \(found)"
    }
  }
}
