import Passes
import TensorCore
import TestSupport
import Testing

@Suite struct SparseGPTTests {
  private func options(width: Int = 128, refits: Bool = false) -> SparseGPT.Options {
    var options = SparseGPT.Options()
    options.blockWidth = width
    options.refits = refits
    options.ordersByEnergy = false
    return options
  }

  @Test(arguments: [false, true])
  func oneWeightOfOneRowGoesAsTheClosedFormSays(_ refits: Bool) throws {
    // The last column is the only one for which nothing is frozen before it when it is alone; a
    // plant far below the others goes wherever it stands, and what is right of it makes up for it.
    let columns = 8
    var sample = try LayerSample(rows: 1, columns: columns, count: 50, seed: 21)
    sample.weights[0] = 1e-3
    let solution = try SparseGPT(options: options(refits: refits)).solution(
      of: try sample.problem(damping: 0.01), .count(1))
    #expect(solution.mask == [0] + [UInt8](repeating: 1, count: columns - 1))
    let inverted = inverse(sample.hessian(damping: 0.01))
    let weight = Double(sample.weights[0])
    let expected = (0..<columns).map {
      $0 == 0 ? 0 : Double(sample.weights[$0]) - weight / inverted[0][0] * inverted[0][$0]
    }
    #expect(relativeDifference(solution.weights, expected) < 1e-6)
  }

  @Test func costOfOneWeightIsItsSaliency() throws {
    let sample = try LayerSample(rows: 1, columns: 6, count: 40, seed: 23)
    let solution = try SparseGPT(options: options(refits: true)).solution(
      of: try sample.problem(), .count(1))
    let gone = try #require(solution.mask.firstIndex(of: 0))
    let inverted = inverse(sample.hessian())
    let saliency = Double(sample.weights[gone] * sample.weights[gone]) / inverted[gone][gone]
    #expect(abs(sample.error(of: solution.weights) - saliency) < 1e-4 * saliency)
  }

  @Test(arguments: [4, 16, 128])
  func unrelatedInputsMakeItMagnitudeInEveryBlock(_ width: Int) throws {
    // Rows of a scaled identity: the Hessian is a multiple of it.
    let columns = 16
    let inputs = (0..<(columns * columns)).map { Float($0 % (columns + 1) == 0 ? 2 : 0) }
    var random = SplitMix64(seed: 31)
    let sample = try LayerSample(
      rows: 6, columns: columns, weights: random.normals(96), inputs: inputs)
    let solution = try SparseGPT(options: options(width: width)).solution(
      of: try sample.problem(damping: 0.01), .count(48))
    for start in stride(from: 0, to: columns, by: width) {
      let block = start..<min(start + width, columns)
      let places = (0..<6).flatMap { row in block.map { row * columns + $0 } }
      let order = places.sorted { abs(sample.weights[$0]) < abs(sample.weights[$1]) }
      let gone = places.filter { solution.mask[$0] == 0 }
      #expect(Set(gone) == Set(order.prefix(places.count / 2)))
    }
    for index in solution.mask.indices where solution.mask[index] != 0 {
      #expect(solution.weights[index] == sample.weights[index])
    }
  }

  @Test(arguments: [0, 1, 100, 399, 777], [8, 128])
  func countsAreExact(_ count: Int, _ width: Int) throws {
    let sample = try LayerSample(rows: 20, columns: 40, count: 90, seed: 33)
    let solution = try SparseGPT(options: options(width: width)).solution(
      of: try sample.problem(damping: 0.01), .count(count))
    #expect(zeroCount(solution.mask) == count)
    for index in solution.mask.indices {
      #expect((solution.mask[index] == 0) == (solution.weights[index] == 0))
    }
  }

  @Test(arguments: [(2, 4), (1, 4), (5, 8), (3, 5)])
  func patternsAreExactInEveryBlock(_ pattern: (kept: Int, block: Int)) throws {
    let sample = try LayerSample(rows: 6, columns: 40, count: 90, seed: 35)
    let solution = try SparseGPT(options: options(width: 12)).solution(
      of: try sample.problem(damping: 0.01), .pattern(kept: pattern.kept, block: pattern.block))
    for start in stride(from: 0, to: 240, by: pattern.block) {
      let block = Array(solution.mask[start..<(start + pattern.block)])
      #expect(zeroCount(block) == pattern.block - pattern.kept)
    }
  }

  /// The sweep as the optimal brain surgeon defines it: for each column the inverse of the Hessian
  /// without the columns before it, in float64.
  private func definition(_ sample: LayerSample, _ wanted: Int, width: Int) -> [Double] {
    let (rows, columns) = (sample.rows, sample.columns)
    let hessian = sample.hessian(damping: 0.01)
    let inverses = (0..<columns).map { first in
      inverse(hessian[first...].map { Array($0[first...]) })
    }
    var weights = sample.weights.map { Double($0) }
    var gone = Set<Int>()
    for start in stride(from: 0, to: columns, by: width) {
      let block = start..<min(start + width, columns)
      let due = wanted * block.upperBound / columns - gone.count
      let places = (0..<rows).flatMap { row in block.map { row * columns + $0 } }
      let costs = places.map { weights[$0] * weights[$0] / inverses[$0 % columns][0][0] }
      let order = places.indices.sorted { costs[$0] < costs[$1] }
      gone.formUnion(order.prefix(due).map { places[$0] })
      for column in block {
        for row in 0..<rows where gone.contains(row * columns + column) {
          let share = weights[row * columns + column] / inverses[column][0][0]
          for right in column..<columns {
            weights[row * columns + right] -= share * inverses[column][0][right - column]
          }
          weights[row * columns + column] = 0
        }
      }
    }
    return weights
  }

  @Test(arguments: [4, 7, 48])
  func sweepsAreThoseOfTheDefinition(_ width: Int) throws {
    let sample = try LayerSample(rows: 16, columns: 48, count: 200, seed: 37)
    let solution = try SparseGPT(options: options(width: width)).solution(
      of: try sample.problem(damping: 0.01), .count(384))
    let expected = definition(sample, 384, width: width)
    #expect(solution.mask == expected.map { $0 == 0 ? 0 : 1 })
    #expect(relativeDifference(solution.weights, expected) < 1e-4)
  }

  @Test func outputsSufferLessThanFromMagnitude() throws {
    let sample = try LayerSample(rows: 16, columns: 48, count: 200, seed: 37)
    let problem = try sample.problem(damping: 0.01)
    for goal in [LayerGoal.count(384), .pattern(kept: 2, block: 4)] {
      let swept = try SparseGPT(options: options(width: 8)).solution(of: problem, goal)
      let refitted = try SparseGPT(options: options(width: 8, refits: true)).solution(
        of: problem, goal)
      // Of all ways to keep the weights as they are, Wanda's is the better informed one.
      let plain = try Wanda().solution(of: problem, goal)
      #expect(sample.error(of: swept.weights) < 0.8 * sample.error(of: plain.weights))
      #expect(refitted.mask == swept.mask)
      #expect(sample.error(of: refitted.weights) < sample.error(of: swept.weights))
    }
  }

  @Test func theOrderOfEnergyKeepsPlaces() throws {
    let sample = try LayerSample(rows: 4, columns: 10, count: 60, seed: 39)
    var ordered = options(refits: true)
    ordered.ordersByEnergy = true
    let solution = try SparseGPT(options: ordered).solution(
      of: try sample.problem(damping: 0.01), .count(20))
    let hessian = sample.hessian(damping: 0.01)
    #expect(zeroCount(solution.mask) == 20)
    for row in 0..<4 {
      let range = (row * 10)..<((row + 1) * 10)
      let kept = (0..<10).filter { solution.mask[row * 10 + $0] != 0 }
      let best = bestRow(sample.weights[range].map { Double($0) }, hessian, kept: kept)
      #expect(relativeDifference(Array(solution.weights[range]), best) < 1e-5)
    }
  }

  @Test func whatIsMaskedStaysMaskedAndCounts() throws {
    var sample = try LayerSample(rows: 3, columns: 16, count: 60, seed: 41)
    sample.mask = (0..<48).map { $0 % 3 == 0 ? 0 : 1 }
    let solver = SparseGPT(options: options(width: 4))
    let problem = try sample.problem(damping: 0.01)
    for count in [16, 20, 40] {
      let solution = try solver.solution(of: problem, .count(count))
      #expect(stride(from: 0, to: 48, by: 3).allSatisfy { solution.mask[$0] == 0 })
      #expect(zeroCount(solution.mask) == count)
    }
    let fewer = try solver.solution(of: problem, .count(5))
    #expect(fewer.mask == sample.mask)
    let pattern = try solver.solution(of: problem, .pattern(kept: 2, block: 4))
    #expect(stride(from: 0, to: 48, by: 3).allSatisfy { pattern.mask[$0] == 0 })
  }

  @Test func threadsDoNotChangeBits() throws {
    let sample = try LayerSample(rows: 33, columns: 40, count: 90, seed: 43)
    var options = LayerProblem.Options()
    options.damping = 0.01
    let solutions = try [1, 3].map { threads in
      try SparseGPT().solution(
        of: try LayerProblem(sample.layer(), options: options, threadCount: threads), .count(700))
    }
    #expect(solutions[0].mask == solutions[1].mask)
  }
}
