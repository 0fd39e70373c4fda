import ModelFormat

extension Attack {
  /// Attacks on labels: `cat` in four bytes, then eleven with their zero.
  static func labels(_ file: [UInt8]) -> [Attack] {
    let start = sectionStart(.labels, file)
    let section = FileEditor(file)[.labels]
    let names = 16 + 2 * 4
    func edited(
      _ name: String, _ expected: ModelError, _ edit: (inout [UInt8]) -> Void
    ) -> Attack { Attack(name, file, .labels, expected, edit) }
    func fault(
      _ name: String, _ index: Int, _ fault: LabelFault, _ edit: (inout [UInt8]) -> Void
    ) -> Attack { edited(name, .label(index: index, fault), edit) }
    func field(_ name: String, _ field: Field, _ index: Int, _ value: UInt32) -> Attack {
      edited(name, .field(field, offset: start + index * 4, found: UInt64(value))) {
        $0.put(value, at: index * 4)
      }
    }
    let missing = ModelError.truncatedSection(.labels, offset: start + section.count)
    return [
      field("labels-none", .labelCount, 0, 0), field("labels-many", .labelCount, 0, 65_537),
      field("labels-count-huge", .labelCount, 0, .max),
      field("labels-of-no-bytes", .labelByteCount, 1, 3),
      field("labels-of-many-bytes", .labelByteCount, 1, 2 * 1_024 + 1),
      edited("labels-reserved", .notZero(offset: start + 12)) { $0[12] = 1 },
      edited("labels-names-missing", missing) { $0.put(UInt32(2_048), at: 4) },
      edited("labels-ends-missing", missing) {
        $0.put(UInt32(65_536), at: 0)
        $0.put(UInt32(65_536 * 2), at: 4)
      },
      fault("label-ends-at-start", 0, .end(found: 0)) { $0.put(UInt32(0), at: 16) },
      fault("label-ends-earlier", 1, .end(found: 3)) { $0.put(UInt32(3), at: 20) },
      fault("label-ends-past", 0, .end(found: .max)) { $0.put(UInt32.max, at: 16) },
      fault("labels-end-early", 1, .end(found: 8)) {
        $0.put(UInt32(8), at: 20)
        $0[names + 7] = 0
        $0.replaceSubrange((names + 4)..<(names + 7), with: Array("dog".utf8))
      },
      fault("label-empty", 0, .byteCount(found: 0)) {
        $0.put(UInt32(1), at: 16)
        $0[names] = 0
      },
      longName(file),
      fault("label-unterminated", 0, .unterminated) { $0[names + 3] = 65 },
      fault("label-with-zero", 0, .notText) { $0[names + 1] = 0 },
      fault("label-latin-1", 0, .notText) { $0[names + 1] = 0xE9 },
      fault("label-overlong", 1, .notText) {
        $0.replaceSubrange((names + 6)..<(names + 8), with: [0xC1, 0xBF])
      },
      fault("label-cut-character", 1, .notText) {
        $0.replaceSubrange((names + 11)..<(names + 13), with: [0x41, 0xE7])
      },
      edited("labels-padding", .notZero(offset: start + 40)) { $0[40] = 1 },
      edited("labels-cut", .truncatedSection(.labels, offset: start + section.count - 4)) {
        $0.removeLast(4)
      },
      edited("labels-long", .oversizedSection(.labels, offset: start + section.count)) {
        $0 += [0, 0, 0, 0]
      },
    ]
  }

  /// A first name of one byte too many.
  private static func longName(_ file: [UInt8]) -> Attack {
    let name = [UInt8](repeating: 65, count: 1_024)
    return Attack(
      "label-long", file, .labels, .label(index: 0, .byteCount(found: 1_024))
    ) { section in
      section.put(UInt32(1_025 + 2), at: 4)
      section.put(UInt32(1_025), at: 16)
      section.put(UInt32(1_027), at: 20)
      let embeddings = section[64...]
      section = section[..<24] + name + [0, 66, 0]
      section += [UInt8](repeating: 0, count: aligned(section.count) - section.count)
      section += embeddings
    }
  }
}
