import ModelFormat

extension Attack {
  /// Overwrites words of one instruction of the victim's image or text program.
  struct Forgery {
    let file: [UInt8]
    let tower: Tower

    func callAsFunction(
      _ name: String, _ index: Int, _ fault: InstructionFault, _ words: [Int: UInt32]
    ) -> Attack {
      let editor = FileEditor(file)
      let start = editor.instruction(index, tower.section)
      return Attack(name, file, tower.section, .instruction(tower, index: index, fault)) {
        for (word, value) in words { $0.put(value, at: start + word * 4) }
      }
    }

    /// A word of an instruction as it stands in the file.
    func word(_ index: Int, _ word: Int) -> UInt32 {
      let editor = FileEditor(file)
      return editor[tower.section].number(
        editor.instruction(index, tower.section) + word * 4, UInt32.self)
    }

    func buffer(_ index: Int, _ word: Int) -> Int { Int(self.word(index, word)) }
  }

  // The victim's image program: 0 patch_unfold, 1 linear, 2 assemble_tokens, 3 layer_norm, then
  // each layer's 4 layer_norm, 5 linear, 6 attention, 7 linear, 8 add, 9 layer_norm, 10 linear, …

  static func instructions(_ file: [UInt8]) -> [Attack] {
    let image = Forgery(file: file, tower: .image)
    return operands(image) + parameters(image) + texts(Forgery(file: file, tower: .text))
  }

  private static func operands(_ image: Forgery) -> [Attack] {
    let absent = Layout.absent
    let stream = image.buffer(4, 1)
    let codes = image.buffer(4, 2)
    return [
      image("instruction-unknown", 0, .unknownOpCode(found: 99), [0: 99 | 3 << 16]),
      image("instruction-words", 0, .wordCount(expected: 3, found: 4), [0: 1 | 4 << 16]),
      image("instruction-of-text", 2, .wrongTower, [0: 5 | 5 << 16]),
      image("operand-buffer", 3, .noSuchBuffer(found: 1000), [1: 1000]),
      image("operand-tensor", 3, .noSuchTensor(found: 1000), [3: 1000]),
      image(
        "operand-not-written", 3, .readBeforeWritten(buffer: codes), [1: UInt32(codes)]),
      image(
        "operand-written-twice", 8, .writtenTwice(buffer: stream), [3: UInt32(stream)]),
      image("operand-codes-for-floats", 9, .bufferType(buffer: codes), [1: UInt32(codes)]),
      image(
        "operand-rows", 8, .bufferRows(buffer: image.buffer(2, 1)), [2: image.word(2, 1)]),
      image(
        "operand-columns", 8,
        .bufferColumns(
          buffer: image.buffer(5, 2), expected: 4, found: 6), [2: image.word(5, 2)]),
      image(
        "operand-tensor-type", 3, .tensorType(tensor: image.buffer(5, 3)),
        [3: image.word(5, 3)]),
      image(
        "operand-tensor-shape", 3,
        .tensorShape(tensor: image.buffer(5, 6), expectedRows: 1, expectedColumns: 4),
        [3: image.word(5, 6)]),
      image("operand-scale-missing", 5, .optionalTensor(operand: 4), [4: absent]),
      image("operand-correction-missing", 5, .optionalTensor(operand: 5), [5: absent]),
      image("operand-absent", 3, .noSuchBuffer(found: absent), [1: absent]),
    ]
  }

  private static func parameters(_ image: Forgery) -> [Attack] {
    func number(
      _ name: String, _ index: Int, _ operand: Int, _ value: UInt32
    ) -> Attack {
      image(name, index, .parameter(operand: operand, found: value), [operand: value])
    }
    return [
      number("patch-zero", 0, 2, 0),
      number("patch-larger-than-image", 0, 2, 5),
      number("activation-unknown", 5, 8, 3),
      number("epsilon-zero", 3, 5, 0),
      number("epsilon-nan", 3, 5, Float.nan.bitPattern),
      number("heads-none", 6, 8, 0),
      number("heads-many", 6, 8, .max >> 1),
      number("head-width-zero", 6, 9, 0),
      number("head-width-huge", 6, 9, 65_537),
      number("score-scale-infinite", 6, 10, Float.infinity.bitPattern),
      number("causal-flag", 6, 11, 2),
      number("query-column", 6, 2, 5),
      number("key-column", 6, 4, 5),
      number("value-column", 6, 6, .max >> 1),
    ]
  }

  private static func texts(_ text: Forgery) -> [Attack] {
    let quantize =
      Attack.victim.parts().text?.instructions.firstIndex { $0.opCode == .quantize } ?? 0
    return [
      text(
        "pool-of-pooled", quantize, .bufferRows(buffer: text.buffer(quantize, 1)),
        [0: UInt32(OpCode.pool.rawValue) | 3 << 16]),
      text("instruction-of-image", 0, .wrongTower, [0: 6 | 5 << 16]),
      text("table-scale-missing", 0, .optionalTensor(operand: 3), [3: Layout.absent]),
      text(
        "table-type", 0, .tensorType(tensor: text.buffer(2, 5)), [2: text.word(2, 5)]),
      text(
        "table-rows", 0,
        .tensorShape(tensor: text.buffer(0, 4), expectedRows: 5, expectedColumns: 4),
        [2: text.word(0, 4)]),
    ]
  }
}
