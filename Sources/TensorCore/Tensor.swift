/// Shared, immutable, 64-byte aligned elements with a shape.
///
/// Copies share storage; nothing changes the elements after the initializer returns.
package struct Tensor: Sendable {
  /// Owns the bytes; written only while a tensor is being made.
  private final class Storage: @unchecked Sendable {
    let bytes: UnsafeMutableRawBufferPointer

    init(byteCount: Int) {
      bytes = .allocate(byteCount: byteCount, alignment: 64)
    }

    deinit { bytes.deallocate() }
  }

  /// The element type.
  package let dtype: DType
  /// The extents, outermost first.
  package let shape: [Int]
  private let storage: Storage

  /// The number of elements.
  package var count: Int { storage.bytes.count / dtype.byteCount }
  /// The number of bytes.
  package var byteCount: Int { storage.bytes.count }

  /// Makes a tensor whose bytes `fill` writes.
  ///
  /// - Precondition: the byte count of `shape` fits an `Int`.
  package init(
    dtype: DType, shape: [Int], filling fill: (UnsafeMutableRawBufferPointer) throws -> Void
  ) rethrows {
    guard let count = elementCount(of: shape) else {
      preconditionFailure("the shape \(shape) is too large")
    }
    let (bytes, overflow) = count.multipliedReportingOverflow(by: dtype.byteCount)
    precondition(!overflow, "the shape \(shape) is too large")
    self.dtype = dtype
    self.shape = shape
    storage = Storage(byteCount: bytes)
    try fill(storage.bytes)
  }

  /// Makes a tensor whose elements, zero at first, `fill` writes in row-major order.
  package init<Element: TensorElement>(
    shape: [Int], of type: Element.Type,
    filling fill: (UnsafeMutableBufferPointer<Element>) throws -> Void
  ) rethrows {
    try self.init(dtype: Element.dtype, shape: shape) { bytes in
      bytes.initializeMemory(as: UInt8.self, repeating: 0)
      try fill(bytes.bindMemory(to: Element.self))
    }
  }

  /// Makes a tensor of `elements` in row-major order.
  ///
  /// - Precondition: the product of `shape` is the number of elements.
  package init<Element: TensorElement>(shape: [Int], _ elements: [Element]) {
    precondition(elementCount(of: shape) == elements.count, "\(shape) and \(elements.count)")
    self.init(dtype: Element.dtype, shape: shape) { bytes in
      elements.withUnsafeBytes { bytes.copyMemory(from: $0) }
    }
  }

  /// Makes a tensor of one float without axes.
  package init(scalar: Float) { self.init(shape: [], [scalar]) }

  /// Makes what operators draw from, `i32[2]`: the lower word of `seed`, then the upper one.
  package init(seed: UInt64) {
    self.init(
      shape: [2], [Int32(truncatingIfNeeded: seed), Int32(truncatingIfNeeded: seed >> 32)])
  }

  /// Lends the bytes.
  package func withBytes<Result, Failure: Error>(
    _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try body(UnsafeRawBufferPointer(storage.bytes))
  }

  /// Lends the elements.
  ///
  /// - Precondition: `type` is the tensor's element type.
  package func withElements<Element: TensorElement, Result, Failure: Error>(
    of type: Element.Type, _ body: (UnsafeBufferPointer<Element>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    precondition(Element.dtype == dtype, "\(dtype) elements asked for as \(Element.dtype)")
    return try body(UnsafeRawBufferPointer(storage.bytes).assumingMemoryBound(to: type))
  }

  /// The elements as an array.
  ///
  /// - Precondition: `type` is the tensor's element type.
  package func elements<Element: TensorElement>(of type: Element.Type) -> [Element] {
    withElements(of: type) { Array($0) }
  }

  /// The same elements under another shape.
  ///
  /// - Precondition: the element count stays.
  package func reshaped(_ shape: [Int]) -> Tensor {
    precondition(elementCount(of: shape) == count, "\(self.shape) cannot become \(shape)")
    return Tensor(dtype: dtype, shape: shape, storage: storage)
  }

  private init(dtype: DType, shape: [Int], storage: Storage) {
    self.dtype = dtype
    self.shape = shape
    self.storage = storage
  }
}

extension Tensor: Equatable {
  /// Whether element type, shape and every bit agree.
  package static func == (left: Tensor, right: Tensor) -> Bool {
    guard left.dtype == right.dtype, left.shape == right.shape else { return false }
    if left.storage === right.storage { return true }
    return left.withBytes { l in right.withBytes { r in l.elementsEqual(r) } }
  }
}

extension Tensor {
  /// The two-dimensional tensor with rows and columns exchanged.
  ///
  /// - Precondition: rank 2.
  package func transposed<Element: TensorElement>(of type: Element.Type) -> Tensor {
    precondition(shape.count == 2, "a matrix is transposed, not \(shape)")
    let (rows, columns) = (shape[0], shape[1])
    return withElements(of: type) { source in
      Tensor(shape: [columns, rows], of: type) { target in
        for row in 0..<rows {
          for column in 0..<columns {
            target[column * rows + row] = source[row * columns + column]
          }
        }
      }
    }
  }

  /// The slices of `axis` at `indices`, in that order.
  ///
  /// - Precondition: every index lies in the axis.
  package func selecting(_ indices: [Int], onAxis axis: Int) -> Tensor {
    var result = shape
    result[axis] = indices.count
    let outer = shape[..<axis].reduce(1, *)
    let inner = shape[(axis + 1)...].reduce(1, *) * dtype.byteCount
    let extent = shape[axis]
    precondition(indices.allSatisfy { $0 >= 0 && $0 < extent }, "an index outside the axis")
    return withBytes { source in
      Tensor(dtype: dtype, shape: result) { target in
        var offset = 0
        for block in 0..<outer {
          for index in indices {
            let start = (block * extent + index) * inner
            UnsafeMutableRawBufferPointer(rebasing: target[offset..<(offset + inner)])
              .copyMemory(from: UnsafeRawBufferPointer(rebasing: source[start..<(start + inner)]))
            offset += inner
          }
        }
      }
    }
  }
}
