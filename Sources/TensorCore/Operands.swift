/// The values that an operator reads while it is evaluated.
///
/// The door to raw memory for operator definitions: what it lends is bounds-checked.
package struct InputOperands: ~Copyable {
  private let buffers: [UnsafeRawBufferPointer]
  private let shapes: [[Int]]

  /// Lends `buffers`, whose extents are `shapes`, for the lifetime of this frame.
  package init(buffers: [UnsafeRawBufferPointer], shapes: [[Int]]) {
    self.buffers = buffers
    self.shapes = shapes
  }

  /// The number of inputs.
  package var count: Int { buffers.count }

  /// The extents of input `index`.
  package func shape(_ index: Int) -> [Int] { shapes[index] }

  /// The elements of input `index`.
  @_lifetime(borrow self)
  package func span<Element: TensorElement>(_ index: Int, of type: Element.Type) -> Span<Element> {
    let span = Span<Element>(_unsafeElements: buffers[index].assumingMemoryBound(to: type))
    return _overrideLifetime(span, borrowing: self)
  }

  /// The seed that input `index` is, see ``Tensor/init(seed:)``.
  package func seed(_ index: Int) -> UInt64 {
    let words = span(index, of: Int32.self)
    return UInt64(UInt32(bitPattern: words[0])) | UInt64(UInt32(bitPattern: words[1])) << 32
  }

  /// The elements of input `index`, for code that calls into C.
  package func pointer<Element: TensorElement>(
    _ index: Int, of type: Element.Type
  ) -> UnsafeBufferPointer<Element> {
    buffers[index].assumingMemoryBound(to: type)
  }
}

/// The values that an operator writes while it is evaluated.
package struct OutputOperands: ~Copyable {
  private let buffers: [UnsafeMutableRawBufferPointer]
  private let shapes: [[Int]]
  /// How many threads the operator may use.
  package let threadCount: Int
  /// Whether fast paths of linear layers may round what they multiply to bfloat16.
  package let roundsFactors: Bool

  /// Lends `buffers`, whose extents are `shapes`, for the lifetime of this frame.
  package init(
    buffers: [UnsafeMutableRawBufferPointer], shapes: [[Int]], threadCount: Int = 1,
    roundsFactors: Bool = false
  ) {
    self.buffers = buffers
    self.shapes = shapes
    self.threadCount = threadCount
    self.roundsFactors = roundsFactors
  }

  /// The extents of output `index`.
  package func shape(_ index: Int) -> [Int] { shapes[index] }

  /// The elements of output `index`, undefined until written.
  @_lifetime(&self)
  package mutating func span<Element: TensorElement>(
    _ index: Int, of type: Element.Type
  ) -> MutableSpan<Element> {
    let span = MutableSpan<Element>(_unsafeElements: buffers[index].assumingMemoryBound(to: type))
    return _overrideLifetime(span, mutating: &self)
  }

  /// The elements of output `index`, for code that calls into C.
  package mutating func pointer<Element: TensorElement>(
    _ index: Int, of type: Element.Type
  ) -> UnsafeMutableBufferPointer<Element> {
    buffers[index].assumingMemoryBound(to: type)
  }
}
