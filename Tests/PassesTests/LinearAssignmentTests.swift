import Passes
import TensorCore
import TestSupport
import Testing

@Suite struct LinearAssignmentTests {
  private func total(_ scores: [Double], _ columns: [Int]) -> Double {
    columns.enumerated().reduce(0) { $0 + scores[$1.offset * columns.count + $1.element] }
  }

  /// The best total over all permutations.
  private func best(_ scores: [Double], _ count: Int) -> Double {
    func search(_ row: Int, _ free: Set<Int>) -> Double {
      guard row < count else { return 0 }
      return free.map { scores[row * count + $0] + search(row + 1, free.subtracting([$0])) }
        .max() ?? 0
    }
    return search(0, Set(0..<count))
  }

  /// Kinds of matrices: without structure, with many ties, and of rank one, where rows compete.
  static let kinds: [@Sendable (Int, inout SplitMix64) -> [Double]] = [
    { count, random in (0..<(count * count)).map { _ in random.nextNormal() } },
    { count, random in (0..<(count * count)).map { _ in Double(random.nextIndex(below: 3)) } },
    { count, random in
      let left = (0..<count).map { _ in random.nextUniform() }
      let right = (0..<count).map { _ in random.nextUniform() }
      return left.flatMap { l in right.map { l * $0 } }
    },
    { count, _ in [Double](repeating: 2, count: count * count) },
  ]

  @Test(arguments: 0..<4, 0...7)
  func equalsBruteForce(_ kind: Int, _ count: Int) {
    for seed in 0..<6 {
      var random = SplitMix64(seed: UInt64(seed * 100 + count))
      let scores = Self.kinds[kind](count, &random)
      let columns = LinearAssignment.maximizing(scores, count: count)
      #expect(columns.sorted() == Array(0..<count))
      #expect(abs(total(scores, columns) - best(scores, count)) < 1e-12)
    }
  }

  /// The Hungarian method with potentials, row by row.
  private func hungarian(_ scores: [Double], _ count: Int) -> Double {
    var rowPotential = [Double](repeating: 0, count: count + 1)
    var columnPotential = rowPotential
    var owner = [Int](repeating: 0, count: count + 1)
    for row in 1...count {
      owner[0] = row
      var column = 0
      var least = [Double](repeating: .infinity, count: count + 1)
      var before = [Int](repeating: 0, count: count + 1)
      var used = [Bool](repeating: false, count: count + 1)
      repeat {
        used[column] = true
        let current = owner[column]
        var (step, next) = (Double.infinity, 0)
        for j in 1...count where !used[j] {
          let cost = -scores[(current - 1) * count + j - 1] - rowPotential[current]
          if cost - columnPotential[j] < least[j] {
            (least[j], before[j]) = (cost - columnPotential[j], column)
          }
          if least[j] < step { (step, next) = (least[j], j) }
        }
        for j in 0...count {
          if used[j] {
            rowPotential[owner[j]] += step
            columnPotential[j] -= step
          } else {
            least[j] -= step
          }
        }
        column = next
      } while owner[column] != 0
      repeat {
        owner[column] = owner[before[column]]
        column = before[column]
      } while column != 0
    }
    return (1...count).reduce(0) { $0 + scores[(owner[$1] - 1) * count + $1 - 1] }
  }

  @Test(arguments: 0..<4)
  func equalsTheHungarianMethod(_ kind: Int) {
    for count in [23, 96, 150] {
      var random = SplitMix64(seed: UInt64(count))
      let scores = Self.kinds[kind](count, &random)
      let columns = LinearAssignment.maximizing(scores, count: count)
      #expect(columns.sorted() == Array(0..<count))
      #expect(abs(total(scores, columns) - hungarian(scores, count)) < 1e-9)
    }
  }
}
