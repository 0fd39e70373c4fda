import GraphIR
import TensorCore

/// Rounds a gradient at random to few bits an element, on average to itself.
///
/// With fewer than four bits an element, only a part of the rows is kept, those of a wide range
/// likelier than others, and four bits are spent on each of their elements: row `i` stays with
/// probability `p_i`, proportional to its range and at most 1, and is divided by `p_i`. What is kept is
/// rounded to `2^bits` levels from the least to the greatest element, up or down with the probability
/// that makes the mean right. The levels are those of a row, or those of a channel.
///
/// - Shapes: `g`: `[..., channels]`; `seed`: `[2]` int32; result: as `g`.
/// - Source: Gao et al., "1-bit FQT: Pushing the Limit of Fully Quantized Training to 1-bit", 2024,
///   arXiv:2408.14267: activation gradient pruning, sample-channel joint quantization.
package struct QuantizeGradient: Op {
  package static let name = "quantize_gradient"

  /// What shares levels.
  package enum Levels: String, Hashable, Sendable, CaseIterable {
    /// The elements of a row: a sample's or a token's.
    case row
    /// The elements of a channel.
    case channel
  }

  /// The fewest bits of a kept element.
  package static let keptBitCount = 4

  /// Bits an element on average over kept and dropped rows, 1 to 8.
  package let bitCount: Int
  /// What shares levels.
  package let levels: Levels
  /// Tells operations with the same seed apart; equal ones keep the same rows.
  package let salt: Int

  /// Makes the operation.
  package init(bitCount: Int, levels: Levels, salt: Int) {
    self.bitCount = bitCount
    self.levels = levels
    self.salt = salt
  }

  package init(attributes: inout Attributes) throws(GraphError) {
    bitCount = try attributes.integer("bits", in: 1...8)
    let word = try attributes.word("levels", of: Levels.allCases.map(\.rawValue))
    levels = Levels(rawValue: word) ?? .row
    salt = try attributes.integer("salt", in: 0...Int.max)
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    [
      ("bits", .integer(bitCount)), ("levels", .word(levels.rawValue)), ("salt", .integer(salt)),
    ]
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...2)
    try requireFloats(inputs, 0, rank: 1...4)
    guard inputs[1] == TensorType(.int32, [.fixed(2)]) else { throw mismatch(inputs, 1, "i32[2]") }
    return [inputs[0]]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let (rows, width) = matrixExtents(inputs.shape(0))
    let threadCount = outputs.threadCount
    let rounding = StochasticRounding(
      bitCount: max(bitCount, Self.keptBitCount), rows: rows, width: width,
      seed: inputs.seed(1), salt: UInt64(salt), threadCount: threadCount)
    let share = Double(bitCount) / Double(max(bitCount, Self.keptBitCount))
    let g = inputs.pointer(0, of: type)
    let y = outputs.pointer(0, of: type)
    let factors = rounding.factors(of: g, keeping: share)
    switch levels {
    case .row: rounding.roundRows(g, factors, to: y)
    case .channel: rounding.roundChannels(g, factors, to: y)
    }
  }

  /// The probabilities with which groups of these ranges are kept: proportional to the range, at most
  /// 1, and `count` in sum as far as that allows.
  package static func probabilities(ranges: [Double], count: Double) -> [Double] {
    var probabilities = [Double](repeating: 0, count: ranges.count)
    var open = ranges.indices.filter { ranges[$0] > 0 }
    var left = count
    while !open.isEmpty {
      let total = open.reduce(0) { $0 + ranges[$1] }
      let certain = open.filter { ranges[$0] * left >= total }
      if certain.isEmpty {
        for index in open { probabilities[index] = ranges[index] * left / total }
        break
      }
      for index in certain { probabilities[index] = 1 }
      left -= Double(certain.count)
      open = open.filter { probabilities[$0] == 0 }
    }
    return probabilities
  }
}

extension QuantizeGradient: AcceleratedOp {}

extension QuantizeGradient: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    // On average it is the identity.
    [node.gradient, nil]
  }
}

/// Rounding of a matrix up or down by chance, the same for every number of threads.
private struct StochasticRounding {
  let bitCount: Int
  let rows: Int
  let width: Int
  /// Decides which rows stay.
  private let rowKey: UInt64
  /// Decides which way elements are rounded.
  private let elementKey: UInt64
  private let threadCount: Int

  init(bitCount: Int, rows: Int, width: Int, seed: UInt64, salt: UInt64, threadCount: Int) {
    self.bitCount = bitCount
    self.rows = rows
    self.width = width
    self.threadCount = threadCount
    var random = SplitMix64(seed: seed ^ (salt &* 0xD6E8_FEB8_6659_FD93))
    rowKey = random.next()
    elementKey = random.next()
  }

  private func forEachRow(_ body: (Int) -> Void) {
    forEachRange(
      of: rows, threadCount: threadCount, minimumCount: max(1, 1 << 13 / max(width, 1))
    ) { range in
      for row in range { body(row) }
    }
  }

  /// Number `index` of the sequence that `SplitMix64` makes of `key`.
  private func random(_ key: UInt64, _ index: Int) -> UInt64 {
    var generator = SplitMix64(seed: key &+ UInt64(index) &* SplitMix64.increment)
    return generator.next()
  }

  /// What each row is multiplied with: 0 where it goes, else 1 over the probability that it stays.
  func factors<Element: FloatingElement>(
    of g: UnsafeBufferPointer<Element>, keeping share: Double
  ) -> [Element] {
    guard share < 1 else { return [Element](repeating: 1, count: rows) }
    var ranges = [Double](repeating: 0, count: rows)
    ranges.withUnsafeMutableBufferPointer { ranges in
      // Each row has a place of its own.
      nonisolated(unsafe) let ranges = ranges
      forEachRow { row in
        let (low, high) = bounds(g[(row * width)..<((row + 1) * width)])
        ranges[row] = Double(high - low)
      }
    }
    let probabilities = QuantizeGradient.probabilities(
      ranges: ranges, count: share * Double(rows))
    return probabilities.enumerated().map { row, probability in
      let drawn = Double(random(rowKey, row) >> 11) * 0x1p-53
      return drawn < probability ? Element(1 / probability) : 0
    }
  }

  /// The least and the greatest element, zero among them.
  private func bounds<Element: FloatingElement>(
    _ elements: Slice<UnsafeBufferPointer<Element>>
  ) -> (low: Element, high: Element) {
    var (low, high): (Element, Element) = (0, 0)
    for element in elements {
      low = element < low ? element : low
      high = element > high ? element : high
    }
    return (low, high)
  }

  func roundRows<Element: FloatingElement>(
    _ g: UnsafeBufferPointer<Element>, _ factors: [Element],
    to y: UnsafeMutableBufferPointer<Element>
  ) {
    let levelCount = Element((1 << bitCount) - 1)
    forEachRow { row in
      let range = (row * width)..<((row + 1) * width)
      let (low, high) = bounds(g[range])
      let step = (high - low) / levelCount
      guard factors[row] != 0, step > 0 else {
        // A gradient that is no number must not vanish.
        for index in range { y[index] = g[index] * 0 }
        return
      }
      let inverse = 1 / step
      let (first, scale) = (low * factors[row], step * factors[row])
      for index in range {
        let code = rounded((g[index] - low) * inverse, index, levelCount)
        y[index] = first + code * scale
      }
    }
  }

  func roundChannels<Element: FloatingElement>(
    _ g: UnsafeBufferPointer<Element>, _ factors: [Element],
    to y: UnsafeMutableBufferPointer<Element>
  ) {
    let levelCount = Element((1 << bitCount) - 1)
    var low = [Element](repeating: 0, count: width)
    var high = low
    for row in 0..<rows where factors[row] != 0 {
      for channel in 0..<width {
        let value = g[row * width + channel] * factors[row]
        low[channel] = value < low[channel] ? value : low[channel]
        high[channel] = value > high[channel] ? value : high[channel]
      }
    }
    let steps = zip(low, high).map { ($1 - $0) / levelCount }
    let inverses = steps.map { $0 > 0 ? 1 / $0 : 0 }
    forEachRow { row in
      for channel in 0..<width {
        let index = row * width + channel
        guard factors[row] != 0 else {
          y[index] = g[index] * 0
          continue
        }
        let place = (g[index] * factors[row] - low[channel]) * inverses[channel]
        y[index] = low[channel] + rounded(place, index, levelCount) * steps[channel]
      }
    }
  }

  /// One of the integers about `place`, in `0...largest`.
  private func rounded<Element: FloatingElement>(
    _ place: Element, _ index: Int, _ largest: Element
  ) -> Element {
    // 24 bits, so that the sum of a chance and zero stays below 1 in float32.
    let chance = Element(Float(random(elementKey, index) >> 40) * 0x1p-24)
    let lower = place.rounded(.down)
    let code = place - lower > chance ? lower + 1 : lower
    return code < 0 ? 0 : code > largest ? largest : code
  }
}
