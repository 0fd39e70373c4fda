/// Why bytes are not a runtime file that this code can run.
///
/// Numbers come from the file as they are, so a payload may hold any value; offsets count bytes
/// from the file's beginning.
public enum ModelError: Error, Equatable, Sendable {
  /// The file ends before its fixed header does.
  case tooShort(byteCount: Int)
  /// The bytes do not lie at a multiple of 64 in memory.
  case misalignedMemory
  /// The magic is not there.
  case notAModelFile
  /// The magic is there, but changed as by a transfer in text mode.
  case damagedByTextTransfer
  /// The file is a shipping container and has to be unpacked first.
  case compressedContainer
  /// The byte order marker reads otherwise than on a little-endian machine.
  case wrongByteOrder(found: UInt32)
  /// A major version that this code does not know.
  case unsupportedVersion(major: UInt16, minor: UInt16)
  /// The header states another length than the file has.
  case wrongFileLength(expected: UInt64, found: Int)
  /// The header and section table do not match their checksum.
  case headerChecksum(expected: UInt32, found: UInt32)
  /// No or too many sections.
  case sectionCount(found: UInt32)
  /// Bytes that must be zero are not.
  case notZero(offset: Int)
  /// A section that must be understood and is not.
  case unsupportedSection(kind: UInt32)
  /// A section's flags are not those of its kind.
  case sectionFlags(kind: UInt32, found: UInt32)
  /// Kinds do not ascend, or a kind occurs twice.
  case sectionOrder(kind: UInt32)
  /// A section does not start at the first aligned offset behind the one before.
  case sectionOffset(kind: UInt32, expected: UInt64, found: UInt64)
  /// A section reaches past the end of the file.
  case sectionLength(kind: UInt32, length: UInt64)
  /// Bytes lie behind the last section.
  case trailingBytes(count: Int)
  /// A section's bytes do not match its checksum.
  case sectionChecksum(kind: UInt32, expected: UInt32, found: UInt32)
  /// A section that every file has is missing.
  case missingSection(SectionKind)
  /// There is neither an image nor a text program.
  case noProgram
  /// A section ends in the middle of what it holds.
  case truncatedSection(SectionKind, offset: Int)
  /// A section goes on behind what it holds.
  case oversizedSection(SectionKind, offset: Int)
  /// A number lies outside of what its field allows.
  case field(Field, offset: Int, found: UInt64)
  /// A row of the tensor table is wrong.
  case tensor(index: Int, TensorFault)
  /// A buffer of a program is wrong.
  case buffer(Tower, index: Int, BufferFault)
  /// An instruction of a program is wrong.
  case instruction(Tower, index: Int, InstructionFault)
  /// The last instruction does not write `[1, embedding width]` float32 for each item.
  case wrongResult(Tower)
  /// A label's name or embedding is wrong.
  case label(index: Int, LabelFault)
}

/// A number of the file with a range of its own.
public enum Field: UInt8, Sendable, CaseIterable {
  /// Of ``ModelInfo``.
  case embeddingWidth, imageChannelCount, imageHeight, imageWidth, contextLength, vocabularyCount
  /// Of ``ModelInfo``; the end token also of a program.
  case logitScale, startToken, endToken
  /// Of the tensor table and of programs.
  case tensorCount, bufferCount, slotCount, instructionCount, poolingRule
  /// Of the names section.
  case nameCount, nameByteCount
  /// Of the labels section.
  case labelCount, labelByteCount
}

/// What can be wrong with a row of the tensor table.
public enum TensorFault: Equatable, Sendable {
  /// No ``StoredType`` has this raw value.
  case storedType(found: UInt8)
  /// No ``TensorLayout`` has this raw value, or not for this type.
  case layout(found: UInt8)
  /// A reserved byte is not zero.
  case reserved
  /// No rows or more than ``Limit/tensorRowCount``.
  case rows(found: UInt32)
  /// No columns or more than ``Limit/columnCount``.
  case columns(found: UInt32)
  /// The offset is not the first aligned one behind the tensor before.
  case offset(expected: UInt64, found: UInt64)
  /// The byte count is not that of the shape, type and layout.
  case byteCount(expected: UInt64, found: UInt64)
  /// The tensor reaches past the weights section.
  case pastWeights
  /// A float is infinite or no number, found by ``ModelReader/verifyContents()``.
  case notFinite(element: Int)
  /// The padding of a panel is not zero, found by ``ModelReader/verifyContents()``.
  case panelPadding(offset: Int)
  /// No pattern of columns, or one for another layout.
  case pattern(found: UInt16)
  /// No number of bits that codes can have.
  case codeBits(found: UInt16)
  /// Groups of columns that share a scale can not have this size.
  case groupSize(found: UInt32)
  /// A sparse tensor has not as many bits as values.
  case sparseValueCount(expected: Int, found: Int)
  /// A row has the number of a choice that its pattern does not have.
  case sparseChoice(row: Int)
  /// What pads the bits of a sparse tensor is not zero.
  case sparsePadding(offset: Int)
  /// A weight code is -128, found by ``ModelReader/verifyContents()``.
  case code(element: Int)
}

/// What can be wrong with a buffer of a program.
public enum BufferFault: Equatable, Sendable {
  /// Neither float32 nor uint8 nor int32.
  case elementType(found: UInt8)
  /// Neither rows for each item nor, in the text tower, for each token or its slots.
  case rowRule(found: UInt8)
  /// Rows for each token in the image tower, or a row count where tokens give it.
  case rows(found: UInt32)
  /// No columns or more than ``Limit/columnCount``.
  case columns(found: UInt32)
  /// No such slot in the memory plan.
  case slot(found: UInt16)
  /// Quantization parameters that are not finite, not positive, no inverses, or on float32.
  case quantization
  /// A reserved byte is not zero.
  case reserved
  /// No instruction writes it.
  case neverWritten
  /// It is written while another buffer in its slot is still to be read.
  case overlaps(other: Int)
}

/// What can be wrong with an instruction.
public enum InstructionFault: Equatable, Sendable {
  /// No ``OpCode`` has this raw value.
  case unknownOpCode(found: UInt16)
  /// Another number of words than the code asks for.
  case wordCount(expected: Int, found: Int)
  /// The code belongs to the other tower.
  case wrongTower
  /// No such buffer.
  case noSuchBuffer(found: UInt32)
  /// No such tensor.
  case noSuchTensor(found: UInt32)
  /// A buffer is read before any instruction wrote it.
  case readBeforeWritten(buffer: Int)
  /// A buffer is written a second time.
  case writtenTwice(buffer: Int)
  /// A buffer has an element type or quantization that the code does not take.
  case bufferType(buffer: Int)
  /// A buffer has another row count than expected.
  case bufferRows(buffer: Int)
  /// A buffer has another column count than expected.
  case bufferColumns(buffer: Int, expected: Int, found: Int)
  /// A tensor has a type or layout that the code does not take.
  case tensorType(tensor: Int)
  /// A tensor has another shape than expected.
  case tensorShape(tensor: Int, expectedRows: Int, expectedColumns: Int)
  /// A tensor is missing that the types of the others ask for, or there though they do not.
  case optionalTensor(operand: Int)
  /// A number is out of its range, infinite or no number.
  case parameter(operand: Int, found: UInt32)
}
