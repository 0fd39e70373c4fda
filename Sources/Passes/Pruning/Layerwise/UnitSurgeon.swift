import Operators

/// Takes units of input channels out of one layer, the rest making up for each.
struct UnitSurgeon {
  /// How many units there are.
  let unitCount: Int
  private let unit: Int
  private let rows: Int
  private let columns: Int
  private let threadCount: Int
  /// The inverse of the Hessian without the channels that are gone, zero in their place.
  private var inverse: [Double]
  private var weights: [Double]

  /// Starts with all units of `unit` neighbouring channels; nil when the Hessian is not positive
  /// definite.
  init?(_ problem: LayerProblem, unit: Int) {
    guard
      let factor = CholeskyFactor(
        problem.hessian, count: problem.columns, threadCount: problem.threadCount)
    else { return nil }
    self.unit = unit
    rows = problem.rows
    columns = problem.columns
    threadCount = problem.threadCount
    unitCount = columns / max(unit, 1)
    inverse = factor.inverse(threadCount: threadCount)
    weights = problem.target.map { Double($0) }
  }

  /// What the removal of `group` costs while the others make up for it: the sum over the rows of
  /// `w_g [H⁻¹]_gg⁻¹ w_gᵀ`.
  func cost(of group: Int) -> Double {
    let channels = self.channels(of: [group])
    guard let factor = factor(of: channels) else { return 0 }
    var sum = 0.0
    for row in 0..<rows {
      var side = channels.map { weights[row * columns + $0] }
      factor.forward(&side)
      for value in side { sum += value * value }
    }
    return sum
  }

  /// Removes `groups` and lets what is left make up for them.
  mutating func remove(_ groups: [Int]) {
    let channels = channels(of: groups)
    guard let factor = factor(of: channels) else { return }
    let count = channels.count
    // Rows of `scaled` are the channels' columns of the inverse under the factor's inverse.
    var scaled = [Double](repeating: 0, count: columns * count)
    var moved = [Double](repeating: 0, count: rows * count)
    fill(&scaled, from: inverse, columns, channels, factor)
    fill(&moved, from: weights, rows, channels, factor)
    subtract(moved, scaled, rows, count, from: &weights)
    subtract(scaled, scaled, columns, count, from: &inverse)
    for channel in channels {
      for row in 0..<rows { weights[row * columns + channel] = 0 }
      for other in 0..<columns {
        inverse[channel * columns + other] = 0
        inverse[other * columns + channel] = 0
      }
    }
  }

  /// What each unit costs when all go, the cheapest first; never less than a unit before it.
  mutating func costsOfRemovingAll() -> [Double] {
    var costs = [Double](repeating: 0, count: unitCount)
    var left = Array(0..<unitCount)
    var highest = 0.0
    // Wide layers lose several units at once, which keeps the number of updates in bounds.
    let step = max(1, unitCount / 512)
    while !left.isEmpty {
      var measured = [Double](repeating: 0, count: left.count)
      measured.withUnsafeMutableBufferPointer { measured in
        nonisolated(unsafe) let measured = measured
        forEachRange(of: measured.count, threadCount: threadCount) { range in
          for index in range { measured[index] = cost(of: left[index]) }
        }
      }
      let order = left.indices.sorted { (measured[$0], $0) < (measured[$1], $1) }.prefix(step)
      for index in order {
        highest = max(highest, measured[index])
        costs[left[index]] = highest
      }
      let gone = order.map { left[$0] }
      remove(gone)
      left.removeAll(where: gone.contains)
    }
    return costs
  }

  private func channels(of groups: [Int]) -> [Int] {
    groups.flatMap { ($0 * unit)..<(($0 + 1) * unit) }
  }

  private func factor(of channels: [Int]) -> CholeskyFactor? {
    CholeskyFactor(
      channels.flatMap { a in channels.map { b in inverse[a * columns + b] } },
      count: channels.count)
  }

  private func fill(
    _ target: inout [Double], from source: [Double], _ rowCount: Int, _ channels: [Int],
    _ factor: CholeskyFactor
  ) {
    target.withUnsafeMutableBufferPointer { target in
      nonisolated(unsafe) let target = target
      forEachRange(of: rowCount, threadCount: threadCount, minimumCount: 64) { range in
        for row in range {
          var side = channels.map { source[row * columns + $0] }
          factor.forward(&side)
          for (place, value) in side.enumerated() { target[row * channels.count + place] = value }
        }
      }
    }
  }

  /// `target -= left rightᵀ` for `left` `[rowCount, count]` and `right` `[columns, count]`.
  private func subtract(
    _ left: [Double], _ right: [Double], _ rowCount: Int, _ count: Int,
    from target: inout [Double]
  ) {
    let columns = columns
    let threadCount = threadCount
    target.withUnsafeMutableBufferPointer { target in
      left.withUnsafeBufferPointer { left in
        right.withUnsafeBufferPointer { right in
          guard let c = target.baseAddress, let a = left.baseAddress, let b = right.baseAddress
          else { return }
          forEachRange(of: rowCount, threadCount: threadCount, minimumCount: 64) { range in
            DotTiles.subtract(
              c + range.lowerBound * columns, columns, a + range.lowerBound * count, count, b,
              count, m: range.count, n: columns, k: count)
          }
        }
      }
    }
  }
}
