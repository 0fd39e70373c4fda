extension LabelTable {
  /// The name of a label.
  ///
  /// - Precondition: `index` is below ``count``.
  public func name(_ index: Int) -> String { String(decoding: nameBytes(index), as: UTF8.self) }

  /// All names in order.
  public var allNames: [String] { (0..<count).map(name) }

  /// The section of labels.
  static func encoded(_ names: [String], _ embeddings: [Float]) -> [UInt8] {
    let texts = names.map { Array($0.utf8) + [0] }
    var bytes: [UInt8] = []
    for word in [names.count, texts.reduce(0) { $0 + $1.count }, 0, 0] {
      bytes.append(UInt32(clamping: word))
    }
    var end = 0
    for text in texts {
      end += text.count
      bytes.append(UInt32(clamping: end))
    }
    bytes += texts.joined()
    bytes += [UInt8](repeating: 0, count: aligned(bytes.count) - bytes.count)
    for value in embeddings { bytes.append(value.bitPattern) }
    return bytes
  }
}
