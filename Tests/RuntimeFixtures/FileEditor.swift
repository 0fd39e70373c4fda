import ModelFormat

/// A runtime file taken apart into sections, to be put together again after an edit.
///
/// Knows the format by its numbers only, as an attacker would.
package struct FileEditor {
  /// A section and its row of the table.
  package struct Section {
    /// The kind.
    package var kind: UInt32
    /// The flags.
    package var flags: UInt32
    /// The bytes.
    package var bytes: [UInt8]

    /// Gathers the parts.
    package init(kind: UInt32, flags: UInt32, bytes: [UInt8]) {
      self.kind = kind
      self.flags = flags
      self.bytes = bytes
    }
  }

  /// The minor version.
  package var minorVersion: UInt16
  /// The sections in order.
  package var sections: [Section] = []

  /// Takes a valid file apart.
  package init(_ file: [UInt8]) {
    minorVersion = file.number(10, UInt16.self)
    for index in 0..<Int(file.number(24, UInt32.self)) {
      let row = 64 + index * 32
      let offset = Int(file.number(row + 8, UInt64.self))
      let length = Int(file.number(row + 16, UInt64.self))
      sections.append(
        Section(
          kind: file.number(row, UInt32.self), flags: file.number(row + 4, UInt32.self),
          bytes: Array(file[offset..<(offset + length)])))
    }
  }

  /// The bytes of a section, to be edited in place.
  package subscript(kind: SectionKind) -> [UInt8] {
    get { sections.first { $0.kind == kind.rawValue }?.bytes ?? [] }
    set {
      for index in sections.indices where sections[index].kind == kind.rawValue {
        sections[index].bytes = newValue
      }
    }
  }

  /// Leaves a section out.
  package mutating func remove(_ kind: SectionKind) {
    sections.removeAll { $0.kind == kind.rawValue }
  }

  /// Puts the file together with right offsets, length and checksums.
  package var assembled: [UInt8] {
    let checksum = Checksum()
    var file = [UInt8](repeating: 0, count: 64 + sections.count * 32)
    file.put(Layout.magic, at: 0)
    file.put(UInt16(1), at: 8)
    file.put(minorVersion, at: 10)
    file.put(Layout.byteOrderMarker, at: 12)
    file.put(UInt32(sections.count), at: 24)
    for (index, section) in sections.enumerated() {
      file += [UInt8](repeating: 0, count: aligned(file.count) - file.count)
      let row = 64 + index * 32
      file.put(section.kind, at: row)
      file.put(section.flags, at: row + 4)
      file.put(UInt64(file.count), at: row + 8)
      file.put(UInt64(section.bytes.count), at: row + 16)
      file.put(section.bytes.withUnsafeBytes { checksum.value(of: $0) }, at: row + 24)
      file += section.bytes
    }
    file.put(UInt64(file.count), at: 16)
    file.repairHeaderChecksum()
    return file
  }

  /// Where an instruction's first word stands in a program section.
  package func instruction(_ index: Int, _ kind: SectionKind) -> Int {
    let program = self[kind]
    var offset = 32 + Int(program.number(0, UInt32.self)) * 24
    for _ in 0..<index { offset += Int(program.number(offset + 2, UInt16.self)) * 4 }
    return offset
  }
}

extension [UInt8] {
  /// A little-endian number at `offset`.
  package func number<T: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, _ type: T.Type) -> T {
    withUnsafeBytes { T(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: type)) }
  }

  /// Overwrites with a little-endian number at `offset`.
  package mutating func put<T: FixedWidthInteger>(_ value: T, at offset: Int) {
    Swift.withUnsafeBytes(of: value.littleEndian) {
      replaceSubrange(offset..<(offset + $0.count), with: $0)
    }
  }

  /// Makes the header's checksum right again.
  package mutating func repairHeaderChecksum() {
    let end = Swift.min(count, 64 + Int(number(24, UInt32.self)) * 32)
    put(UInt32(0), at: 28)
    put(self[..<end].withUnsafeBytes { Checksum().value(of: $0) }, at: 28)
  }
}
