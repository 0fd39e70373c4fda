import Evaluation
import Operators
import TensorCore
import Testing

@Suite struct KMeansTests {
  init() throws { try Matrix.open() }

  /// Points around `centres`, so many and so wide each.
  private func rows(_ centres: [(x: Float, y: Float, count: Int, width: Float)]) -> Embeddings {
    var random = SplitMix64(seed: 3)
    var rows = Embeddings(width: 2)
    for centre in centres {
      for _ in 0..<centre.count {
        rows.append([
          centre.x + centre.width * Float(random.nextNormal()),
          centre.y + centre.width * Float(random.nextNormal()),
        ])
      }
    }
    return rows
  }

  @Test func findsWhatIsApart() {
    let points = rows([(0, 0, 40, 0.1), (9, 0, 60, 0.3), (0, 9, 20, 0.2)])
    let clusters = KMeans(points, count: 3, seed: 1, threadCount: 2)
    #expect(clusters.sizes.sorted() == [20, 40, 60])
    for range in [0..<40, 40..<100, 100..<120] {
      #expect(Set(clusters.assignments[range]).count == 1)
    }
    #expect(clusters.assignments == KMeans(points, count: 3, seed: 1).assignments)
    // Every row lies with the centre that is nearest to it.
    for row in 0..<points.count {
      let distances = (0..<3).map { cluster in
        zip(points[row], clusters.centres[cluster]).reduce(0.0) {
          $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1)
        }
      }
      #expect(distances[clusters.assignments[row]] == distances.min())
    }
  }

  @Test func sharesFollowSizeAndSpread() {
    let clusters = KMeans(
      rows([(0, 0, 400, 0.1), (90, 0, 400, 0.3), (0, 90, 200, 0.6)]), count: 3, seed: 2)
    let shares = clusters.allocation(of: 100)
    #expect(shares.reduce(0, +) == 100)
    for (cluster, share) in shares.enumerated() {
      let weights = zip(clusters.sizes, clusters.spreads).map { Double($0) * $1 }
      let wanted = 100 * weights[cluster] / weights.reduce(0, +)
      #expect(abs(Double(share) - wanted) <= 1.5)
    }
    // A cluster never gives more than it has.
    let all = clusters.allocation(of: 990)
    #expect(all.reduce(0, +) == 990)
    #expect(zip(all, clusters.sizes).allSatisfy { $0 <= $1 })
    #expect(clusters.allocation(of: 5000).reduce(0, +) == 1000)
  }

  @Test func fewerPointsThanClusters() {
    let same = Embeddings(width: 2, values: [1, 1, 1, 1, 1, 1])
    let clusters = KMeans(same, count: 8, seed: 0)
    #expect(clusters.sizes == [3])
    #expect(clusters.allocation(of: 2) == [2])
  }
}
