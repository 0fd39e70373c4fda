import GraphIR
import Passes
import TensorCore
import TestSupport
import Testing

@Suite struct LayerwiseSolverTests {
  private func matrix(_ count: Int, seed: UInt64) throws -> [[Double]] {
    try LayerSample(rows: 1, columns: count, count: 3 * count, seed: seed).hessian(damping: 0.01)
  }

  private func largest(_ left: [Double], _ right: [Double]) -> Double {
    zip(left, right).reduce(0) { max($0, abs($1.0 - $1.1)) }
  }

  @Test(arguments: [1, 2, 7, 48, 49, 97, 130])
  func factorsAndInversesMultiplyBack(_ count: Int) throws {
    let dense = try matrix(count, seed: UInt64(count))
    let flat = dense.flatMap { $0 }
    let factor = try #require(CholeskyFactor(flat, count: count, threadCount: 2))
    let inverse = factor.inverse(threadCount: 2)
    let root = try #require(CholeskyFactor.upperRoot(ofInverse: flat, count: count, threadCount: 2))
    let scale = flat.reduce(0) { max($0, abs($1)) }
    let inverseScale = inverse.reduce(0) { max($0, abs($1)) }
    for i in 0..<count {
      for j in 0..<count {
        var product = 0.0
        var identity = 0.0
        var square = 0.0
        for k in 0..<count {
          product += factor.lower[i * count + k] * factor.lower[j * count + k]
          identity += inverse[i * count + k] * dense[k][j]
          square += Double(root[k * count + i]) * Double(root[k * count + j])
        }
        #expect(abs(product - dense[i][j]) < 1e-12 * scale)
        #expect(abs(identity - (i == j ? 1 : 0)) < 1e-8)
        #expect(abs(square - inverse[i * count + j]) < 2e-6 * inverseScale)
        if j < i { #expect(root[i * count + j] == 0) }
        if j > i { #expect(factor.lower[i * count + j] == 0) }
      }
    }
  }

  @Test func rootTellsTheInverseOfWhatIsLeft() throws {
    let dense = try matrix(9, seed: 4)
    let root = try #require(CholeskyFactor.upperRoot(ofInverse: dense.flatMap { $0 }, count: 9))
    for first in 0..<9 {
      let rest = inverse(dense[first...].map { Array($0[first...]) })
      let square = Double(root[first * 9 + first]) * Double(root[first * 9 + first])
      #expect(abs(square - rest[0][0]) < 1e-5 * rest[0][0])
    }
  }

  @Test func threadsDoNotChangeBits() throws {
    let flat = try matrix(131, seed: 8).flatMap { $0 }
    let one = try #require(CholeskyFactor(flat, count: 131, threadCount: 1))
    let three = try #require(CholeskyFactor(flat, count: 131, threadCount: 3))
    #expect(one.lower == three.lower)
    #expect(one.inverse(threadCount: 1) == three.inverse(threadCount: 3))
  }

  @Test func indefiniteMatricesHaveNoFactor() {
    #expect(CholeskyFactor([1, 2, 2, 1], count: 2) == nil)
    #expect(CholeskyFactor([0], count: 1) == nil)
    #expect(CholeskyFactor([.nan], count: 1) == nil)
  }

  @Test func maskedLeastSquaresAreTheOptimumOfEachRow() throws {
    let sample = try LayerSample(rows: 6, columns: 20, count: 90, seed: 3)
    let hessian = sample.hessian(damping: 0.01)
    var random = SplitMix64(seed: 5)
    let mask = (0..<120).map { _ in UInt8(random.nextUniform() < 0.6 ? 0 : 1) }
    let solver = MaskedLeastSquares(
      hessian: hessian.flatMap { $0 }, columns: 20, threadCount: 2)
    let direct = solver.solution(target: sample.weights, mask: mask, startingAt: sample.weights)
    let iterated = solver.solution(
      target: sample.weights, mask: mask, startingAt: sample.weights, directCost: 0)
    for row in 0..<6 {
      let range = (row * 20)..<((row + 1) * 20)
      let kept = (0..<20).filter { mask[row * 20 + $0] != 0 }
      let best = bestRow(sample.weights[range].map { Double($0) }, hessian, kept: kept)
      #expect(relativeDifference(Array(direct[range]), best) < 1e-6)
      #expect(relativeDifference(Array(iterated[range]), best) < 1e-3)
    }
    let without = solver.solution(sample.weights, without: [1, 4, 5, 19])
    for row in 0..<6 {
      let range = (row * 20)..<((row + 1) * 20)
      let kept = (0..<20).filter { ![1, 4, 5, 19].contains($0) }
      let best = bestRow(sample.weights[range].map { Double($0) }, hessian, kept: kept)
      #expect(relativeDifference(Array(without[range]), best) < 1e-6)
    }
  }

  @Test func biasTakesInTheMeanOfTheError() throws {
    var sample = try LayerSample(rows: 4, columns: 8, count: 60, seed: 6)
    sample.bias = [1, 2, 3, 4]
    let problem = try sample.problem()
    let halved = sample.weights.map { $0 / 2 }
    let bias = try #require(problem.change(weights: halved, mask: nil).bias)
    let shifted = bias.tensor.elements(of: Float.self)
    for row in 0..<4 {
      var mean = 0.0
      for sampleIndex in 0..<60 {
        for column in 0..<8 {
          mean +=
            Double(sample.inputs[sampleIndex * 8 + column])
            * Double(sample.weights[row * 8 + column] - halved[row * 8 + column]) / 60
        }
      }
      #expect(abs(Double(shifted[row]) - Double(row + 1) - mean) < 1e-5)
    }
  }

  @Test func channelsThatNeverVaryKeepTheHessianDefinite() throws {
    var inputs = try LayerSample(rows: 1, columns: 5, count: 40, seed: 2).inputs
    for index in stride(from: 2, to: inputs.count, by: 5) { inputs[index] = 0 }
    let sample = try LayerSample(rows: 1, columns: 5, weights: [1, 2, 3, 4, 5], inputs: inputs)
    let problem = try sample.problem(damping: 0.01)
    let solution = try SparseGPT().solution(of: problem, .count(1))
    #expect(solution.mask == [1, 1, 0, 1, 1])
    #expect(solution.weights.allSatisfy { $0.isFinite })
  }

  @Test func nothingInfiniteIsTaken() throws {
    var sample = try LayerSample(rows: 2, columns: 4, count: 9, seed: 1)
    sample.weights[3] = .infinity
    #expect(throws: PassError.self) { try sample.problem() }
  }
}
