/// A row of the section table that was understood or skipped.
public struct SectionRecord: Equatable, Sendable {
  /// The kind as it stands in the file.
  public let kind: UInt32
  /// Where the section starts, in bytes.
  public let offset: Int
  /// Its bytes without the zeros up to the next section.
  public let byteCount: Int
  /// CRC-32C of its bytes.
  public let checksum: UInt32
}

/// A runtime file, validated as a whole and then used where it lies.
///
/// The reader borrows the bytes: they must neither move nor change while it or anything made from
/// it is in use. It copies the tables, never the weights.
public struct ModelReader: @unchecked Sendable {
  /// Which checksums are held against the bytes when a file is opened.
  public enum Integrity: Sendable {
    /// None: for memory that is checked otherwise, and for tests of the checks behind.
    case structure
    /// Header, tables and all sections but the weights, so that opening does not read these.
    case tables
    /// All sections, and every number of the tensors by ``ModelReader/verifyContents()``.
    case everything
  }

  /// The whole file.
  public let bytes: UnsafeRawBufferPointer
  /// Minor version of the file; newer than ``Layout/minorVersion`` is possible.
  public let minorVersion: UInt16
  /// The section table.
  public let sections: [SectionRecord]
  /// The fixed facts.
  public let info: ModelInfo
  /// The tensor table.
  public let tensors: [TensorRecord]
  /// The program of the image tower.
  public let imageProgram: Program?
  /// The program of the text tower.
  public let textProgram: Program?
  /// Offset and byte count of every name, in the order of ``name(ofTensor:)``'s tables.
  let names: NameTable
  /// The classes that the file knows; nil where it knows none.
  public let labels: LabelTable?
  /// The bytes that tensor offsets count from.
  public let weights: UnsafeRawBufferPointer

  /// Validates `bytes`.
  ///
  /// - Parameters:
  ///   - bytes: The whole file, at a multiple of 64 in memory (as mappings are).
  ///   - integrity: How much of the content is held against its checksum.
  /// - Throws: ``ModelError``, the first fault found; hostile bytes do no harm.
  /// - Complexity: O(tables and the bits of sparse tensors), plus O(bytes) of what `integrity`
  ///   includes.
  public init(
    _ bytes: UnsafeRawBufferPointer, integrity: Integrity = .tables
  ) throws(ModelError) {
    let (minorVersion, sections) = try SectionTable.read(bytes, integrity)
    func cursor(_ kind: SectionKind) -> Cursor? {
      guard let section = sections.first(where: { $0.kind == kind.rawValue }) else { return nil }
      let range = section.offset..<(section.offset + section.byteCount)
      return Cursor(
        UnsafeRawBufferPointer(rebasing: bytes[range]), kind, at: section.offset)
    }
    func required(_ kind: SectionKind) throws(ModelError) -> Cursor {
      guard let found = cursor(kind) else { throw .missingSection(kind) }
      return found
    }
    var infoCursor = try required(.info)
    var tensorCursor = try required(.tensors)
    let weights = try required(.weights)
    var imageCursor = cursor(.imageProgram)
    var textCursor = cursor(.textProgram)
    guard imageCursor != nil || textCursor != nil else { throw .noProgram }
    let info = try ModelInfo(
      &infoCursor, hasImage: imageCursor != nil, hasText: textCursor != nil)
    let tensors = try ModelReader.tensorTable(&tensorCursor, weights)
    imageProgram = try ModelReader.program(&imageCursor, .image, info, tensors)
    textProgram = try ModelReader.program(&textCursor, .text, info, tensors)
    var nameCursor = cursor(.names)
    names = try NameTable(
      &nameCursor, tensors: tensors.count, image: imageProgram?.instructions.count ?? 0,
      text: textProgram?.instructions.count ?? 0)
    labels = try ModelReader.labels(cursor(.labels), info)
    self.bytes = bytes
    self.minorVersion = minorVersion
    self.sections = sections
    self.info = info
    self.tensors = tensors
    self.weights = weights.bytes
    if integrity == .everything { try verifyContents() }
  }

  private static func tensorTable(
    _ cursor: inout Cursor, _ weights: Cursor
  ) throws(ModelError) -> [TensorRecord] {
    let count = try cursor.count(.tensorCount, in: 1...Limit.tensorCount)
    for _ in 0..<3 { try cursor.zero() }
    var tensors: [TensorRecord] = []
    var offset = 0
    for index in 0..<count {
      let record = try TensorRecord(
        &cursor, index: index, expectedOffset: offset, weightsByteCount: weights.bytes.count)
      let end = offset + record.byteCount
      offset += aligned(record.byteCount)
      try SectionTable.requireZero(weights.bytes, end..<offset, at: weights.fileOffset)
      if record.isSparse {
        try verifySparse(
          index, record, UnsafeRawBufferPointer(rebasing: weights.bytes[record.offset..<end]))
      }
      tensors.append(record)
    }
    try cursor.finish()
    guard offset == weights.bytes.count else {
      throw .oversizedSection(.weights, offset: weights.fileOffset + offset)
    }
    return tensors
  }

  private static func labels(
    _ cursor: Cursor?, _ info: ModelInfo
  ) throws(ModelError) -> LabelTable? {
    guard var cursor else { return nil }
    return try LabelTable(&cursor, embeddingWidth: info.embeddingWidth)
  }

  private static func program(
    _ cursor: inout Cursor?, _ tower: Tower, _ info: ModelInfo, _ tensors: [TensorRecord]
  ) throws(ModelError) -> Program? {
    guard var cursor else { return nil }
    let program = try Program(&cursor, tower)
    try program.verify(tower, info, tensors)
    return program
  }

  /// The program of a tower, where the file has one.
  public func program(_ tower: Tower) -> Program? {
    tower == .image ? imageProgram : textProgram
  }

  /// The bytes of a section, where the file has it.
  public func section(_ kind: SectionKind) -> UnsafeRawBufferPointer? {
    guard let section = sections.first(where: { $0.kind == kind.rawValue }) else { return nil }
    return UnsafeRawBufferPointer(
      rebasing: bytes[section.offset..<(section.offset + section.byteCount)])
  }

  /// The bytes of a tensor, without padding.
  ///
  /// - Precondition: `index` is one of ``tensors``.
  public func data(ofTensor index: Int) -> UnsafeRawBufferPointer {
    let record = tensors[index]
    return UnsafeRawBufferPointer(
      rebasing: weights[record.offset..<(record.offset + record.byteCount)])
  }
}
