import TensorCore

/// A tensor of a saved state and its name.
package typealias NamedTensor = (name: String, tensor: Tensor)

/// Why a saved state cannot be restored; the object that refuses it stays as it was.
package enum TrainingStateError: Error, Hashable, CustomStringConvertible {
  case missing(String)
  case repeated(String)
  case unexpected(String)
  case mismatch(name: String, expected: String, found: String)
  case invalid(name: String, reason: String)

  package var description: String {
    switch self {
    case .missing(let name): "the saved state has no \(name)"
    case .repeated(let name): "the saved state has two of \(name)"
    case .unexpected(let name): "the saved state has \(name), which nothing here asks for"
    case .mismatch(let name, let expected, let found):
      "\(name) of the saved state is \(found), not \(expected)"
    case .invalid(let name, let reason): "\(name) of the saved state \(reason)"
    }
  }
}

/// Something that changes while a model is trained and continues, bit for bit, from a saved state.
package protocol TrainingState: AnyObject {
  /// Everything that later steps depend on, in a fixed order; the names are unique.
  var state: [NamedTensor] { get }

  /// Continues from `state`, which an object of the same configuration gave.
  ///
  /// - Throws: What is missing, too much or of the wrong extents; nothing is changed then.
  func restore(_ state: [NamedTensor]) throws(TrainingStateError)
}

/// Takes a saved state apart and finds what is missing or left over.
package struct SavedTensors {
  private var tensors: [String: Tensor] = [:]

  /// Reads `state`.
  ///
  /// - Throws: A name that occurs twice.
  package init(_ state: [NamedTensor]) throws(TrainingStateError) {
    for (name, tensor) in state where tensors.updateValue(tensor, forKey: name) != nil {
      throw .repeated(name)
    }
  }

  /// Removes and returns the tensor called `name`, whose extents may be anything when `shape` is nil.
  package mutating func take(
    _ name: String, _ dtype: DType, _ shape: [Int]?
  ) throws(TrainingStateError) -> Tensor {
    guard let tensor = tensors.removeValue(forKey: name) else { throw .missing(name) }
    let expected = TensorType(dtype, shape: shape ?? tensor.shape)
    let found = TensorType(tensor.dtype, shape: tensor.shape)
    guard found == expected else {
      throw .mismatch(
        name: name, expected: expected.description, found: found.description)
    }
    return tensor
  }

  /// Removes and returns the non-negative count called `name`.
  package mutating func takeCount(_ name: String) throws(TrainingStateError) -> Int {
    let count = try take(name, .int32, []).elements(of: Int32.self).first ?? 0
    guard count >= 0 else { throw .invalid(name: name, reason: "is negative") }
    return Int(count)
  }

  /// Removes and returns the tensors of a block of `layout` that was saved under `prefix`.
  package mutating func takeBlock(
    _ prefix: String, _ layout: ParameterLayout
  ) throws(TrainingStateError) -> [Tensor] {
    var tensors: [Tensor] = []
    for entry in layout.entries {
      tensors.append(try take("\(prefix)/\(entry.name)", .float32, entry.shape))
    }
    return tensors
  }

  /// Ends the reading.
  ///
  /// - Throws: The first name, in alphabetical order, that nobody took.
  package func finish() throws(TrainingStateError) {
    if let name = tensors.keys.min() { throw .unexpected(name) }
  }
}

extension ParameterBlock {
  /// The entries as tensors with names under `prefix`.
  package func namedTensors(_ prefix: String) -> [NamedTensor] {
    entries.map { ("\(prefix)/\($0.name)", tensor(of: $0)) }
  }

  /// Copies `tensors`, one for each entry, into the block.
  ///
  /// - Precondition: they are float32 and have the entries' extents.
  package func set(_ tensors: [Tensor]) {
    for (entry, tensor) in zip(entries, tensors) { set(entry, tensor) }
  }
}

/// A count as a tensor of a saved state.
func countTensor(_ name: String, _ count: Int) -> NamedTensor {
  (name, Tensor(shape: [], [Int32(clamping: count)]))
}
