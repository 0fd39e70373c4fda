/// A tensor as it goes into a file.
public struct StoredTensor: Equatable, Sendable {
  /// How the numbers are stored.
  public let storedType: StoredType
  /// In which order.
  public let layout: TensorLayout
  /// Rows, 1 for a vector.
  public let rows: Int
  /// Columns.
  public let columns: Int
  /// Which columns are stored, with ``TensorLayout/pattern``.
  public let pattern: SparsityPattern?
  /// Bits of a code, 8 with ``StoredType/int8``, 0 where elements are no codes.
  public let codeBitCount: Int
  /// Columns that share a scale, 0 where a row has one or needs none.
  public let groupSize: Int
  /// The bytes, `TensorRecord.byteCount(of:_:rows:columns:)` of them in a dense tensor.
  public let bytes: [UInt8]

  /// The minor version of the format that has its kind first.
  var minorVersion: UInt16 {
    max(layout.minorVersion, storedType.minorVersion, groupSize == 0 ? 0 : 2)
  }

  /// Takes bytes that are laid out already.
  ///
  /// - Precondition: there are as many bytes as type, layout and shape ask for.
  public init(
    storedType: StoredType, layout: TensorLayout, rows: Int, columns: Int,
    codeBitCount: Int? = nil, groupSize: Int = 0, bytes: [UInt8]
  ) {
    self.codeBitCount = codeBitCount ?? (storedType == .int8 ? 8 : 0)
    self.groupSize = groupSize
    precondition(
      TensorRecord.byteCount(
        of: storedType, layout, rows: rows, columns: columns, codeBitCount: self.codeBitCount)
        == bytes.count,
      "a tensor has as many bytes as its type, layout and shape ask for")
    self.storedType = storedType
    self.layout = layout
    self.rows = rows
    self.columns = columns
    pattern = nil
    self.bytes = bytes
  }

  /// Takes the parts of a sparse tensor, see ``SparseLayout``.
  init(
    sparse layout: TensorLayout, of type: StoredType, rows: Int, columns: Int,
    pattern: SparsityPattern?, bytes: [UInt8]
  ) {
    storedType = type
    self.layout = layout
    self.rows = rows
    self.columns = columns
    self.pattern = pattern
    codeBitCount = type == .int8 ? 8 : 0
    groupSize = 0
    self.bytes = bytes
  }

  /// A row-major `[rows, columns]` float32 tensor.
  public static func float32(_ elements: [Float], rows: Int = 1, columns: Int) -> StoredTensor {
    StoredTensor(
      storedType: .float32, layout: .rowMajor, rows: rows, columns: columns,
      bytes: elements.withUnsafeBytes { Array($0) })
  }

  /// A row-major `[rows, columns]` int8 tensor, the form of the token table.
  public static func int8(_ codes: [Int8], rows: Int, columns: Int) -> StoredTensor {
    StoredTensor(
      storedType: .int8, layout: .rowMajor, rows: rows, columns: columns,
      bytes: codes.withUnsafeBytes { Array($0) })
  }

  /// A `[1, columns]` int32 tensor.
  public static func int32(_ elements: [Int32]) -> StoredTensor {
    StoredTensor(
      storedType: .int32, layout: .rowMajor, rows: 1, columns: elements.count,
      bytes: elements.withUnsafeBytes { Array($0) })
  }

  /// Row-major float32 weights `[rows, columns]` as panels `[rows / 16][columns][16]`.
  public static func panels(_ weights: [Float], rows: Int, columns: Int) -> StoredTensor {
    precondition(weights.count == rows * columns, "weights have the shape given")
    let panelCount = (rows + 15) / 16
    var packed = [Float](repeating: 0, count: panelCount * columns * 16)
    for row in 0..<rows {
      let start = row / 16 * columns * 16 + row % 16
      for column in 0..<columns {
        packed[start + column * 16] = weights[row * columns + column]
      }
    }
    return StoredTensor(
      storedType: .float32, layout: .panels, rows: rows, columns: columns,
      bytes: packed.withUnsafeBytes { Array($0) })
  }

  /// Row-major int8 codes `[rows, columns]` as panels `[rows / 16][columns / 4][16][4]`.
  public static func panels(_ codes: [Int8], rows: Int, columns: Int) -> StoredTensor {
    precondition(codes.count == rows * columns, "codes have the shape given")
    let groupCount = (columns + 3) / 4
    var packed = [UInt8](repeating: 0, count: (rows + 15) / 16 * groupCount * 64)
    for row in 0..<rows {
      let start = row / 16 * groupCount * 64 + row % 16 * 4
      for column in 0..<columns {
        packed[start + column / 4 * 64 + column % 4] = UInt8(
          bitPattern: codes[row * columns + column])
      }
    }
    return StoredTensor(
      storedType: .int8, layout: .panels, rows: rows, columns: columns, bytes: packed)
  }

  /// The correction of a linear instruction on uint8 input: `zeroPoint * Σ codes` of each row.
  public static func correction(
    _ codes: [Int8], rows: Int, columns: Int, zeroPoint: UInt8
  ) -> StoredTensor {
    precondition(codes.count == rows * columns, "codes have the shape given")
    return .int32(
      (0..<rows).map { row in
        codes[(row * columns)..<((row + 1) * columns)].reduce(0) { $0 + Int32($1) }
          * Int32(zeroPoint)
      })
  }
}
