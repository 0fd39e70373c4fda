import Passes
import TensorCore
import TestSupport
import Testing

@Suite struct WandaTests {
  /// Inputs that have the same norm in every channel but are not alike.
  private func evenSample() throws -> LayerSample {
    var random = SplitMix64(seed: 12)
    let inputs = (0..<(64 * 16)).map { _ in Float(random.nextUniform() < 0.5 ? -1 : 1) }
    return try LayerSample(rows: 5, columns: 16, weights: random.normals(80), inputs: inputs)
  }

  @Test(arguments: [0, 7, 40, 61])
  func equalNormsMakeItMagnitudeInEveryRow(_ count: Int) throws {
    let sample = try evenSample()
    let solution = try Wanda().solution(of: try sample.problem(), .count(count))
    #expect(zeroCount(solution.mask) == count)
    for row in 0..<5 {
      let own = Array(sample.weights[(row * 16)..<((row + 1) * 16)])
      let gone = (0..<16).filter { solution.mask[row * 16 + $0] == 0 }
      let order = own.indices.sorted { (abs(own[$0]), $0) < (abs(own[$1]), $1) }
      #expect(gone == order.prefix(gone.count).sorted())
      #expect(abs(gone.count - count / 5) <= 1)
    }
  }

  @Test func scoresAreMagnitudeTimesNorm() throws {
    let sample = try LayerSample(rows: 4, columns: 12, count: 30, seed: 7)
    let norms = sample.hessian().enumerated().map { $1[$0].squareRoot() }
    let solution = try Wanda().solution(of: try sample.problem(), .count(24))
    for row in 0..<4 {
      let scores = (0..<12).map { abs(Double(sample.weights[row * 12 + $0])) * norms[$0] }
      let order = scores.indices.sorted { scores[$0] < scores[$1] }
      let gone = (0..<12).filter { solution.mask[row * 12 + $0] == 0 }
      #expect(gone == order.prefix(6).sorted())
    }
    for (index, weight) in solution.weights.enumerated() {
      #expect(weight == (solution.mask[index] == 0 ? 0 : sample.weights[index]))
    }
  }

  @Test func patternsKeepTheHighestScoresOfEveryBlock() throws {
    let sample = try LayerSample(rows: 4, columns: 12, count: 30, seed: 9)
    let norms = sample.hessian().enumerated().map { $1[$0].squareRoot() }
    let solution = try Wanda().solution(of: try sample.problem(), .pattern(kept: 1, block: 3))
    for start in stride(from: 0, to: 48, by: 3) {
      let best = (start..<(start + 3)).max {
        abs(Double(sample.weights[$0])) * norms[$0 % 12]
          < abs(Double(sample.weights[$1])) * norms[$1 % 12]
      }
      #expect((start..<(start + 3)).filter { solution.mask[$0] != 0 } == [best])
    }
  }

  @Test func whatIsMaskedStaysMaskedAndCounts() throws {
    var sample = try LayerSample(rows: 2, columns: 10, count: 30, seed: 3)
    let hidden = [0, 3, 12, 13, 14]
    sample.mask = (0..<20).map { hidden.contains($0) ? 0 : 1 }
    let solution = try Wanda().solution(of: try sample.problem(), .count(8))
    #expect(hidden.allSatisfy { solution.mask[$0] == 0 })
    #expect(zeroCount(solution.mask) == 8)
  }
}
