/// The constants of the runtime file format: `formats/model.md` is normative, this repeats it.
public enum Layout {
  /// The first eight bytes of every file: a byte that is no ASCII, then `CLP`, CR LF, SUB, LF.
  ///
  /// A transfer in text mode changes at least one of them, so such damage is told apart.
  public static var magic: UInt64 { 0x0A1A_0A0D_504C_43C1 }
  /// The first eight bytes of a shipping container: as above with `CLZ`.
  public static var containerMagic: UInt64 { 0x0A1A_0A0D_5A4C_43C1 }
  /// The major version this code writes and the only one it reads.
  public static var majorVersion: UInt16 { 1 }
  /// The newest minor version this code writes, where a file has what came with it; files with a
  /// newer one are read.
  public static var minorVersion: UInt16 { 5 }
  /// The byte order marker as a little-endian reader sees it.
  public static var byteOrderMarker: UInt32 { 0x0102_0304 }
  /// Bytes of the fixed header in front of the section table.
  public static var headerByteCount: Int { 64 }
  /// Bytes of one row of the section table.
  public static var sectionRecordByteCount: Int { 32 }
  /// Alignment of sections, tensors, buffer rows and of the mapped file itself, in bytes.
  public static var alignment: Int { 64 }
  /// Output channels in a panel of packed weights.
  public static var panelRowCount: Int { 16 }
  /// Consecutive input channels stored together for one output channel of packed int8 weights.
  public static var int8GroupCount: Int { 4 }
  /// Codes of a block, the unit in which codes of fewer than 8 bits are stored.
  public static var blockCount: Int { 64 }
  /// The word that stands for an operand left out.
  public static var absent: UInt32 { 0xFFFF_FFFF }
}

/// The most of everything that a file may ask for; more is refused before anything is computed.
public enum Limit {
  /// Rows of the section table.
  public static var sectionCount: Int { 64 }
  /// Rows of the tensor table.
  public static var tensorCount: Int { 65_536 }
  /// Rows of a tensor.
  public static var tensorRowCount: Int { 1 << 24 }
  /// Columns of a tensor or buffer, so that an int8 dot product fits in 32 bits.
  public static var columnCount: Int { 65_536 }
  /// Columns of a head whose codes are multiplied, so that a product of any codes fits in 32 bits.
  public static var integerHeadWidth: Int { 32_768 }
  /// Buffers of a program.
  public static var bufferCount: Int { 65_536 }
  /// Slots of a program's memory plan.
  public static var slotCount: Int { 4_096 }
  /// Instructions of a program.
  public static var instructionCount: Int { 65_536 }
  /// Rows that one image or text may have in a buffer; also tokens of a text.
  public static var rowCount: Int { 65_536 }
  /// Experts of a layer.
  public static var expertCount: Int { 4_096 }
  /// Pixels along an edge of the image.
  public static var imageExtent: Int { 16_384 }
  /// Bytes of a name in the names section.
  public static var nameByteCount: Int { 255 }
  /// Labels of a file.
  public static var labelCount: Int { 65_536 }
  /// Bytes of a label's name.
  public static var labelByteCount: Int { 1_023 }
}

/// How the numbers of a tensor are stored; raw values are frozen.
public enum StoredType: UInt8, Sendable, CaseIterable {
  /// IEEE 754 binary32.
  case float32 = 1
  /// Two's complement byte.
  case int8 = 2
  /// Two's complement 32-bit word.
  case int32 = 3
  /// Unsigned byte.
  case uint8 = 4
  /// IEEE 754 binary16.
  case float16 = 5
  /// The upper half of a binary32.
  case bfloat16 = 6
  /// Two's complement numbers of 2 to 7 bits, in blocks of 64.
  case codes = 7

  /// Bytes of one element; of codes, which share bytes, as they become wider.
  public var byteCount: Int {
    switch self {
    case .float32, .int32: 4
    case .float16, .bfloat16: 2
    case .int8, .uint8, .codes: 1
    }
  }

  /// Whether elements are floating-point numbers.
  public var isFloat: Bool { self == .float32 || isShortFloat }

  /// Whether elements are floating-point numbers that become float32 before they are used.
  public var isShortFloat: Bool { self == .float16 || self == .bfloat16 }

  /// Whether elements are integers that need a scale.
  public var isInteger: Bool { self == .int8 || self == .codes }

  /// Whether a layout has room for the type.
  func fits(_ layout: TensorLayout) -> Bool {
    switch layout {
    case .rowMajor: true
    case .panels: isFloat || isInteger
    case .bitmap, .pattern: self == .float32 || self == .int8
    case .sparse: self == .float32
    case .pairs: self == .bfloat16
    }
  }

  /// The minor version of the format that has the type first.
  var minorVersion: UInt16 { rawValue <= 4 ? 0 : 2 }
}

/// In which order the elements of a `[rows, columns]` tensor lie; raw values are frozen.
public enum TensorLayout: UInt8, Sendable, CaseIterable {
  /// Row after row without gaps.
  case rowMajor = 0
  /// Panels of 16 rows for matrix products.
  case panels = 1
  /// A bit for each element and the values of those that are not zero; becomes panels in memory.
  case bitmap = 2
  /// The same number of each so many columns and which they are; becomes panels in memory.
  case pattern = 3
  /// As ``bitmap``, float32, multiplied as it is.
  case sparse = 4
  /// Panels of 16 rows, two columns together, bfloat16; what they multiply is rounded to bfloat16.
  case pairs = 5

  /// Whether only the elements that are not zero are stored.
  public var isSparse: Bool { self == .bitmap || self == .pattern || self == .sparse }

  /// Columns of a panel whose elements lie together.
  func groupCount(of type: StoredType) -> Int {
    switch self {
    case .panels: type.isInteger ? Layout.int8GroupCount : 1
    case .pairs: 2
    case .rowMajor, .bitmap, .pattern, .sparse: 1
    }
  }

  /// The minor version of the format that has the layout first.
  var minorVersion: UInt16 {
    switch self {
    case .rowMajor, .panels: 0
    case .bitmap, .pattern, .sparse: 1
    case .pairs: 5
    }
  }
}

/// What a section of the file holds; raw values are frozen and give the order in the file.
public enum SectionKind: UInt32, Sendable, CaseIterable {
  /// The fixed facts of the model, ``ModelInfo``.
  case info = 1
  /// The tensor table.
  case tensors = 2
  /// The program of the image tower.
  case imageProgram = 3
  /// The program of the text tower.
  case textProgram = 4
  /// The tokenizer, bytes that only Preprocessing understands.
  case tokenizer = 5
  /// The image transform, bytes that only Preprocessing understands.
  case imageTransform = 6
  /// UTF-8 JSON for people and tools: provenance, counts, quantization.
  case metadata = 7
  /// Names of tensors and instructions.
  case names = 8
  /// Classes by name with their embeddings, ``LabelTable``.
  case labels = 9
  /// The bytes of all tensors.
  case weights = 256

  /// Whether a reader that does not know the section must refuse the file.
  public var isRequired: Bool {
    switch self {
    case .info, .tensors, .imageProgram, .textProgram, .weights: true
    case .tokenizer, .imageTransform, .metadata, .names, .labels: false
    }
  }
}

/// One of the two towers of a CLIP model.
public enum Tower: UInt8, Sendable, CaseIterable {
  /// Pixels to embedding.
  case image = 0
  /// Token ids to embedding.
  case text = 1

  /// The section that holds this tower's program.
  public var section: SectionKind { self == .image ? .imageProgram : .textProgram }
}

/// Rounds a byte count up to the file's alignment.
///
/// - Precondition: `count` is not negative and at most `Int.max - 63`.
public func aligned(_ count: Int) -> Int { (count + 63) & ~63 }
