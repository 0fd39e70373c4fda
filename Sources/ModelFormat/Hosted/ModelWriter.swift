/// Gathers the parts of a runtime file and writes it.
///
/// The same parts give the same bytes. What it writes, ``ModelReader`` accepts: the same checks
/// run before the first byte is written.
public struct ModelWriter: Sendable {
  private let info: ModelInfo
  private var tensors: [StoredTensor] = []
  private var tensorNames: [String] = []
  private var programs: [Program?] = [nil, nil]
  private var instructionNames: [[String]] = [[], []]
  private var extra: [SectionKind: [UInt8]] = [:]
  private var labels: [UInt8]?

  /// Starts a file with these facts.
  public init(info: ModelInfo) { self.info = info }

  /// Adds a tensor and returns its index.
  public mutating func add(_ tensor: StoredTensor, name: String) -> Int {
    tensors.append(tensor)
    tensorNames.append(name)
    return tensors.count - 1
  }

  /// Sets a tower's program.
  ///
  /// - Precondition: there is a name for each instruction.
  public mutating func set(_ program: Program, names: [String], for tower: Tower) {
    precondition(names.count == program.instructions.count, "each instruction has a name")
    programs[Int(tower.rawValue)] = program
    instructionNames[Int(tower.rawValue)] = names
  }

  /// Sets the bytes of a section that the runtime hands on without reading it.
  ///
  /// - Precondition: `kind` is `tokenizer`, `imageTransform` or `metadata`.
  public mutating func set(_ bytes: [UInt8], for kind: SectionKind) {
    switch kind {
    case .tokenizer, .imageTransform, .metadata: extra[kind] = bytes
    default: preconditionFailure("the writer makes section \(kind) itself")
    }
  }

  /// Sets the classes that the file knows by itself.
  ///
  /// - Parameters:
  ///   - names: One at least.
  ///   - embeddings: `[names, embedding width]`, each row of norm 1.
  /// - Precondition: there is a row for each name.
  public mutating func setLabels(_ names: [String], embeddings: [Float]) {
    precondition(embeddings.count == names.count * info.embeddingWidth, "a row for each label")
    labels = LabelTable.encoded(names, embeddings)
  }

  /// Writes the file piece by piece, in order.
  ///
  /// - Throws: ``ModelWriterError/model(_:)`` before the first byte when the parts do not make a
  ///   valid file, ``ModelWriterError/sink(_:)`` with what `sink` throws.
  public func write<Failure: Error>(
    to sink: (UnsafeRawBufferPointer) throws(Failure) -> Void
  ) throws(ModelWriterError<Failure>) {
    let records = tensorRecords()
    do {
      try verify(records)
    } catch {
      throw .model(error)
    }
    var sections: [(kind: SectionKind, bytes: [UInt8]?)] = [
      (.info, infoBytes()), (.tensors, tableBytes(records)),
    ]
    for tower in Tower.allCases {
      if let program = programs[Int(tower.rawValue)] {
        sections.append((tower.section, program.encoded))
      }
    }
    for kind in [SectionKind.tokenizer, .imageTransform, .metadata] {
      if let bytes = extra[kind] { sections.append((kind, bytes)) }
    }
    sections.append((.names, nameBytes()))
    if let labels { sections.append((.labels, labels)) }
    sections.append((.weights, nil))
    do {
      try emit(sections, records, sink)
    } catch {
      throw .sink(error)
    }
  }

  /// The whole file in memory, aligned for nothing in particular.
  public func serialized() throws(ModelError) -> [UInt8] {
    var bytes: [UInt8] = []
    do {
      try write { piece in bytes.append(contentsOf: piece) }
    } catch {
      switch error {
      case .model(let fault): throw fault
      }
    }
    return bytes
  }

  // MARK: Parts

  private func tensorRecords() -> [TensorRecord] {
    var offset = 0
    return tensors.map { tensor in
      defer { offset += aligned(tensor.bytes.count) }
      return TensorRecord(
        storedType: tensor.storedType, layout: tensor.layout, rows: tensor.rows,
        columns: tensor.columns, pattern: tensor.pattern, codeBitCount: tensor.codeBitCount,
        groupSize: tensor.groupSize, offset: offset, byteCount: tensor.bytes.count)
    }
  }

  private func verify(_ records: [TensorRecord]) throws(ModelError) {
    guard programs.contains(where: { $0 != nil }) else { throw .noProgram }
    try infoBytes().withRawBytes { bytes throws(ModelError) in
      var cursor = Cursor(bytes, .info, at: 0)
      let hasImage = programs[0] != nil
      _ = try ModelInfo(&cursor, hasImage: hasImage, hasText: programs[1] != nil)
    }
    for tower in Tower.allCases {
      guard let program = programs[Int(tower.rawValue)] else { continue }
      try program.encoded.withRawBytes { bytes throws(ModelError) in
        var cursor = Cursor(bytes, tower.section, at: 0)
        try Program(&cursor, tower).verify(tower, info, records)
      }
    }
    try verifyLabels()
  }

  private func verifyLabels() throws(ModelError) {
    try labels?.withRawBytes { bytes throws(ModelError) in
      var cursor = Cursor(bytes, .labels, at: 0)
      try LabelTable(&cursor, embeddingWidth: info.embeddingWidth).verifyContents()
    }
  }

  private func infoBytes() -> [UInt8] {
    var bytes: [UInt8] = []
    for value in [
      info.embeddingWidth, info.imageChannelCount, info.imageHeight, info.imageWidth,
      info.contextLength, info.vocabularyCount,
    ] { bytes.append(UInt32(value)) }
    bytes.append(info.logitScale.bitPattern)
    bytes.append(UInt32(info.startToken))
    bytes.append(UInt32(info.endToken))
    bytes.append(UInt32(0))
    return bytes
  }

  private func tableBytes(_ records: [TensorRecord]) -> [UInt8] {
    var bytes: [UInt8] = []
    for word in [UInt32(records.count), 0, 0, 0] { bytes.append(word) }
    for record in records {
      bytes.append(record.storedType.rawValue)
      bytes.append(record.layout.rawValue)
      let bits = record.storedType == .codes ? UInt16(record.codeBitCount) : 0
      bytes.append(
        record.pattern.map { UInt16($0.keptCount) | UInt16($0.groupCount) << 8 } ?? bits)
      bytes.append(UInt32(record.rows))
      bytes.append(UInt32(record.columns))
      bytes.append(UInt32(record.groupSize))
      bytes.append(UInt64(record.offset))
      bytes.append(UInt64(record.byteCount))
    }
    return bytes
  }

  private func nameBytes() -> [UInt8] {
    let names = tensorNames + instructionNames[0] + instructionNames[1]
    var bytes: [UInt8] = []
    bytes.append(UInt32(names.count))
    for name in names {
      var kept = name
      while kept.utf8.count > Limit.nameByteCount { kept.removeLast() }
      bytes.append(UInt16(kept.utf8.count))
      bytes.append(contentsOf: kept.utf8)
    }
    return bytes
  }

  // MARK: Bytes

  private func emit<Failure: Error>(
    _ sections: [(kind: SectionKind, bytes: [UInt8]?)], _ records: [TensorRecord],
    _ sink: (UnsafeRawBufferPointer) throws(Failure) -> Void
  ) throws(Failure) {
    let checksum = Checksum()
    let weightsByteCount = records.last.map { $0.offset + aligned($0.byteCount) } ?? 0
    var table: [UInt8] = []
    var end = Layout.headerByteCount + sections.count * Layout.sectionRecordByteCount
    for section in sections {
      let offset = aligned(end)
      let length = section.bytes?.count ?? weightsByteCount
      end = offset + length
      table.append(section.kind.rawValue)
      table.append(UInt32(section.kind.isRequired ? 1 : 0))
      table.append(UInt64(offset))
      table.append(UInt64(length))
      table.append(
        section.bytes.map { $0.withUnsafeBytes { checksum.value(of: $0) } }
          ?? weightsChecksum(checksum))
      table.append(UInt32(0))
    }
    var header = headerBytes(fileByteCount: end, sectionCount: sections.count)
    let whole = header + table
    let sum = whole.withUnsafeBytes {
      SectionTable.headerChecksum(of: $0, end: whole.count, checksum)
    }
    withUnsafeBytes(of: sum.littleEndian) { header.replaceSubrange(28..<32, with: $0) }
    var written = 0
    func put(_ bytes: [UInt8]) throws(Failure) {
      try bytes.withRawBytes(sink)
      written += bytes.count
    }
    func pad() throws(Failure) {
      try put([UInt8](repeating: 0, count: aligned(written) - written))
    }
    try put(header + table)
    for section in sections {
      try pad()
      if let bytes = section.bytes {
        try put(bytes)
      } else {
        for tensor in tensors {
          try put(tensor.bytes)
          try pad()
        }
      }
    }
  }

  private func weightsChecksum(_ checksum: Checksum) -> UInt32 {
    var value: UInt32 = 0
    let zeros = [UInt8](repeating: 0, count: 64)
    for tensor in tensors {
      value = tensor.bytes.withUnsafeBytes { checksum.value(of: $0, after: value) }
      let padding = aligned(tensor.bytes.count) - tensor.bytes.count
      value = zeros[0..<padding].withUnsafeBytes { checksum.value(of: $0, after: value) }
    }
    return value
  }

  /// The oldest minor version that has what the file uses.
  private var minorVersion: UInt16 {
    let programs = programs.compactMap { $0 }
    let codes = programs.flatMap(\.instructions).map(\.opCode.minorVersion)
    let buffers = programs.flatMap(\.buffers).map(\.minorVersion)
    let sections: [UInt16] = labels == nil ? [] : [4]
    return (codes + buffers + tensors.map(\.minorVersion) + sections).max() ?? 0
  }

  private func headerBytes(fileByteCount: Int, sectionCount: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.append(Layout.magic)
    bytes.append(Layout.majorVersion)
    bytes.append(minorVersion)
    bytes.append(Layout.byteOrderMarker)
    bytes.append(UInt64(fileByteCount))
    bytes.append(UInt32(sectionCount))
    for _ in 0..<9 { bytes.append(UInt32(0)) }
    return bytes
  }
}

/// Why a file was not written.
public enum ModelWriterError<Sink: Error>: Error {
  /// The parts do not make a valid file.
  case model(ModelError)
  /// The receiver of the bytes failed.
  case sink(Sink)
}

extension [UInt8] {
  /// Appends a number in little-endian order.
  mutating func append<T: FixedWidthInteger>(_ value: T) {
    Swift.withUnsafeBytes(of: value.littleEndian) { append(contentsOf: $0) }
  }

  /// Lends the bytes to a function that throws a type of its own.
  func withRawBytes<Failure: Error>(
    _ body: (UnsafeRawBufferPointer) throws(Failure) -> Void
  ) throws(Failure) {
    try withUnsafeBufferPointer { bytes throws(Failure) in try body(UnsafeRawBufferPointer(bytes)) }
  }
}

extension Program {
  /// The section of the program.
  var encoded: [UInt8] {
    var bytes: [UInt8] = []
    for word in [
      UInt32(buffers.count), UInt32(slotCount), UInt32(instructions.count), poolingRule.rawValue,
      UInt32(endToken), 0, 0, 0,
    ] { bytes.append(word) }
    for buffer in buffers {
      let type: StoredType =
        buffer.isIndices ? .int32 : buffer.quantization == nil ? .float32 : .uint8
      bytes.append(type.rawValue)
      switch buffer.rows {
      case .perItem(let rows):
        bytes.append(UInt8(0))
        bytes.append(UInt16(buffer.slot))
        bytes.append(UInt32(rows))
      case .perToken:
        bytes.append(UInt8(1))
        bytes.append(UInt16(buffer.slot))
        bytes.append(UInt32(0))
      case .perSlot(let rows):
        bytes.append(UInt8(2))
        bytes.append(UInt16(buffer.slot))
        bytes.append(UInt32(rows))
      }
      bytes.append(UInt32(buffer.columns))
      bytes.append(buffer.quantization?.scale.bitPattern ?? 0)
      bytes.append(buffer.quantization?.inverseScale.bitPattern ?? 0)
      bytes.append(buffer.quantization?.zeroPoint ?? 0)
      bytes.append(buffer.quantization?.lowest ?? 0)
      bytes.append(UInt16(255 - (buffer.quantization?.highest ?? 255)))
    }
    for instruction in instructions {
      for word in instruction.words { bytes.append(word) }
    }
    return bytes
  }
}
