import ModelFormat

extension Attack {
  static func programs(_ file: [UInt8]) -> [Attack] {
    let start = sectionStart(.imageProgram, file)
    let text = sectionStart(.textProgram, file)
    let size = FileEditor(file)[.imageProgram].count
    func field(
      _ name: String, _ kind: SectionKind, _ field: Field, _ index: Int, _ value: UInt32
    ) -> Attack {
      let base = kind == .imageProgram ? start : text
      return Attack(
        name, file, kind, .field(field, offset: base + index * 4, found: UInt64(value))
      ) { $0.put(value, at: index * 4) }
    }
    return [
      field("buffers-none", .imageProgram, .bufferCount, 0, 0),
      field("buffers-many", .imageProgram, .bufferCount, 0, .max),
      field("slots-none", .imageProgram, .slotCount, 1, 0),
      field("slots-many", .textProgram, .slotCount, 1, 4_097),
      field("instructions-none", .imageProgram, .instructionCount, 2, 0),
      field("instructions-many", .textProgram, .instructionCount, 2, 65_537),
      field("pooling-unknown", .textProgram, .poolingRule, 3, 3),
      field("pooling-of-other-tower", .imageProgram, .poolingRule, 3, 1),
      field("pooling-token", .textProgram, .endToken, 4, .max),
      Attack("program-reserved", file, .imageProgram, .notZero(offset: start + 20)) {
        $0[20] = 1
      },
      Attack(
        "program-cut", file, .imageProgram,
        .truncatedSection(.imageProgram, offset: start + size - 4)
      ) { $0.removeLast(4) },
      Attack(
        "program-long", file, .imageProgram, .oversizedSection(.imageProgram, offset: start + size)
      ) { $0 += [0, 0, 0, 0] },
      Attack("result-width", file, .info, .wrongResult(.image)) { $0.put(UInt32(3), at: 0) },
    ]
  }

  static func buffers(_ file: [UInt8]) -> [Attack] {
    let program = FileEditor(file)[.imageProgram]
    let count = Int(program.number(0, UInt32.self))
    let codes = (0..<count).first { program[32 + $0 * 24] == StoredType.uint8.rawValue } ?? 0
    let floats = (0..<count).first { program[32 + $0 * 24] == StoredType.float32.rawValue } ?? 0
    let coded = 32 + codes * 24
    let float = 32 + floats * 24
    func fault(
      _ name: String, _ index: Int, _ fault: BufferFault, _ kind: SectionKind = .imageProgram,
      _ edit: (inout [UInt8]) -> Void
    ) -> Attack {
      Attack(
        name, file, kind,
        .buffer(kind == .imageProgram ? .image : .text, index: index, fault), edit)
    }
    let half = Float(0.5).bitPattern
    return [
      fault("buffer-type", floats, .elementType(found: 2)) { $0[float] = 2 },
      fault("buffer-row-rule", floats, .rowRule(found: 2)) { $0[float + 1] = 2 },
      fault("buffer-rows-zero", floats, .rows(found: 0)) { $0.put(UInt32(0), at: float + 4) },
      fault("buffer-rows-huge", floats, .rows(found: .max)) { $0.put(UInt32.max, at: float + 4) },
      fault("buffer-token-rows-of-image", floats, .rows(found: 0)) {
        $0[float + 1] = 1
        $0.put(UInt32(0), at: float + 4)
      },
      fault("buffer-token-rows-counted", 0, .rows(found: 1), .textProgram) {
        $0.put(UInt32(1), at: 32 + 4)
      },
      fault("buffer-columns-zero", floats, .columns(found: 0)) { $0.put(UInt32(0), at: float + 8) },
      fault("buffer-columns-huge", floats, .columns(found: 65_537)) {
        $0.put(UInt32(65_537), at: float + 8)
      },
      fault("buffer-slot", floats, .slot(found: .max)) { $0.put(UInt16.max, at: float + 2) },
      fault("buffer-reserved", floats, .reserved) { $0[float + 23] = 1 },
      fault("buffer-highest-of-float", floats, .quantization) { $0[float + 22] = 1 },
      fault("buffer-highest", codes, .quantization) { $0[coded + 22] = 254 },
      fault("buffer-scale-nan", codes, .quantization) {
        $0.put(Float.nan.bitPattern, at: coded + 12)
      },
      fault("buffer-scale-negative", codes, .quantization) {
        $0.put((-Float(bitPattern: $0.number(coded + 12, UInt32.self))).bitPattern, at: coded + 12)
      },
      fault("buffer-scale-not-inverse", codes, .quantization) { $0.put(half, at: coded + 12) },
      fault("buffer-lowest", codes, .quantization) { $0[coded + 21] = 2 },
      fault("buffer-scale-of-float", floats, .quantization) { $0.put(half, at: float + 12) },
      fault("buffer-never-written", count, .neverWritten) {
        $0.put(UInt32(count + 1), at: 0)
        $0.insert(contentsOf: $0[float..<(float + 24)], at: 32 + count * 24)
      },
      overlap(file),
    ]
  }

  /// The residual stream's slot is given to what is made beside it.
  private static func overlap(_ file: [UInt8]) -> Attack {
    let editor = FileEditor(file)
    let program = editor[.imageProgram]
    let norm = editor.instruction(4, .imageProgram)
    let stream = Int(program.number(norm + 4, UInt32.self))
    let normed = Int(program.number(norm + 8, UInt32.self))
    let slot = program.number(32 + stream * 24 + 2, UInt16.self)
    return Attack(
      "buffer-overlap", file, .imageProgram,
      .buffer(.image, index: normed, .overlaps(other: stream))
    ) { $0.put(slot, at: 32 + normed * 24 + 2) }
  }

  static func names(_ file: [UInt8]) -> [Attack] {
    let start = sectionStart(.names, file)
    let names = FileEditor(file)[.names]
    return [
      Attack(
        "names-count", file, .names, .field(.nameCount, offset: start, found: 3)
      ) { $0.put(UInt32(3), at: 0) },
      Attack(
        "name-long", file, .names, .field(.nameByteCount, offset: start + 4, found: 256)
      ) { $0.put(UInt16(256), at: 4) },
      Attack(
        "names-cut", file, .names, .truncatedSection(.names, offset: start + names.count - 1)
      ) { $0.removeLast() },
      Attack(
        "names-long", file, .names, .oversizedSection(.names, offset: start + names.count)
      ) { $0 += [65] },
    ]
  }
}
