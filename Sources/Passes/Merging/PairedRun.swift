import Execution
import GraphIR
import Operators
import TensorCore

/// Runs two graphs of one architecture on the same batches.
struct PairedRun {
  /// What both graphs computed for one value, a row for each token.
  struct Rows {
    /// Of the first graph.
    let first: [Float]
    /// Of the second.
    let second: [Float]
  }

  /// Shows `visit` what both graphs compute for the values called `names`, batch by batch, where
  /// the batch reaches them.
  ///
  /// - Throws: ``PassError`` when there are no data, a run fails or a value is not finite.
  static func forEachBatch(
    _ first: Graph, _ second: Graph, values names: Set<String>, in context: borrowing PassContext,
    _ visit: (String, Rows) -> Void
  ) throws(PassError) {
    guard let source = context.calibration else { throw .needsData(pass: "\(Merging.name) pleas") }
    let threads = context.threadCount
    var towers: [(Executor, Executor)] = []
    do {
      for output in first.outputs {
        let pair = try [first, second].map {
          try Executor($0, outputs: [output.name], threadCount: threads)
        }
        towers.append((pair[0], pair[1]))
      }
    } catch {
      throw .calibration(error)
    }
    let report = context.report
    var done = 0
    do {
      try source.forEachBatch { batch in
        var isUsed = false
        for (one, other) in towers {
          let needed = one.graph.inputs.map { one.graph.name(of: $0) }
          guard needed.allSatisfy({ batch.inputs[$0] != nil }) else { continue }
          isUsed = true
          let own = try observe(one, names, batch)
          let theirs = try observe(other, names, batch)
          for name in own.keys.sorted() {
            guard let a = own[name], let b = theirs[name] else { continue }
            guard a.allSatisfy(\.isFinite), b.allSatisfy(\.isFinite) else {
              throw PassError.unsuitable(
                pass: Merging.name, "value \(name) is not finite on the data")
            }
            visit(name, Rows(first: a, second: b))
          }
        }
        if isUsed { done += 1 }
        report(.progress(stage: "activations", done: done, total: 0))
      }
    } catch let error as PassError {
      throw error
    } catch {
      throw .calibration(error)
    }
    guard done > 0 else {
      throw .unsuitable(pass: Merging.name, "the data hold no sample")
    }
  }

  private static func observe(
    _ executor: Executor, _ names: Set<String>, _ batch: Batch
  ) throws -> [String: [Float]] {
    let graph = executor.graph
    let observed = Set(names.compactMap { graph.value(named: $0) })
    var found: [String: [Float]] = [:]
    guard !observed.isEmpty else { return found }
    _ = try executor.run(batch.inputs, observing: observed) { value, elements in
      found[graph.name(of: value)] = Array(elements)
    }
    return found
  }

  /// `costs` divided into runs of neighbours of at most `limit` each, or one alone.
  static func portions(_ costs: [Int], limit: Int) -> [Range<Int>] {
    var portions: [Range<Int>] = []
    var (start, sum) = (0, 0)
    for (index, cost) in costs.enumerated() {
      if index > start, sum + cost > limit {
        portions.append(start..<index)
        (start, sum) = (index, 0)
      }
      sum += cost
    }
    if start < costs.count { portions.append(start..<costs.count) }
    return portions
  }

  /// Bytes of moments that are gathered at once; more take another run over the data.
  static let memoryLimit = 1 << 30
}

/// Sums of products of rows, `[rows, m]` and `[rows, n]`, about values near their means.
struct ShiftedProducts {
  let widths: (first: Int, second: Int)
  private(set) var rowCount = 0
  private(set) var products: [Double]
  private(set) var sums: (first: [Double], second: [Double])
  private var shifts: (first: [Float], second: [Float])?

  /// So many rows go into one float32 product before it is added in float64.
  private static let chunk = 2048

  init(_ first: Int, _ second: Int) {
    widths = (first, second)
    products = [Double](repeating: 0, count: first * second)
    sums = ([Double](repeating: 0, count: first), [Double](repeating: 0, count: second))
  }

  /// Counts rows; they stand side by side in both arrays.
  mutating func add(_ first: [Float], _ second: [Float], threadCount: Int) {
    let rows = first.count / max(widths.first, 1)
    precondition(rows * widths.second == second.count, "as many rows")
    guard rows > 0 else { return }
    let shifts =
      self.shifts ?? (columnMeans(first, widths.first), columnMeans(second, widths.second))
    self.shifts = shifts
    for start in stride(from: 0, to: rows, by: Self.chunk) {
      let range = start..<min(start + Self.chunk, rows)
      let a = shifted(first, range, shifts.first, sums: &sums.first)
      let b = shifted(second, range, shifts.second, sums: &sums.second)
      let product = transposedProduct(
        a, b, widths.first, widths.second, rows: range.count, threadCount: threadCount)
      for index in products.indices { products[index] += Double(product[index]) }
    }
    rowCount += rows
  }

  /// The mean of each column, of the first array or of the second.
  func means(ofSecond: Bool) -> [Double] {
    let (sums, shift) =
      ofSecond ? (sums.second, shifts?.second ?? []) : (sums.first, shifts?.first ?? [])
    return zip(sums, shift).map { $0 / Double(max(rowCount, 1)) + Double($1) }
  }

  /// The means of the products, about the means where `centred`: `[m, n]`, row-major.
  func moments(centred: Bool) -> [Double] {
    let scale = 1 / Double(max(rowCount, 1))
    let (a, b) = (sums.first.map { $0 * scale }, sums.second.map { $0 * scale })
    let (m, n) = (means(ofSecond: false), means(ofSecond: true))
    var result = products
    guard rowCount > 0 else { return result }
    for row in 0..<widths.first {
      for column in 0..<widths.second {
        let place = row * widths.second + column
        result[place] = result[place] * scale - a[row] * b[column]
        if !centred { result[place] += m[row] * n[column] }
      }
    }
    return result
  }
}

private func columnMeans(_ rows: [Float], _ width: Int) -> [Float] {
  var sums = [Double](repeating: 0, count: width)
  for start in stride(from: 0, to: rows.count, by: width) {
    for column in 0..<width { sums[column] += Double(rows[start + column]) }
  }
  return sums.map { Float($0 * Double(width) / Double(max(rows.count, 1))) }
}

private func shifted(
  _ rows: [Float], _ range: Range<Int>, _ shift: [Float], sums: inout [Double]
) -> [Float] {
  let width = shift.count
  var result = [Float](repeating: 0, count: range.count * width)
  for (place, row) in range.enumerated() {
    for column in 0..<width {
      let value = rows[row * width + column] - shift[column]
      result[place * width + column] = value
      sums[column] += Double(value)
    }
  }
  return result
}

private func transposedProduct(
  _ a: [Float], _ b: [Float], _ m: Int, _ n: Int, rows: Int, threadCount: Int
) -> [Float] {
  var product = [Float](repeating: 0, count: m * n)
  product.withUnsafeMutableBufferPointer { product in
    a.withUnsafeBufferPointer { a in
      b.withUnsafeBufferPointer { b in
        Matrix.multiply(
          m: m, n: n, k: rows, MatrixView(a, stride: m, isTransposed: true),
          MatrixView(b, stride: n), into: product, threadCount: threadCount)
      }
    }
  }
  return product
}
