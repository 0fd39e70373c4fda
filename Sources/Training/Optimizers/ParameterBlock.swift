import TensorCore

/// Where the tensors of a ``ParameterBlock`` lie.
package struct ParameterLayout: Hashable, Sendable {
  /// One tensor of a block.
  package struct Entry: Hashable, Sendable {
    /// The position among the entries.
    package let index: Int
    /// The name, unique in its layout.
    package let name: String
    /// The extents, outermost first; none for a scalar.
    package let shape: [Int]
    /// The elements in row-major order; the start is a multiple of ``ParameterLayout/alignment``.
    package let range: Range<Int>
  }

  /// Elements between possible starts of an entry: 64 bytes.
  package static let alignment = 16

  /// The tensors in the order they were given.
  package let entries: [Entry]
  /// Elements of the whole block with the padding after each entry, a multiple of ``alignment``.
  package let elementCount: Int
  private let indices: [String: Int]

  /// Lays tensors out one after another.
  ///
  /// - Precondition: no name occurs twice, and no extent is negative.
  package init(_ shapes: [(name: String, shape: [Int])]) {
    var entries: [Entry] = []
    var indices: [String: Int] = [:]
    var end = 0
    for (name, shape) in shapes {
      guard let count = TensorCore.elementCount(of: shape) else {
        preconditionFailure("\(name) cannot have the shape \(shape)")
      }
      precondition(indices.updateValue(entries.count, forKey: name) == nil, "two tensors \(name)")
      entries.append(
        Entry(index: entries.count, name: name, shape: shape, range: end..<(end + count)))
      end += (count + Self.alignment - 1) / Self.alignment * Self.alignment
    }
    self.entries = entries
    self.indices = indices
    elementCount = end
  }

  /// The entry called `name`.
  package subscript(_ name: String) -> Entry? { indices[name].map { entries[$0] } }

  /// The number of trainable elements, without padding.
  package var parameterCount: Int { entries.reduce(0) { $0 + $1.range.count } }
}

/// Float parameters, their gradients or an optimizer's moments in one 64-byte aligned piece of memory.
///
/// Blocks of the same layout correspond element by element. The padding between entries is zero and
/// has to stay so: whole-block loops run over it.
package final class ParameterBlock {
  /// Where the tensors lie.
  package let layout: ParameterLayout
  /// All elements with the padding, valid as long as the block lives.
  package let elements: UnsafeMutableBufferPointer<Float>

  /// Makes a block of zeros.
  package init(layout: ParameterLayout) {
    self.layout = layout
    // An empty block still needs an address to give back.
    let byteCount = max(layout.elementCount, 1) * MemoryLayout<Float>.stride
    let memory = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: 64)
    let start = memory.initializeMemory(
      as: Float.self, repeating: 0, count: max(layout.elementCount, 1))
    elements = UnsafeMutableBufferPointer(start: start, count: layout.elementCount)
  }

  /// Makes a block of zeros for tensors of these names and extents.
  ///
  /// - Precondition: no name occurs twice, and no extent is negative.
  package convenience init(_ shapes: [(name: String, shape: [Int])]) {
    self.init(layout: ParameterLayout(shapes))
  }

  /// Makes a block of zeros with the layout of `other`.
  package convenience init(like other: ParameterBlock) { self.init(layout: other.layout) }

  deinit { UnsafeMutableRawPointer(elements.baseAddress)?.deallocate() }

  /// The tensors' names, extents and places.
  package var entries: [ParameterLayout.Entry] { layout.entries }

  /// The elements of `entry`, valid as long as the block lives.
  ///
  /// - Precondition: `entry` is of this block's layout.
  package func slice(_ entry: ParameterLayout.Entry) -> UnsafeMutableBufferPointer<Float> {
    UnsafeMutableBufferPointer(rebasing: elements[entry.range])
  }

  /// The elements of the entry called `name`, valid as long as the block lives.
  package subscript(_ name: String) -> UnsafeMutableBufferPointer<Float>? {
    layout[name].map(slice)
  }

  /// A copy of `entry` as a float32 tensor.
  package func tensor(of entry: ParameterLayout.Entry) -> Tensor {
    Tensor(shape: entry.shape, of: Float.self) { target in
      _ = target.update(fromContentsOf: slice(entry))
    }
  }

  /// Copies `tensor` into `entry`.
  ///
  /// - Precondition: `tensor` is float32 and has the extents of `entry`.
  package func set(_ entry: ParameterLayout.Entry, _ tensor: Tensor) {
    precondition(tensor.shape == entry.shape, "\(entry.name): \(tensor.shape), \(entry.shape)")
    tensor.withElements(of: Float.self) { source in
      _ = slice(entry).update(fromContentsOf: source)
    }
  }

  /// Copies every element of `other`.
  ///
  /// - Precondition: both have the same layout.
  package func copyElements(of other: ParameterBlock) {
    precondition(layout == other.layout, "blocks of different layouts")
    _ = elements.update(fromContentsOf: other.elements)
  }

  /// Makes the elements of the entry called `name` zero where `mask`, uint8 of as many, is.
  func clear(_ name: String, whereHiddenBy mask: Tensor?) {
    guard let elements = self[name] else { return }
    mask?.withElements(of: UInt8.self) { mask in elements.clear { mask[$0] == 0 } }
  }

  /// Makes every element zero.
  package func clear() { elements.update(repeating: 0) }
}

extension UnsafeMutableBufferPointer<Float> {
  /// Makes the elements zero for whose index `isCleared` holds.
  func clear(where isCleared: (Int) -> Bool) {
    for index in indices where isCleared(index) { self[index] = 0 }
  }
}
