import Execution
import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport
import Testing

/// Pairs of random images and texts that fit a random model.
func hessianPairs(
  _ extents: RandomCLIP, task: PairSet.Task = .zeroShot, images: Int = 12, seed: UInt64 = 5
) -> PairSet {
  var random = SplitMix64(seed: seed)
  let texts = (0..<6).map { _ -> [Int32] in
    let length = 3 + random.nextIndex(below: extents.context - 3)
    let body = (0..<length).map { _ in Int32(random.nextIndex(below: extents.vocabulary - 1)) }
    return body + [Int32(extents.vocabulary - 1)]
  }
  let candidates = task == .zeroShot ? [[0, 1], [2], [3, 4, 5]] : (0..<6).map { [$0] }
  return PairSet(
    task: task, pixels: random.normalTensor([images, 3, extents.imageSize, extents.imageSize]),
    texts: texts, candidates: candidates,
    targets: (0..<images).map { _ in random.nextIndex(below: candidates.count) })
}

/// Extents of a model with few parameters.
func smallCLIP() -> RandomCLIP {
  var extents = RandomCLIP()
  extents.imageWidth = 12
  extents.imageHeads = 3
  extents.imageNeurons = 10
  extents.imageLayers = 1
  extents.textWidth = 8
  extents.textLayers = 1
  extents.textNeurons = 8
  return extents
}

/// A context that lends `pairs`.
func lendingContext(
  _ pairs: PairSet, seed: UInt64 = 1, records: (any WorkRecords)? = nil,
  report: @escaping (PassEvent) -> Void = { _ in }
) -> PassContext {
  PassContext(
    seed: seed, threadCount: 2, pairs: { pairs }, records: records, report: report)
}

/// The groups of heads and neurons of `graph`.
func unitGroups(_ graph: Graph) -> [DependencyGroup] {
  graph.dependencyGroups().filter { $0.kind != .width }
}

/// Records in memory, which count what they were asked and given.
final class ProbeRecords: WorkRecords {
  private(set) var known: [String: [Double]] = [:]
  private(set) var hitCount = 0

  func values(for key: String) -> [Double]? {
    if known[key] != nil { hitCount += 1 }
    return known[key]
  }

  func keep(_ values: [Double], for key: String) throws { known[key] = values }

  /// Forgets all but `count` records.
  func keepOnly(_ count: Int) {
    let kept = Set(known.keys.sorted().prefix(count))
    known = known.filter { kept.contains($0.key) }
    hitCount = 0
  }
}
