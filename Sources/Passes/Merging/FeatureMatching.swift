import GraphIR
import Operators
import TensorCore

/// Puts the heads and neurons of one model beside those of another that answer most alike on data.
///
/// Units are compared by the correlation of what they compute, over all tokens: neurons behind
/// their activation, heads by the sum over queries, keys and what they mix.
///
/// - Source: Nasery et al., "PLeaS: Merging Models with Permutations and Least Squares", CVPR 2025,
///   arXiv:2407.02447.
struct FeatureMatching {
  /// The groups that were compared, with the order found and the correlations of the pairs, as
  /// many as 1 where all agree.
  let matches: [(group: PermutableGroup, similarities: [Double])]
  /// The second graph with its units in the order of the first.
  let second: Graph

  init(
    _ first: Graph, _ second: Graph, groups: [PermutableGroup],
    in context: borrowing PassContext
  ) throws(PassError) {
    let traits = groups.map { FeatureSource($0, in: first) }
    var result = second
    var matches: [(group: PermutableGroup, similarities: [Double])] = []
    let costs = groups.map { 16 * $0.channelCount * $0.channelCount }
    for portion in PairedRun.portions(costs, limit: PairedRun.memoryLimit) {
      var moments: [String: FeatureMoments] = [:]
      for index in portion {
        for value in traits[index].all {
          moments[first.name(of: value)] = FeatureMoments(groups[index].channelCount)
        }
      }
      let threads = context.threadCount
      try PairedRun.forEachBatch(first, second, values: Set(moments.keys), in: context) {
        moments[$0]?.add($1, threadCount: threads)
      }
      for index in portion {
        func similarity(_ values: [Value]) -> ChannelSimilarity {
          let tables = values.compactMap { moments[first.name(of: $0)]?.correlations }
          let count = groups[index].channelCount
          var sums = [Float](repeating: 0, count: count * count)
          for table in tables { for place in sums.indices { sums[place] += table[place] } }
          return ChannelSimilarity(count: count, sums)
        }
        let group = groups[index]
        let match = ChannelMatch(
          group, scores: similarity(traits[index].scores), others: similarity(traits[index].others))
        if match.isGain {
          do { result = try result.permuting(group, by: match.order) } catch {
            throw .graph(pass: Merging.name, error)
          }
        }
        let perfect = Double(traits[index].all.count * group.group.unit)
        matches.append((group, match.similarities.map { $0 / max(perfect, 1) }))
      }
    }
    self.matches = matches
    self.second = result
  }
}

/// The values by which the channels of a group are compared.
private struct FeatureSource {
  let scores: [Value]
  let others: [Value]
  var all: [Value] { scores + others }

  init(_ group: PermutableGroup, in graph: Graph) {
    func isWeight(_ node: Node, _ axis: Int, _ members: [DependencyGroup.Member]) -> Bool {
      node.op is Linear && members.contains { $0.parameter == node.inputs[1] && $0.axis == axis }
    }
    scores = graph.nodes.filter { isWeight($0, 0, group.scores) }.map(\.outputs[0])
    others = graph.nodes.filter { isWeight($0, 1, group.others) }.map(\.inputs[0])
  }
}

/// Correlations of the channels of a value in two models.
private struct FeatureMoments {
  private let count: Int
  private var cross: ShiftedProducts
  private var squares: (first: [Double], second: [Double])

  init(_ count: Int) {
    self.count = count
    cross = ShiftedProducts(count, count)
    squares = (
      [Double](repeating: 0, count: count), [Double](repeating: 0, count: count)
    )
  }

  mutating func add(_ rows: PairedRun.Rows, threadCount: Int) {
    cross.add(rows.first, rows.second, threadCount: threadCount)
    for start in stride(from: 0, to: rows.first.count, by: count) {
      for channel in 0..<count {
        let (a, b) = (Double(rows.first[start + channel]), Double(rows.second[start + channel]))
        squares.first[channel] += a * a
        squares.second[channel] += b * b
      }
    }
  }

  /// Zero for channels that never vary.
  var correlations: [Float] {
    func deviations(_ squares: [Double], _ means: [Double]) -> [Double] {
      zip(squares, means).map { square, mean in
        let whole = square / Double(max(cross.rowCount, 1))
        let variance = whole - mean * mean
        return variance > 1e-9 * whole ? variance.squareRoot() : 0
      }
    }
    guard cross.rowCount > 0 else { return [Float](repeating: 0, count: count * count) }
    let first = deviations(squares.first, cross.means(ofSecond: false))
    let second = deviations(squares.second, cross.means(ofSecond: true))
    var result = cross.moments(centred: true).map { Float($0) }
    for row in 0..<count {
      for column in 0..<count {
        let product = first[row] * second[column]
        let place = row * count + column
        result[place] = product > 0 ? Float(Double(result[place]) / product) : 0
      }
    }
    return result
  }
}
