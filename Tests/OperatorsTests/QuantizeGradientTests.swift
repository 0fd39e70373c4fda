import GraphIR
import Operators
import TensorCore
import TestSupport
import Testing

/// Rounding at random: right on average, and as far off as its formula says.
@Suite struct QuantizeGradientTests {
  private let rows = 12
  private let width = 6
  private let drawCount = 3000

  /// Rows of very different ranges.
  private var gradient: [Double] {
    var random = SplitMix64(seed: 2)
    return (0..<(rows * width)).map { index in
      let size = Double(sign: .plus, exponent: -(index / width) / 3, significand: 1)
      return Double(Float(random.nextNormal() * size))
    }
  }

  private func draw(_ op: QuantizeGradient, _ seed: Int) throws -> [Double] {
    let g = Tensor(shape: [3, rows / 3, width], gradient.map { Float($0) })
    let words = Tensor(shape: [2], [Int32(seed), 77])
    return try evaluate(OperatorCase(op: op, inputs: [g, words]), as: Double.self)
  }

  /// The mean and the variance of each element over many draws.
  private func moments(_ op: QuantizeGradient) throws -> (mean: [Double], variance: [Double]) {
    var sum = [Double](repeating: 0, count: rows * width)
    var squares = sum
    for seed in 0..<drawCount {
      for (index, value) in try draw(op, seed).enumerated() {
        sum[index] += value
        squares[index] += value * value
      }
    }
    let count = Double(drawCount)
    let mean = sum.map { $0 / count }
    return (mean, zip(squares, mean).map { max(0, $0 / count - $1 * $1) })
  }

  @Test(arguments: [1, 2, 4], QuantizeGradient.Levels.allCases)
  func meanIsTheGradient(_ bitCount: Int, _ levels: QuantizeGradient.Levels) throws {
    let (mean, variance) = try moments(
      QuantizeGradient(bitCount: bitCount, levels: levels, salt: 1))
    for index in gradient.indices {
      let error = (variance[index] / Double(drawCount)).squareRoot()
      #expect(
        abs(mean[index] - gradient[index]) <= 5 * error + 1e-6, "element \(index)")
    }
    // Something was rounded.
    #expect(variance.contains { $0 > 0 })
  }

  /// The variance of row levels: `(g² + d² f (1 - f)) / p - g²` with the step `d`, the fraction `f` and
  /// the probability `p` that the row stays.
  private func expectedVariance(
    bitCount: Int, of gradient: [Double], width: Int
  ) -> [Double] {
    let kept = max(bitCount, 4)
    var ranges: [(low: Double, high: Double)] = []
    for row in 0..<rows {
      let elements = gradient[(row * width)..<((row + 1) * width)]
      ranges.append((min(0, elements.min() ?? 0), max(0, elements.max() ?? 0)))
    }
    let probabilities = QuantizeGradient.probabilities(
      ranges: ranges.map { $0.high - $0.low },
      count: Double(rows) * Double(bitCount) / Double(kept))
    return gradient.indices.map { index in
      let (low, high) = ranges[index / width]
      let step = (high - low) / Double((1 << kept) - 1)
      let place = (gradient[index] - low) / step
      let fraction = place - place.rounded(.down)
      let square = gradient[index] * gradient[index]
      return (square + step * step * fraction * (1 - fraction)) / probabilities[index / width]
        - square
    }
  }

  @Test(arguments: [1, 2, 4, 8])
  func varianceFollowsItsFormula(_ bitCount: Int) throws {
    let (_, variance) = try moments(QuantizeGradient(bitCount: bitCount, levels: .row, salt: 1))
    let expected = expectedVariance(bitCount: bitCount, of: gradient, width: width)
    let (found, wanted) = (variance.reduce(0, +), expected.reduce(0, +))
    #expect(abs(found - wanted) <= 0.06 * wanted, "\(found), \(wanted)")
  }

  @Test func moreBitsAreCloserAndPruningBeatsTwoLevels() throws {
    // The range of a row grows with its width, and with it the error of two levels.
    let width = 64
    let gradient = SplitMix64.normals(rows * width).enumerated().map { index, value in
      Double(value) * Double(sign: .plus, exponent: -(index / width) / 3, significand: 1)
    }
    let sums = [1, 2, 4, 8].map {
      expectedVariance(bitCount: $0, of: gradient, width: width).reduce(0, +)
    }
    #expect(zip(sums, sums.dropFirst()).allSatisfy { $0 > $1 }, "\(sums)")
    // One bit for every element: the least or the greatest of its row.
    var plain = 0.0
    for row in 0..<rows {
      let elements = gradient[(row * width)..<((row + 1) * width)]
      let (low, high) = (min(0, elements.min() ?? 0), max(0, elements.max() ?? 0))
      plain += elements.reduce(0) { $0 + (high - $1) * ($1 - low) }
    }
    #expect(sums[0] < plain)
  }

  @Test func keptElementsHaveFewLevels() throws {
    let y = try draw(QuantizeGradient(bitCount: 1, levels: .row, salt: 4), 5)
    var keptCount = 0
    for row in 0..<rows {
      let elements = y[(row * width)..<((row + 1) * width)]
      keptCount += elements.contains { $0 != 0 } ? 1 : 0
    }
    #expect(keptCount > 0 && keptCount < rows)
    let one = Tensor(shape: [1, 500], SplitMix64.normals(500))
    let wide = OperatorCase(
      op: QuantizeGradient(bitCount: 4, levels: .row, salt: 0),
      inputs: [one, Tensor(shape: [2], [1, 2] as [Int32])])
    #expect(Set(try evaluate(wide, as: Double.self)).count <= 16)
  }

  @Test func drawsFollowSeedAndSalt() throws {
    let op = QuantizeGradient(bitCount: 1, levels: .row, salt: 4)
    #expect(try draw(op, 5) == draw(op, 5))
    #expect(try draw(op, 5) != draw(op, 6))
    #expect(try draw(op, 5) != draw(QuantizeGradient(bitCount: 1, levels: .row, salt: 5), 5))
    // Both products lose the same rows.
    let (a, b) = (
      try draw(op, 5), try draw(QuantizeGradient(bitCount: 1, levels: .channel, salt: 4), 5)
    )
    for row in 0..<rows {
      let range = (row * width)..<((row + 1) * width)
      #expect(a[range].allSatisfy { $0 == 0 } || b[range].contains { $0 != 0 }, "row \(row)")
      #expect(a[range].contains { $0 != 0 } || b[range].allSatisfy { $0 == 0 }, "row \(row)")
    }
  }

  @Test func probabilitiesFillTheBudget() {
    let even = QuantizeGradient.probabilities(ranges: [1, 2, 3, 4], count: 2)
    #expect(zip(even, [0.2, 0.4, 0.6, 0.8]).allSatisfy { abs($0 - $1) < 1e-12 })
    let capped = QuantizeGradient.probabilities(ranges: [100, 1, 1, 2, 0], count: 2)
    #expect(zip(capped, [1, 0.25, 0.25, 0.5, 0]).allSatisfy { abs($0 - $1) < 1e-12 })
    #expect(QuantizeGradient.probabilities(ranges: [0, 0], count: 1) == [0, 0])
    #expect(QuantizeGradient.probabilities(ranges: [0, 3], count: 2) == [0, 1])
  }
}

extension SplitMix64 {
  /// Standard normal numbers.
  fileprivate static func normals(_ count: Int) -> [Float] {
    var random = SplitMix64(seed: 1)
    return random.normals(count)
  }
}
