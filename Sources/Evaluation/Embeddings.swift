import Operators

/// Rows of the joint embedding space, one after the other.
package struct Embeddings: Sendable, Equatable {
  /// Elements of a row.
  package let width: Int
  /// The rows, `[count, width]`.
  package private(set) var values: [Float]

  /// Holds `values`, a whole number of rows.
  package init(width: Int, values: [Float] = []) {
    precondition(
      width > 0 && values.count % width == 0, "\(values.count) is no multiple of \(width)")
    self.width = width
    self.values = values
  }

  /// The number of rows.
  package var count: Int { values.count / width }

  /// Row `index`.
  package subscript(index: Int) -> ArraySlice<Float> {
    values[(index * width)..<((index + 1) * width)]
  }

  /// Adds rows at the end.
  package mutating func append(_ rows: some Sequence<Float>) {
    values.append(contentsOf: rows)
    precondition(values.count % width == 0, "a part of a row was added")
  }

  /// The rows divided by their lengths; a row of zeros stays.
  package func normalized() -> Embeddings {
    var result = self
    for index in 0..<count {
      let length = self[index].reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
      guard length > 0 else { continue }
      for k in (index * width)..<((index + 1) * width) {
        result.values[k] = Float(Double(values[k]) / length)
      }
    }
    return result
  }

  /// The normalized mean of the normalized rows.
  package func normalizedMean() -> ArraySlice<Float> {
    let unit = normalized()
    var mean = [Float](repeating: 0, count: width)
    for index in 0..<count {
      for (k, value) in unit[index].enumerated() { mean[k] += value / Float(count) }
    }
    return Embeddings(width: width, values: mean).normalized()[0]
  }

  /// The inner products with the rows of `other`, `[count, other.count]`.
  ///
  /// - Precondition: the widths agree and the matrix library is open.
  package func similarities(to other: Embeddings, threadCount: Int = 1) -> [Float] {
    precondition(width == other.width, "widths \(width) and \(other.width)")
    return Matrix.productTransposed(
      m: count, n: other.count, k: width, values, other.values, threadCount: threadCount)
  }
}
