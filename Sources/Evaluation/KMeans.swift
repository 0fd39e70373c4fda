import Operators
import TensorCore

/// Rows of the embedding space put into groups of what lies close together.
///
/// - Source: Lloyd, "Least squares quantization in PCM", 1982; Arthur and Vassilvitskii,
///   "k-means++: The Advantages of Careful Seeding", SODA 2007.
package struct KMeans: Sendable {
  /// The centre of each cluster.
  package private(set) var centres: Embeddings
  /// The cluster of each row.
  package private(set) var assignments: [Int]
  /// The root of the mean squared distance of each cluster's rows from its centre.
  package private(set) var spreads: [Double]

  /// Puts `rows` into at most `count` clusters, none of them empty; the same rows and seed give the
  /// same clusters.
  ///
  /// - Precondition: there is a row, `count` is positive, and the matrix library is open.
  package init(
    _ rows: Embeddings, count: Int, seed: UInt64, iterations: Int = 50, threadCount: Int = 1
  ) {
    precondition(rows.count > 0 && count > 0, "rows to cluster")
    centres = Self.seeds(of: rows, count: min(count, rows.count), seed: seed)
    assignments = []
    spreads = []
    let squares = rows.squaredLengths
    for _ in 0..<max(iterations, 1) {
      let (nearest, distances) = Self.nearest(rows, squares, centres, threadCount: threadCount)
      let isSettled = nearest == assignments
      assignments = nearest
      var sizes = [Int](repeating: 0, count: centres.count)
      var squared = [Double](repeating: 0, count: centres.count)
      for (row, cluster) in nearest.enumerated() {
        sizes[cluster] += 1
        squared[cluster] += distances[row]
      }
      spreads = zip(squared, sizes).map { ($0 / Double(max($1, 1))).squareRoot() }
      if isSettled { break }
      centres = Self.means(rows, nearest, sizes, fallback: centres)
    }
    dropEmpty()
  }

  /// How many rows each cluster has.
  package var sizes: [Int] {
    assignments.reduce(into: [Int](repeating: 0, count: centres.count)) { $0[$1] += 1 }
  }

  /// How many of `total` rows to draw from each cluster, at most as many as it has, so that the mean
  /// over all rows is estimated with the least variance: in proportion to size times spread.
  ///
  /// - Source: Neyman, "On the Two Different Aspects of the Representative Method", 1934.
  package func allocation(of total: Int) -> [Int] {
    let sizes = sizes
    var counts = [Int](repeating: 0, count: sizes.count)
    var left = min(total, sizes.reduce(0, +))
    // A cluster of equal rows is still to be met once in a while.
    let floor = 1e-3 * max(spreads.max() ?? 0, 1e-12)
    while left > 0 {
      let open = sizes.indices.filter { counts[$0] < sizes[$0] }
      let weights = open.map { Double(sizes[$0]) * max(spreads[$0], floor) }
      let whole = weights.reduce(0, +)
      var given = 0
      for (place, cluster) in open.enumerated() {
        let share = Int((Double(left) * weights[place] / whole).rounded(.down))
        let more = min(share, sizes[cluster] - counts[cluster])
        counts[cluster] += more
        given += more
      }
      left -= given
      guard given == 0 else { continue }
      // What rounding left goes to those that have least for their weight.
      for cluster in open.sorted(by: { first, second in
        let left = Double(counts[first] + 1) / (Double(sizes[first]) * max(spreads[first], floor))
        let right =
          Double(counts[second] + 1) / (Double(sizes[second]) * max(spreads[second], floor))
        return (left, first) < (right, second)
      }).prefix(left) {
        counts[cluster] += 1
      }
      left = 0
    }
    return counts
  }

  private mutating func dropEmpty() {
    let sizes = sizes
    guard sizes.contains(0) else { return }
    let kept = sizes.indices.filter { sizes[$0] > 0 }
    var places = [Int](repeating: 0, count: sizes.count)
    for (place, cluster) in kept.enumerated() { places[cluster] = place }
    assignments = assignments.map { places[$0] }
    spreads = kept.map { spreads[$0] }
    centres = Embeddings(width: centres.width, values: kept.flatMap { Array(centres[$0]) })
  }

  private static func seeds(of rows: Embeddings, count: Int, seed: UInt64) -> Embeddings {
    var generator = SplitMix64(seed: seed)
    var chosen = [generator.nextIndex(below: rows.count)]
    var distances = [Double](repeating: .infinity, count: rows.count)
    while chosen.count < count {
      let last = rows[chosen[chosen.count - 1]]
      for index in distances.indices {
        var distance = 0.0
        for (a, b) in zip(rows[index], last) { distance += Double(a - b) * Double(a - b) }
        distances[index] = min(distances[index], distance)
      }
      let whole = distances.reduce(0, +)
      guard whole > 0 else { break }
      var mark = Double(generator.next() >> 11) * 0x1p-53 * whole
      let next = distances.firstIndex { distance in
        mark -= distance
        return mark < 0
      }
      chosen.append(next ?? distances.count - 1)
    }
    return Embeddings(width: rows.width, values: chosen.flatMap { Array(rows[$0]) })
  }

  private static func nearest(
    _ rows: Embeddings, _ squares: [Double], _ centres: Embeddings, threadCount: Int
  ) -> (clusters: [Int], distances: [Double]) {
    let products = rows.similarities(to: centres, threadCount: threadCount)
    let lengths = centres.squaredLengths
    var clusters = [Int](repeating: 0, count: rows.count)
    var distances = [Double](repeating: 0, count: rows.count)
    for row in 0..<rows.count {
      var best = Double.infinity
      for cluster in lengths.indices {
        let product = Double(products[row * lengths.count + cluster])
        let distance = squares[row] + lengths[cluster] - 2 * product
        if distance < best { (best, clusters[row]) = (distance, cluster) }
      }
      distances[row] = max(best, 0)
    }
    return (clusters, distances)
  }

  private static func means(
    _ rows: Embeddings, _ clusters: [Int], _ sizes: [Int], fallback: Embeddings
  ) -> Embeddings {
    let width = rows.width
    var sums = [Double](repeating: 0, count: sizes.count * width)
    for (row, cluster) in clusters.enumerated() {
      for (k, value) in rows[row].enumerated() { sums[cluster * width + k] += Double(value) }
    }
    return Embeddings(
      width: width,
      values: sums.indices.map { index in
        let size = sizes[index / width]
        return size > 0 ? Float(sums[index] / Double(size)) : fallback.values[index]
      })
  }
}

extension Embeddings {
  /// The inner product of each row with itself.
  fileprivate var squaredLengths: [Double] {
    (0..<count).map { self[$0].reduce(0) { $0 + Double($1) * Double($1) } }
  }
}
