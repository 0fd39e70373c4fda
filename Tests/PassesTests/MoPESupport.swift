import GraphIR
import Passes
import TensorCore
import TestSupport

/// Random images and texts of several lengths that fit a random model.
func randomPairs(
  _ task: PairSet.Task, for extents: RandomCLIP = RandomCLIP(), images: Int = 10, seed: UInt64 = 3
) -> PairSet {
  var random = SplitMix64(seed: seed)
  let pixels = random.normalTensor([images, 3, extents.imageSize, extents.imageSize])
  let textCount = 6
  let texts = (0..<textCount).map { index in
    let length = 3 + index % 3
    return (1..<length).map { _ in Int32(random.nextIndex(below: extents.vocabulary - 1)) }
      + [Int32(extents.vocabulary - 1)]
  }
  let candidates =
    task == .zeroShot ? [[0, 4], [1], [2, 3, 5]] : (0..<textCount).map { [$0] }
  // The last caption has no image: nothing asks for it.
  let most = task == .zeroShot ? candidates.count : candidates.count - 1
  return PairSet(
    task: task, pixels: pixels, texts: texts, candidates: candidates,
    targets: (0..<images).map { $0 * 7 % most })
}

/// Records in memory that refuse to keep more than some.
final class MemoryRecords: WorkRecords {
  struct Full: Error {}

  var values: [String: [Double]] = [:]
  var most = Int.max

  func values(for key: String) -> [Double]? { values[key] }

  func keep(_ values: [Double], for key: String) throws {
    guard self.values.count < most else { throw Full() }
    self.values[key] = values
  }
}

/// A context with `pairs` and what a test wants of it.
func pairContext(
  _ pairs: PairSet, records: (any WorkRecords)? = nil, threadCount: Int = 1,
  report: @escaping (PassEvent) -> Void = { _ in }
) -> PassContext {
  PassContext(
    threadCount: threadCount, pairs: { pairs }, records: records, report: report)
}

extension Graph {
  /// The graph whose parameter `name` has the elements that `change` makes of row, column, element.
  func changing(
    _ name: String, _ change: (Int, Int, Float) -> Float
  ) throws -> Graph {
    guard let value = value(named: name), let tensor = parameter(value)?.tensor else {
      throw GraphError.unknownName(name)
    }
    var graph = self
    let width = tensor.shape.last ?? 1
    let elements = tensor.elements(of: Float.self).enumerated().map {
      change($0.offset / width, $0.offset % width, $0.element)
    }
    try graph.setParameter(value, Parameter(Tensor(shape: tensor.shape, elements)))
    return graph
  }

  /// The groups of heads and neurons.
  var unitGroups: [DependencyGroup] { dependencyGroups().filter { $0.kind != .width } }
}
