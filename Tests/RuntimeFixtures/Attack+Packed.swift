import ModelFormat

extension Attack {
  /// Attacks on codes of few bits, on their groups and on floats of 16 bits.
  static func packedTensors(_ file: [UInt8]) -> [Attack] {
    let parts = Attack.packedVictim.parts()
    let tensors = parts.tensors
    let weight =
      tensors.firstIndex { $0.layout == .panels && $0.storedType == .codes && $0.groupSize > 0 }
      ?? 0
    let table = tensors.firstIndex { $0.layout == .rowMajor && $0.storedType == .codes } ?? 0
    let short = tensors.firstIndex { $0.storedType == .float16 } ?? 0
    let integers = tensors.firstIndex { $0.storedType == .int32 } ?? 0
    func fault(
      _ name: String, _ index: Int, _ fault: TensorFault, _ edit: (inout [UInt8], Int) -> Void
    ) -> Attack {
      Attack(name, file, .tensors, .tensor(index: index, fault)) { edit(&$0, 16 + index * 32) }
    }
    func bytes(_ index: Int) -> UInt64 { UInt64(tensors[index].bytes.count) }
    return [
      fault("codes-one-bit", weight, .codeBits(found: 1)) { $0[$1 + 2] = 1 },
      fault("codes-eight-bits", weight, .codeBits(found: 8)) { $0[$1 + 2] = 8 },
      fault("codes-bits-high", weight, .codeBits(found: 0x103)) { $0[$1 + 3] = 1 },
      fault(
        "codes-wider", weight,
        .byteCount(expected: bytes(weight) / 3 * 7, found: bytes(weight))
      ) { $0[$1 + 2] = 7 },
      fault("codes-bitmap", weight, .layout(found: 2)) { $0[$1 + 1] = 2 },
      fault("float16-pattern", short, .layout(found: 3)) { $0[$1 + 1] = 3 },
      fault("float16-bits", short, .reserved) { $0[$1 + 2] = 4 },
      fault("group-of-three", weight, .groupSize(found: 3)) { $0.put(UInt32(3), at: $1 + 12) },
      fault("group-of-row", weight, .groupSize(found: 12)) { $0.put(UInt32(12), at: $1 + 12) },
      fault("group-huge", weight, .groupSize(found: .max - 3)) {
        $0.put(UInt32.max - 3, at: $1 + 12)
      },
      fault("group-of-floats", short, .reserved) { $0.put(UInt32(4), at: $1 + 12) },
      fault("group-of-int32", integers, .reserved) { $0.put(UInt32(4), at: $1 + 12) },
    ] + operands(file, parts, weight, table)
  }

  /// Attacks on weights in pairs.
  static func pairs(_ file: [UInt8]) -> [Attack] {
    let parts = Attack.pairVictim.parts()
    let weight = parts.tensors.firstIndex { $0.layout == .pairs } ?? 0
    let vector = parts.tensors.firstIndex { $0.storedType == .float32 } ?? 0
    let size = UInt64(parts.tensors[weight].bytes.count)
    func fault(
      _ name: String, _ index: Int, _ fault: TensorFault, _ edit: (inout [UInt8], Int) -> Void
    ) -> Attack {
      Attack(name, file, .tensors, .tensor(index: index, fault)) { edit(&$0, 16 + index * 32) }
    }
    let embedding = parts.text?.instructions.firstIndex { $0.opCode == .tokenEmbedding } ?? 0
    return [
      fault("pairs-of-floats", vector, .layout(found: 5)) { $0[$1 + 1] = 5 },
      fault("pairs-of-float16", weight, .layout(found: 5)) { $0[$1] = StoredType.float16.rawValue },
      fault("pairs-bits", weight, .reserved) { $0[$1 + 2] = 2 },
      fault("pairs-group", weight, .reserved) { $0.put(UInt32(4), at: $1 + 12) },
      fault("pairs-bytes", weight, .byteCount(expected: size, found: size - 64)) {
        $0.put(size - 64, at: $1 + 24)
      },
      Attack(
        "table-of-pairs", file, .textProgram,
        .instruction(.text, index: embedding, .tensorType(tensor: weight))
      ) {
        $0.put(
          UInt32(weight), at: FileEditor(file).instruction(embedding, .textProgram) + 8)
      },
    ]
  }

  /// Attacks on attention over codes.
  static func integerAttention(_ file: [UInt8]) -> [Attack] {
    guard let program = Attack.integerAttentionVictim.parts().image,
      let index = program.instructions.firstIndex(where: { $0.opCode == .integerAttention }),
      case .attention(let op) = program.instructions[index],
      let float = program.buffers.indices.first(where: {
        program.buffers[$0].quantization == nil && program.buffers[$0].columns == 6
      })
    else { return [] }
    let word = FileEditor(file).instruction(index, .imageProgram)
    func fault(
      _ name: String, _ fault: InstructionFault, _ edit: (inout [UInt8]) -> Void
    ) -> Attack {
      Attack(name, file, .imageProgram, .instruction(.image, index: index, fault), edit)
    }
    return [
      fault("attention-of-codes", .bufferType(buffer: op.query.buffer)) {
        $0.put(OpCode.attention.rawValue, at: word)
      },
      fault("integer-attention-of-floats", .bufferType(buffer: float)) {
        $0.put(UInt32(float), at: word + 4)
      },
      fault("integer-attention-width", .parameter(operand: 2, found: 0)) {
        $0.put(UInt32(32_769), at: word + 36)
      },
    ]
  }

  /// Attacks on rows of codes with scales of their own.
  static func tokenScales(_ file: [UInt8]) -> [Attack] {
    guard let program = Attack.tokenScaleVictim.parts().image,
      let first = program.instructions.firstIndex(where: { $0.opCode == .quantizeTokens }),
      case .quantizeTokens(let input, let output, let scales) = program.instructions[first],
      let other = program.instructions.dropFirst(first + 2).firstIndex(where: {
        $0.opCode == .quantizeTokens
      }), case .quantizeTokens(_, _, let others) = program.instructions[other],
      let next = program.instructions[other...].firstIndex(where: { $0.opCode == .linearTokens })
    else { return [] }
    let editor = FileEditor(file)
    let word = editor.instruction(first, .imageProgram)
    let product = editor.instruction(first + 1, .imageProgram)
    func fault(
      _ name: String, _ index: Int, _ fault: InstructionFault, _ edit: (inout [UInt8]) -> Void
    ) -> Attack {
      Attack(name, file, .imageProgram, .instruction(.image, index: index, fault), edit)
    }
    func buffer(_ index: Int) -> Int { 32 + index * 24 }
    let columns = program.buffers[input].columns
    return [
      fault("token-codes-scale", first, .bufferType(buffer: output)) {
        $0.put(Float(2).bitPattern, at: buffer(output) + 12)
        $0.put(Float(0.5).bitPattern, at: buffer(output) + 16)
      },
      fault("token-codes-lopsided", first, .bufferType(buffer: output)) {
        $0[buffer(output) + 20] = 100
      },
      fault("token-codes-of-codes", other, .bufferType(buffer: output)) {
        $0.put(UInt32(output), at: editor.instruction(other, .imageProgram) + 4)
      },
      fault(
        "token-scales-wide", first, .bufferColumns(buffer: scales, expected: 1, found: 2)
      ) { $0.put(UInt32(2), at: buffer(scales) + 8) },
      fault("token-scales-output", first, .writtenTwice(buffer: output)) {
        $0.put(UInt32(output), at: word + 12)
      },
      fault("row-scales-unwritten", first + 1, .readBeforeWritten(buffer: others)) {
        $0.put(UInt32(others), at: product + 36)
      },
      fault("row-scales-rows", next, .bufferRows(buffer: scales)) {
        $0.put(UInt32(scales), at: editor.instruction(next, .imageProgram) + 36)
      },
      fault(
        "row-scales-wide", first + 1,
        .bufferColumns(buffer: input, expected: 1, found: columns)
      ) { $0.put(UInt32(input), at: product + 36) },
      fault("row-scales-of-codes", first + 1, .bufferType(buffer: output)) {
        $0.put(UInt32(output), at: product + 36)
      },
      fault("row-scales-of-floats", first + 1, .optionalTensor(operand: 5)) {
        $0.put(UInt32(input), at: product + 4)
      },
    ]
  }

  /// Attacks on what instructions expect of grouped weights and tables.
  private static func operands(
    _ file: [UInt8], _ parts: TinyParts, _ weight: Int, _ table: Int
  ) -> [Attack] {
    func place(_ program: Program?, _ isWanted: (Instruction) -> Bool) -> Int {
      program?.instructions.firstIndex(where: isWanted) ?? 0
    }
    let linear = place(parts.image) {
      if case .linear(let op) = $0 { return op.weight == weight }
      return false
    }
    let embedding = place(parts.text) { $0.opCode == .tokenEmbedding }
    guard case .linear(let op)? = parts.image?.instructions[linear],
      case .tokenEmbedding(let lookup)? = parts.text?.instructions[embedding],
      let bias = parts.tensors.firstIndex(where: { $0.rows == 1 && $0.storedType.isShortFloat })
    else { return [] }
    let editor = FileEditor(file)
    let word = editor.instruction(linear, .imageProgram)
    let lookupWord = editor.instruction(embedding, .textProgram)
    let tensor = parts.tensors[weight]
    let groups = (tensor.columns + 3) / 4
    func fault(
      _ name: String, _ tower: Tower, _ fault: InstructionFault, _ edit: (inout [UInt8]) -> Void
    ) -> Attack {
      let index = tower == .image ? linear : embedding
      return Attack(name, file, tower.section, .instruction(tower, index: index, fault), edit)
    }
    return [
      fault("group-scale-missing", .image, .optionalTensor(operand: 4)) {
        $0.put(Layout.absent, at: word + 16)
      },
      fault("group-correction", .image, .optionalTensor(operand: 5)) {
        $0.put(UInt32(op.scale ?? 0), at: word + 20)
      },
      fault("group-scale-layout", .image, .tensorType(tensor: bias)) {
        $0.put(UInt32(bias), at: word + 16)
      },
      Attack(
        "group-scale-fewer", file, .tensors,
        .instruction(
          .image, index: linear,
          .tensorShape(
            tensor: op.scale ?? 0, expectedRows: tensor.rows, expectedColumns: (groups + 1) / 2))
      ) { $0.put(UInt32(8), at: 16 + weight * 32 + 12) },
      fault("table-of-panels", .text, .tensorType(tensor: weight)) {
        $0.put(UInt32(weight), at: lookupWord + 8)
      },
      fault(
        "table-group-scales", .text,
        .tensorShape(
          tensor: lookup.position, expectedRows: parts.info.vocabularyCount,
          expectedColumns: (parts.tensors[table].columns + 3) / 4)
      ) { $0.put(UInt32(lookup.position), at: lookupWord + 12) },
    ]
  }
}
