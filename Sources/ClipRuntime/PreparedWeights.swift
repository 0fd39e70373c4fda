import CKernels
import ModelFormat

/// Where the sparse tensors and short vectors of a file lie in the arena once they are prepared.
///
/// Vectors that are stored as float16 or bfloat16 become float32.
/// A bitmap or a pattern becomes dense panels. The values of a sparse product stay in the file, and
/// a table of their indices is made: `[rows + 1]` 32-bit counts of the values in front of each row,
/// then, aligned, a 16-bit index below the columns for each value.
struct PreparedWeights {
  /// Bytes of the prepared form of `tensor`, which is sparse or short; nil where they overflow.
  static func byteCount(_ tensor: TensorRecord) -> Int? {
    guard tensor.isSparse else {
      return TensorRecord.byteCount(
        of: .float32, .rowMajor, rows: tensor.rows, columns: tensor.columns)
    }
    guard tensor.layout == .sparse else { return tensor.panelByteCount }
    let (bytes, overflow) = tensor.valueCount.multipliedReportingOverflow(by: 2)
    guard !overflow, bytes <= Int.max - indexOffset(tensor) - 64 else { return nil }
    return indexOffset(tensor) + bytes
  }

  /// Where the indices of a sparse product's tensor start in its prepared form, in bytes.
  static func indexOffset(_ tensor: TensorRecord) -> Int { aligned((tensor.rows + 1) * 4) }

  /// Makes the prepared form of `tensor`, whose bytes are `bytes`, in zeroed memory at `target`.
  static func prepare(
    _ tensor: TensorRecord, _ bytes: UnsafeRawPointer, at target: UnsafeMutableRawPointer,
    _ kernels: UnsafePointer<clip_kernel_set>
  ) {
    guard let layout = tensor.sparseLayout else {
      return kernels.pointee.f32_widen(
        bytes, tensor.storedType.kernelForm, tensor.rows * tensor.columns,
        target.assumingMemoryBound(to: Float.self))
    }
    if tensor.layout == .sparse {
      index(tensor, layout, bytes, target)
    } else if let pattern = tensor.pattern {
      expand(tensor, layout, pattern, bytes, target)
    } else {
      expand(tensor, layout, bytes, target)
    }
  }

  /// The word of 64 columns that begin with `first`, of one row's bits.
  private static func word(_ bits: UnsafeRawPointer, _ first: Int) -> UInt64 {
    UInt64(littleEndian: bits.loadUnaligned(fromByteOffset: first / 8, as: UInt64.self))
  }

  private static func index(
    _ tensor: TensorRecord, _ layout: SparseLayout, _ bytes: UnsafeRawPointer,
    _ target: UnsafeMutableRawPointer
  ) {
    let starts = target.assumingMemoryBound(to: UInt32.self)
    let indices = (target + indexOffset(tensor)).assumingMemoryBound(to: UInt16.self)
    var count = 0
    for row in 0..<tensor.rows {
      starts[row] = UInt32(truncatingIfNeeded: count)
      let bits = bytes + row * layout.rowByteCount
      var first = 0
      while first < tensor.columns {
        var word = word(bits, first)
        while word != 0 {
          indices[count] = UInt16(truncatingIfNeeded: first + word.trailingZeroBitCount)
          word &= word - 1
          count += 1
        }
        first += 64
      }
    }
    starts[tensor.rows] = UInt32(truncatingIfNeeded: count)
  }

  private static func expand(
    _ tensor: TensorRecord, _ layout: SparseLayout, _ bytes: UnsafeRawPointer,
    _ target: UnsafeMutableRawPointer
  ) {
    var values = bytes + layout.valuesOffset
    for row in 0..<tensor.rows {
      let bits = bytes + row * layout.rowByteCount
      let panels = PanelRow(tensor, row, target)
      var first = 0
      while first < tensor.columns {
        var word = word(bits, first)
        while word != 0 {
          panels.put(values, at: first + word.trailingZeroBitCount)
          values += panels.size
          word &= word - 1
        }
        first += 64
      }
    }
  }

  private static func expand(
    _ tensor: TensorRecord, _ layout: SparseLayout, _ pattern: SparsityPattern,
    _ bytes: UnsafeRawPointer, _ target: UnsafeMutableRawPointer
  ) {
    var values = bytes + layout.valuesOffset
    let all = UnsafeRawBufferPointer(start: bytes, count: layout.valuesOffset)
    let size = pattern.choiceBitCount
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 256) { columns in
      columns.initialize(repeating: 0)
      for choice in 0..<pattern.choiceCount { columns[choice] = pattern.columns(ofChoice: choice) }
      for row in 0..<tensor.rows {
        let panels = PanelRow(tensor, row, target)
        var reader = BitReader(all, at: row * layout.rowByteCount)
        var first = 0
        while first < tensor.columns {
          var chosen = columns[reader.next(size)]
          while chosen != 0 {
            let column = first + chosen.trailingZeroBitCount
            if column < tensor.columns { panels.put(values, at: column) }
            values += panels.size
            chosen &= chosen - 1
          }
          first += pattern.groupCount
        }
      }
    }
  }
}

extension StoredType {
  /// The type as kernels take it.
  var kernelForm: clip_float_type {
    switch self {
    case .float16: CLIP_FLOAT16
    case .bfloat16: CLIP_BFLOAT16
    default: CLIP_FLOAT32
    }
  }
}

/// One row of a matrix that is stored as panels.
private struct PanelRow {
  /// Bytes of an element.
  let size: Int
  private let start: UnsafeMutableRawPointer

  init(_ tensor: TensorRecord, _ row: Int, _ panels: UnsafeMutableRawPointer) {
    size = tensor.storedType.byteCount
    let group = Layout.int8GroupCount
    let depth = size == 4 ? tensor.columns : (tensor.columns + group - 1) / group
    let (panel, place) = row.quotientAndRemainder(dividingBy: Layout.panelRowCount)
    start = panels + panel * depth * 64 + place * 4
  }

  /// Copies the element at `value` to a column.
  func put(_ value: UnsafeRawPointer, at column: Int) {
    if size == 4 {
      (start + column * 64).storeBytes(
        of: value.loadUnaligned(as: UInt32.self), as: UInt32.self)
    } else {
      (start + column / 4 * 64 + column % 4).storeBytes(
        of: value.load(as: UInt8.self), as: UInt8.self)
    }
  }
}
