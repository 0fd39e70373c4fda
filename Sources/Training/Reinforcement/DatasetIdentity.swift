import Checkpoints
import Datasets

/// Which data a file of teacher embeddings belongs to.
///
/// Told apart are the kind of data, the names of the classes and samples, and their order; images
/// and captions are not read. Names count from the folder that the data lie in, so that data which
/// moved as a whole stay the same.
package struct DatasetIdentity: Hashable, Sendable {
  /// The kind of data.
  package let kind: Dataset.Kind
  /// How many samples there are.
  package let sampleCount: Int
  /// The hash of kind and names, as `formats/reinforced.md` defines it, in lower-case hexadecimal.
  package let sha256: String

  /// The identity of `dataset`.
  ///
  /// - Throws: `DataError` where a sample cannot be read.
  package init(of dataset: Dataset) throws(DataError) {
    kind = dataset.kind
    sampleCount = dataset.sampleCount
    var names = NameHash()
    names.take(dataset.kind.rawValue)
    names.take(dataset.classNames.count)
    for name in dataset.classNames { names.take(name) }
    names.take(dataset.sampleCount)
    let folder = Array(Self.folder(of: dataset).utf8)
    for index in 0..<dataset.sampleCount {
      names.take(try dataset.sample(at: index).name, without: folder)
    }
    sha256 = names.finish()
  }

  /// The identity that a file states.
  init(kind: Dataset.Kind, sampleCount: Int, sha256: String) {
    self.kind = kind
    self.sampleCount = sampleCount
    self.sha256 = sha256
  }

  /// What the names of `dataset` begin with only because of where the data lie; ends in a slash
  /// where it is not empty.
  private static func folder(of dataset: Dataset) -> String {
    switch dataset.kind {
    case .files: return ""
    case .folder:
      return dataset.path.utf8.last == UInt8(ascii: "/") ? dataset.path : dataset.path + "/"
    case .table, .shards:
      // What braces expand to belongs to the names.
      let stem = dataset.path.utf8.prefix { $0 != UInt8(ascii: "{") }
      guard let slash = stem.lastIndex(of: UInt8(ascii: "/")) else { return "" }
      return String(dataset.path[...slash])
    }
  }
}

extension DatasetIdentity: CustomStringConvertible {
  package var description: String { "\(sampleCount) samples of kind \(kind.rawValue), \(sha256)" }
}

/// A hash of numbers and texts, each text behind its length.
private struct NameHash {
  /// Bytes that are hashed at a time.
  private static let blockCount = 1 << 16
  private var hash = SHA256()
  private var pending: [UInt8] = []

  mutating func take(_ number: Int) {
    withUnsafeBytes(of: UInt64(number).littleEndian) { pending.append(contentsOf: $0) }
  }

  mutating func take(_ text: String, without prefix: [UInt8] = []) {
    let bytes = text.utf8.dropFirst(text.utf8.starts(with: prefix) ? prefix.count : 0)
    take(bytes.count)
    pending.append(contentsOf: bytes)
    if pending.count >= Self.blockCount { flush() }
  }

  mutating func finish() -> String {
    flush()
    return hash.finish()
  }

  private mutating func flush() {
    pending.withUnsafeBytes { hash.update($0) }
    pending.removeAll(keepingCapacity: true)
  }
}
