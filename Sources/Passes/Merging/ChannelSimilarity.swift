import Operators
import TensorCore

/// How much each channel of one model is like each of another: `[count, count]`, row-major.
struct ChannelSimilarity {
  let count: Int
  private(set) var elements: [Float]

  init(count: Int) {
    self.count = count
    elements = [Float](repeating: 0, count: count * count)
  }

  /// Holds `elements`.
  init(count: Int, _ elements: [Float]) {
    precondition(elements.count == count * count, "a square matrix")
    self.count = count
    self.elements = elements
  }

  var isFinite: Bool { elements.allSatisfy(\.isFinite) }

  /// The sum over the channels in their places.
  var trace: Double {
    (0..<count).reduce(0) { $0 + Double(elements[$1 * count + $1]) }
  }

  subscript(row: Int, column: Int) -> Double { Double(elements[row * count + column]) }

  /// Adds the products of the slices of `axis` of two tensors of one shape.
  mutating func add(_ first: Tensor, _ second: Tensor, axis: Int, threadCount: Int) {
    let outer = first.shape[..<axis].reduce(1, *)
    let inner = first.shape[(axis + 1)...].reduce(1, *)
    let count = count
    first.withElements(of: Float.self) { a in
      second.withElements(of: Float.self) { b in
        elements.withUnsafeMutableBufferPointer { target in
          // Where the slices are columns the product runs over rows, otherwise over one block each.
          let isColumns = inner == 1
          for block in 0..<(isColumns ? 1 : outer) {
            let range =
              isColumns ? 0..<a.count : (block * count * inner)..<((block + 1) * count * inner)
            let stride = isColumns ? count : inner
            Matrix.multiply(
              m: count, n: count, k: isColumns ? outer : inner,
              MatrixView(
                UnsafeBufferPointer(rebasing: a[range]), stride: stride, isTransposed: isColumns),
              MatrixView(
                UnsafeBufferPointer(rebasing: b[range]), stride: stride, isTransposed: !isColumns),
              accumulates: true, into: target, threadCount: threadCount)
          }
        }
      }
    }
  }

  /// The similarities of the channels `rows` of one model and `columns` of the other.
  func part(_ rows: Range<Int>, _ columns: Range<Int>) -> [Double] {
    rows.flatMap { row in columns.map { Double(elements[row * count + $0]) } }
  }
}

/// Which units of another model are most like those of one, all taken together.
struct ChannelMatch {
  /// The order in which the other model's channels stand beside the first's.
  let order: ChannelOrder
  /// How much the units of each pair are like each other.
  let similarities: [Double]
  /// What the whole order has over the order as it was.
  let gain: Double

  /// The best order under `others`, with `scores` for the channels that queries and keys share.
  ///
  /// Exact: pairs of heads are compared under the best order of their channels.
  init(_ group: PermutableGroup, scores: ChannelSimilarity, others: ChannelSimilarity) {
    let (unit, units) = (group.group.unit, group.group.unitCount)
    let table =
      group.isFree
      ? nil : HeadTable(unit: unit, units: units, group.permutesWithin, scores, others)
    let totals = table?.totals ?? others.elements.map { Double($0) }
    let order = LinearAssignment.maximizing(totals, count: units)
    similarities = order.enumerated().map { totals[$0 * units + $1] }
    let before = others.trace + (group.permutesWithin ? scores.trace : 0)
    gain = similarities.reduce(0, +) - before
    guard let table, group.permutesWithin else {
      self.order = ChannelOrder(units: order, width: unit)
      return
    }
    func channels(_ orders: [[Int]]) -> [Int] {
      order.enumerated().flatMap { own, other in
        orders[own * units + other].map { other * unit + $0 }
      }
    }
    self.order = ChannelOrder(
      units: order, scores: channels(table.scoreOrders), others: channels(table.otherOrders))
  }

  /// Whether the gain is more than rounding of float32 sums.
  var isGain: Bool {
    gain > 1e-7 * similarities.reduce(0) { $0 + abs($1) } && !order.isIdentity
  }
}

/// Every pair of heads with the best order of the channels within.
private struct HeadTable {
  var totals: [Double] = []
  var scoreOrders: [[Int]] = []
  var otherOrders: [[Int]] = []

  init(
    unit: Int, units: Int, _ permutesWithin: Bool, _ scores: ChannelSimilarity,
    _ others: ChannelSimilarity
  ) {
    for own in 0..<units {
      let rows = (own * unit)..<((own + 1) * unit)
      for other in 0..<units {
        let columns = (other * unit)..<((other + 1) * unit)
        var total = 0.0
        for (similarity, isScore) in [(others, false), (scores, true)] {
          guard permutesWithin || !isScore else { continue }
          let part = similarity.part(rows, columns)
          let order =
            permutesWithin ? LinearAssignment.maximizing(part, count: unit) : Array(0..<unit)
          total += order.enumerated().reduce(0) { $0 + part[$1.offset * unit + $1.element] }
          if isScore { scoreOrders.append(order) } else { otherOrders.append(order) }
        }
        totals.append(total)
      }
    }
  }
}
