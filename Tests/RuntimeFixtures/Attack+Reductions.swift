import ModelFormat

extension Attack {
  /// Attacks on what shortens sequences.
  static func reductions(_ file: [UInt8]) -> [Attack] {
    let program = Attack.shortenedVictim.parts().image
    let instructions = program?.instructions ?? []
    func index(_ code: OpCode) -> Int { instructions.firstIndex { $0.opCode == code } ?? 0 }
    return drops(Forgery(file: file, tower: .image), index(.dropTokens))
      + merges(Forgery(file: file, tower: .image), index(.mergeTokens))
      + sizes(Forgery(file: file, tower: .image), index(.proportionalAttention))
      + foreign(file, index(.mergeTokens))
  }

  private static func number(
    _ image: Forgery, _ name: String, _ index: Int, _ operand: Int, _ value: UInt32
  ) -> Attack {
    image(name, index, .parameter(operand: operand, found: value), [operand: value])
  }

  private static func drops(_ image: Forgery, _ drop: Int) -> [Attack] {
    let output = image.buffer(drop, 6)
    return [
      number(image, "drop-heads-none", drop, 7, 0),
      number(image, "drop-query-column", drop, 3, 5),
      number(image, "drop-key-column", drop, 5, .max >> 1),
      number(image, "drop-scale-nan", drop, 9, Float.nan.bitPattern),
      number(image, "drop-leading-none", drop, 10, 0),
      number(image, "drop-leading-all", drop, 10, 11),
      number(image, "drop-columns-huge", drop, 11, .max),
      number(image, "drop-spacing-zero", drop, 12, 0),
      number(image, "drop-spacing-huge", drop, 12, 65_537),
      image("drop-grid-too-large", drop, .bufferRows(buffer: output), [11: 1, 12: 1]),
      image("drop-leading-too-many", drop, .bufferRows(buffer: output), [10: 7]),
      image("drop-output-twice", drop, .writtenTwice(buffer: 0), [6: 0]),
      image("drop-output-missing", drop, .noSuchBuffer(found: 1000), [6: 1000]),
      image(
        "drop-keys-of-patches", drop, .bufferRows(buffer: image.buffer(1, 2)),
        [4: image.word(1, 2), 5: 0]),
    ]
  }

  private static func merges(_ image: Forgery, _ merge: Int) -> [Attack] {
    let (input, output) = (image.buffer(merge, 1), image.buffer(merge, 5))
    return [
      number(image, "merge-head-width-zero", merge, 8, 0),
      number(image, "merge-key-column", merge, 3, 5),
      image("merge-sizes-missing", merge, .noSuchBuffer(found: 1000), [4: 1000]),
      image("merge-sizes-rows", merge, .bufferRows(buffer: input), [4: UInt32(input)]),
      image("merge-output-missing", merge, .noSuchBuffer(found: 1000), [5: 1000]),
      image("merge-to-more", merge, .bufferRows(buffer: 0), [5: 0]),
      image(
        "merge-to-one", merge, .bufferRows(buffer: image.buffer(merge, 6)),
        [5: image.word(merge, 6)]),
      image("merge-sizes-in-rows", merge, .writtenTwice(buffer: output), [6: UInt32(output)]),
    ]
  }

  private static func sizes(_ image: Forgery, _ attention: Int) -> [Attack] {
    let (key, output) = (image.buffer(attention, 3), image.buffer(attention, 7))
    return [
      image(
        "attention-sizes-absent", attention, .noSuchBuffer(found: Layout.absent),
        [12: Layout.absent]),
      image(
        "attention-sizes-unwritten", attention, .readBeforeWritten(buffer: output),
        [12: UInt32(output)]),
      image("attention-sizes-rows", attention, .bufferRows(buffer: key), [12: UInt32(key)]),
    ]
  }

  /// A text program whose second product is made a merging, and two results in one place.
  private static func foreign(_ file: [UInt8], _ merge: Int) -> [Attack] {
    let (text, image) = (Forgery(file: file, tower: .text), Forgery(file: file, tower: .image))
    let stream = text.word(2, 2)
    let (output, sizes) = (image.buffer(merge, 5), image.buffer(merge, 6))
    return [
      Attack(
        "merge-outputs-overlap", file, .imageProgram,
        .buffer(.image, index: sizes, .overlaps(other: output))
      ) { $0.put($0.number(32 + output * 24 + 2, UInt16.self), at: 32 + sizes * 24 + 2) },
      text(
        "merge-of-text", 4, .wrongTower,
        [
          0: UInt32(OpCode.mergeTokens.rawValue) | 9 << 16, 1: stream, 2: stream, 3: 0,
          4: Layout.absent, 5: 1000, 6: 1000, 7: 1, 8: 1,
        ]),
    ]
  }
}
