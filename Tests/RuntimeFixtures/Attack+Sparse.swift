import ModelFormat

extension Attack {
  /// Attacks on tensors that store what is not zero only.
  static func sparseTensors(_ file: [UInt8]) -> [Attack] {
    let tensors = Attack.sparseVictim.parts().tensors
    func first(_ layout: TensorLayout, _ columns: Int = 1) -> Int {
      tensors.firstIndex { $0.layout == layout && $0.columns % 64 >= columns } ?? 0
    }
    return tableRows(file, first(.bitmap), first(.pattern))
      + bits(file, first(.bitmap), first(.sparse), first(.pattern), tensors)
  }

  private static func tableRows(_ file: [UInt8], _ bitmap: Int, _ pattern: Int) -> [Attack] {
    func fault(
      _ name: String, _ index: Int, _ fault: TensorFault, _ edit: (inout [UInt8], Int) -> Void
    ) -> Attack {
      Attack(name, file, .tensors, .tensor(index: index, fault)) { edit(&$0, 16 + index * 32) }
    }
    let table = FileEditor(file)[.tensors]
    func length(_ index: Int) -> UInt64 { table.number(16 + index * 32 + 24, UInt64.self) }
    let rows = Int(table.number(16 + bitmap * 32 + 4, UInt32.self))
    let least = UInt64(aligned(rows * 8))
    return [
      fault("sparse-int8", bitmap, .layout(found: 4)) {
        $0[$1] = StoredType.int8.rawValue
        $0[$1 + 1] = 4
      },
      fault("bitmap-pattern", bitmap, .reserved) { $0[$1 + 2] = 2 },
      fault("pattern-none", pattern, .pattern(found: 0)) { $0.put(UInt16(0), at: $1 + 2) },
      fault("pattern-all", pattern, .pattern(found: 0x0404)) { $0.put(UInt16(0x0404), at: $1 + 2) },
      fault("pattern-wide", pattern, .pattern(found: 0x0902)) {
        $0.put(UInt16(0x0902), at: $1 + 2)
      },
      fault(
        "pattern-bytes", pattern,
        .byteCount(expected: length(pattern), found: length(pattern) + 4)
      ) { $0.put(length(pattern) + 4, at: $1 + 24) },
      fault("bitmap-bytes", bitmap, .byteCount(expected: least, found: least - 1)) {
        $0.put(least - 1, at: $1 + 24)
      },
      fault("bitmap-half-value", bitmap, .byteCount(expected: least, found: least + 2)) {
        $0.put(least + 2, at: $1 + 24)
      },
      fault("bitmap-values-many", bitmap, .byteCount(expected: least, found: .max - 3)) {
        $0.put(UInt64.max - 3, at: $1 + 24)
      },
    ]
  }

  private static func bits(
    _ file: [UInt8], _ bitmap: Int, _ sparse: Int, _ pattern: Int, _ tensors: [StoredTensor]
  ) -> [Attack] {
    let table = FileEditor(file)[.tensors]
    func fault(
      _ name: String, _ index: Int, _ fault: TensorFault, _ edit: (inout [UInt8], Int) -> Void
    ) -> Attack {
      let start = Int(table.number(16 + index * 32 + 16, UInt64.self))
      return Attack(name, file, .weights, .tensor(index: index, fault)) { edit(&$0, start) }
    }
    func values(_ index: Int) -> Int {
      let rowByteCount = (tensors[index].columns + 63) / 64 * 8
      return (tensors[index].bytes.count - aligned(tensors[index].rows * rowByteCount)) / 4
    }
    let row = (tensors[pattern].columns + 4) / 5
    let rowByteCount = (row * 4 + 7) / 8
    let bitsEnd = tensors[pattern].rows * rowByteCount
    return [
      fault(
        "bitmap-bit-more", bitmap,
        .sparseValueCount(expected: values(bitmap), found: values(bitmap) + 1)
      ) { $0[$1] |= ~$0[$1] & (~$0[$1] &* 255) },
      fault(
        "sparse-bit-fewer", sparse,
        .sparseValueCount(expected: values(sparse), found: values(sparse) - 1)
      ) { $0[$1] &= $0[$1] &- 1 },
      fault("bitmap-bit-beyond", bitmap, .sparsePadding(offset: 0)) { $0[$1 + 7] |= 0x80 },
      fault("pattern-choice", pattern, .sparseChoice(row: 0)) { $0[$1] |= 0x0F },
      fault("pattern-padding", pattern, .sparsePadding(offset: bitsEnd)) { $0[$1 + bitsEnd] = 1 },
    ]
  }
}
