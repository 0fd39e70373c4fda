import Passes
import TensorCore
import TestSupport
import Testing

@Suite struct NetTrimTests {
  /// A layer a tenth of whose weights differ from zero, on unrelated inputs.
  private func planted() throws -> LayerSample {
    var random = SplitMix64(seed: 51)
    let (rows, columns) = (6, 40)
    let weights = (0..<(rows * columns)).map { index -> Float in
      index % 10 == 3
        ? Float(random.nextUniform() < 0.5 ? -1 : 1) * (1 + Float(random.nextUniform())) : 0
    }
    // Four weights a row: 5 s log N samples are 74.
    return try LayerSample(
      rows: rows, columns: columns, weights: weights, inputs: random.normals(100 * columns))
  }

  @Test func plantedWeightsAreFound() throws {
    let sample = try planted()
    let solution = try NetTrim().solution(of: try sample.problem(), tolerance: 1e-3)
    #expect(solution.mask == sample.weights.map { $0 == 0 ? 0 : 1 })
    for (found, planted) in zip(solution.weights, sample.weights) {
      #expect(abs(found - planted) < 5e-3)
    }
  }

  @Test(arguments: [0.02, 0.1, 0.3])
  func outputsStayWithinTheTolerance(_ tolerance: Double) throws {
    let sample = try LayerSample(rows: 8, columns: 24, count: 200, seed: 53)
    let solution = try NetTrim().solution(of: try sample.problem(), tolerance: tolerance)
    let zero = [Float](repeating: 0, count: 192)
    let share = (sample.error(of: solution.weights) / sample.error(of: zero)).squareRoot()
    #expect(share <= tolerance * (1 + 1e-6) + 1e-6)
    // The least sum of magnitudes lies on the border of what is allowed.
    #expect(share > 0.98 * tolerance)
    #expect(zeroCount(solution.mask) > 0)
    let before = sample.weights.reduce(0) { $0 + abs($1) }
    #expect(solution.weights.reduce(0) { $0 + abs($1) } < before)
  }

  @Test func noPerturbationWithinTheToleranceIsSmaller() throws {
    let sample = try LayerSample(rows: 2, columns: 6, count: 60, seed: 55)
    let solution = try NetTrim().solution(of: try sample.problem(), tolerance: 0.2)
    let zero = [Float](repeating: 0, count: 12)
    let limit = 0.04 * sample.error(of: zero)
    let least = solution.weights.reduce(0.0) { $0 + abs(Double($1)) }
    var random = SplitMix64(seed: 57)
    var allowed = 0
    for _ in 0..<4000 {
      let scale = random.nextUniform() * 0.2
      let other = solution.weights.map { $0 + Float(random.nextNormal() * scale) }
      guard sample.error(of: other) <= limit else { continue }
      allowed += 1
      #expect(other.reduce(0.0) { $0 + abs(Double($1)) } > least * (1 - 2e-3))
    }
    #expect(allowed > 100)
  }

  @Test(arguments: [0, 50, 120, 180])
  func countsAreExact(_ count: Int) throws {
    let sample = try LayerSample(rows: 8, columns: 24, count: 200, seed: 59)
    let problem = try sample.problem(damping: 0.01)
    let solution = try NetTrim().solution(of: problem, .count(count))
    #expect(zeroCount(solution.mask) == count)
    let magnitude = try Wanda().solution(of: problem, .count(count))
    #expect(sample.error(of: solution.weights) <= sample.error(of: magnitude.weights) + 1e-9)
  }

  @Test func patternsAndMasksHold() throws {
    var sample = try LayerSample(rows: 4, columns: 16, count: 80, seed: 61)
    sample.mask = (0..<64).map { $0 % 5 == 0 ? 0 : 1 }
    let solution = try NetTrim().solution(
      of: try sample.problem(damping: 0.01), .pattern(kept: 2, block: 4))
    for start in stride(from: 0, to: 64, by: 4) {
      #expect(zeroCount(Array(solution.mask[start..<(start + 4)])) >= 2)
    }
    #expect(stride(from: 0, to: 64, by: 5).allSatisfy { solution.weights[$0] == 0 })
  }
}
