/// Why teacher embeddings cannot be collected or replayed.
package enum ReinforcementError: Error, Hashable, Sendable {
  /// The embeddings would take more bytes than a file may hold; `byteCount` is nil where the number
  /// is beyond 64 bits.
  case tooLarge(byteCount: Int?, limit: Int)
  /// Something that was to be collected is not what it should be.
  case unusable(place: String, expected: String, found: String)
  /// Views have no embedding yet.
  case incomplete(count: Int, sample: Int, view: Int)
  /// The file belongs to other data, or to images of another size.
  case otherData(path: String, expected: String, found: String)
  /// A sample or view that the file does not hold.
  case absentView(path: String, sample: Int, view: Int)
  /// A text that the file holds no embedding of.
  case absentText(path: String, tokens: [Int32])

  /// The exit code that a command answers with.
  package var exitCode: Int32 { 65 }
}

extension ReinforcementError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .tooLarge(let byteCount, let limit):
      let count = byteCount.map { "\($0)" } ?? "more than \(Int.max)"
      return "teacher embeddings: expected at most \(limit) bytes, found \(count);"
        + " take fewer samples or views"
    case .unusable(let place, let expected, let found):
      return "\(place): expected \(expected), found \(found)"
    case .incomplete(let count, let sample, let view):
      return "teacher embeddings: expected one of every view, found \(count) missing, the first of"
        + " sample \(sample), view \(view)"
    case .otherData(let path, let expected, let found):
      return "\(path): made of \(expected); the data are \(found)"
    case .absentView(let path, let sample, let view):
      return "\(path): expected sample \(sample), view \(view); found no such view"
    case .absentText(let path, let tokens):
      let shown = tokens.prefix(12).map { "\($0)" }.joined(separator: " ")
      return "\(path): expected an embedding of the text \(shown)\(tokens.count > 12 ? " …" : "")"
        + ", found none"
    }
  }
}
