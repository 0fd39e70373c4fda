/// The linear assignment problem: which column for each row, so that the sum is best.
///
/// - Source: Jonker and Volgenant, "A shortest augmenting path algorithm for dense and sparse linear
///   assignment problems", Computing 38, 1987.
package enum LinearAssignment {
  /// The column of each row for which the sum of row-major `scores`, `[count, count]`, is largest.
  ///
  /// Exact but for the rounding of float64; at most `count` cubed steps.
  ///
  /// - Precondition: every score is finite.
  package static func maximizing(_ scores: [Double], count: Int) -> [Int] {
    precondition(scores.count == count * count, "a square matrix")
    precondition(scores.allSatisfy(\.isFinite), "finite scores")
    guard count > 1 else { return Array(0..<count) }
    return scores.withUnsafeBufferPointer { scores in
      guard let base = scores.baseAddress else { return [] }
      var search = AssignmentSearch(base, count: count)
      return search.run()
    }
  }
}

/// Columns for rows so far, with prices of columns under which each assigned row has its cheapest.
private struct AssignmentSearch {
  private let scores: UnsafePointer<Double>
  private let count: Int
  private var prices: [Double]
  private var columns: [Int]
  private var rows: [Int]

  /// The costs are the negated `scores`.
  init(_ scores: UnsafePointer<Double>, count: Int) {
    self.scores = scores
    self.count = count
    prices = [Double](repeating: .infinity, count: count)
    columns = [Int](repeating: -1, count: count)
    rows = [Int](repeating: -1, count: count)
  }

  mutating func run() -> [Int] {
    var free = reduceColumns()
    for _ in 0..<2 where !free.isEmpty { free = reduceRows(free) }
    var path = ShortestPath(count)
    for row in free { augment(from: row, &path) }
    return columns
  }

  /// Gives each column to the row that has it cheapest, unless that row has one; the rows without.
  private mutating func reduceColumns() -> [Int] {
    var cheapest = [Int](repeating: 0, count: count)
    for row in 0..<count {
      let line = scores + row * count
      for column in 0..<count where -line[column] < prices[column] {
        prices[column] = -line[column]
        cheapest[column] = row
      }
    }
    var claims = [Int](repeating: 0, count: count)
    for column in (0..<count).reversed() {
      let row = cheapest[column]
      claims[row] += 1
      guard columns[row] < 0 else { continue }
      columns[row] = column
      rows[column] = row
    }
    // A row that has one column alone may pay more for it, which makes others' searches shorter.
    for row in 0..<count where claims[row] == 1 {
      let (own, line) = (columns[row], scores + row * count)
      var least = Double.infinity
      for column in 0..<count where column != own {
        least = min(least, -line[column] - prices[column])
      }
      prices[own] -= least
    }
    return (0..<count).filter { columns[$0] < 0 }
  }

  /// Lets each of `waiting` take the column that is cheapest for it from whoever has it; the rows
  /// that are left without.
  private mutating func reduceRows(_ waiting: [Int]) -> [Int] {
    var stack = Array(waiting.reversed())
    var left: [Int] = []
    // With real numbers the chain of displaced rows ends by itself; rounding might keep it going.
    var patience = 8 * count
    while let row = stack.popLast() {
      let line = scores + row * count
      var (first, second) = (Double.infinity, Double.infinity)
      var (column, other) = (0, 0)
      for j in 0..<count {
        let cost = -line[j] - prices[j]
        if cost < second {
          if cost < first {
            (second, other) = (first, column)
            (first, column) = (cost, j)
          } else {
            (second, other) = (cost, j)
          }
        }
      }
      let price = prices[column] - (second - first)
      let isCheaper = price < prices[column]
      if !isCheaper, rows[column] >= 0 { column = other }
      let displaced = rows[column]
      if displaced >= 0, !isCheaper || patience == 0 {
        left.append(row)
        continue
      }
      if isCheaper { prices[column] = price }
      patience -= 1
      columns[row] = column
      rows[column] = row
      if displaced >= 0 {
        columns[displaced] = -1
        stack.append(displaced)
      }
    }
    return left
  }

  /// What a search for the shortest path needs, made once.
  private struct ShortestPath {
    /// The shortest way known to each column; below all numbers once it is final.
    var distances: [Double]
    /// The row from which that way comes.
    var origins: [Int]
    /// The columns whose distances are final, with these.
    var finished: [(column: Int, distance: Double)] = []

    init(_ count: Int) {
      distances = [Double](repeating: .infinity, count: count)
      origins = [Int](repeating: 0, count: count)
    }
  }

  /// Finds the cheapest chain of exchanges that leaves `start` with a column, and carries it out.
  private mutating func augment(from start: Int, _ path: inout ShortestPath) {
    for column in 0..<count { path.distances[column] = .infinity }
    path.finished.removeAll(keepingCapacity: true)
    var column = nearest(from: start, base: 0, &path)
    var length = path.distances[column]
    while rows[column] >= 0 {
      let row = rows[column]
      path.finished.append((column, length))
      path.distances[column] = -.infinity
      let base = length - (-scores[row * count + column] - prices[column])
      column = nearest(from: row, base: base, &path)
      length = path.distances[column]
    }
    for (column, distance) in path.finished { prices[column] += distance - length }
    while true {
      let row = path.origins[column]
      let next = columns[row]
      rows[column] = row
      columns[row] = column
      guard row != start else { return }
      column = next
    }
  }

  /// Shortens distances by way of `row`, whose reduced costs count from `base`; the nearest column
  /// that is not final.
  private func nearest(from row: Int, base: Double, _ path: inout ShortestPath) -> Int {
    let line = scores + row * count
    var (best, place) = (Double.infinity, 0)
    prices.withUnsafeBufferPointer { prices in
      path.origins.withUnsafeMutableBufferPointer { origins in
        path.distances.withUnsafeMutableBufferPointer { distances in
          for column in 0..<count {
            let way = base - line[column] - prices[column]
            var known = distances[column]
            if way < known {
              known = way
              distances[column] = way
              origins[column] = row
            }
            if known < best, known > -.infinity { (best, place) = (known, column) }
          }
        }
      }
    }
    return place
  }
}
