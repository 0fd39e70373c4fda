import Execution
import GraphIR
import Operators
import TensorCore

/// What a tower's numbers lost, before and behind pooling, on calibration data.
package struct TowerError: Codable, Sendable {
  /// So many items, images or texts, are compared at least where there are as many: whole batches.
  package static let comparedItems = 16

  /// Which tower.
  package let tower: Tower
  /// How many items were compared.
  package let items: Int
  /// The mean cosine of the embeddings to those of the float model.
  package let meanCosine: Double
  /// The least cosine of the embeddings.
  package let leastCosine: Double
  /// By how much a logit can be off, on average over the items: the length of the difference of two
  /// embeddings times the logit scale; nil where that is not finite.
  package let logitError: Double?
  /// For each position the length of the difference of the last tokens before pooling over the
  /// length of the token, as the root of a mean of squares over the items.
  package let tokenErrors: [Double]

  /// Compares `changed` with `original` on the first batches of the context's data.
  ///
  /// Image data and texts that have no common length are compared item by item where they fit.
  static func errors(
    of changed: Graph, from original: Graph, in context: borrowing PassContext
  ) throws(PassError) -> [TowerError] {
    guard let source = context.calibration else { return [] }
    let threadCount = context.threadCount
    var comparisons: [Comparison] = []
    do {
      for tower in Tower.allCases where original.output(named: tower.outputName) != nil {
        comparisons.append(
          try Comparison(tower, changed, original, threadCount: threadCount))
      }
      try source.forEachBatch { batch in
        for comparison in comparisons where comparison.isWanted(batch) {
          try comparison.add(batch)
        }
        if comparisons.allSatisfy(\.isFull) { throw Enough() }
      }
    } catch is Enough {
    } catch let error as PassError {
      throw error
    } catch {
      throw .calibration(error)
    }
    let scale = Double(original.logitScale ?? 1)
    return comparisons.compactMap { $0.error(logitScale: scale) }
  }

  /// Ends the reading of batches.
  private struct Enough: Error {}
}

/// Sums over what two graphs make of the same items.
private final class Comparison {
  private let tower: Tower
  private let changed: Executor
  private let original: Executor
  private let tokens: String?
  private let inputs: Set<String>
  private var items = 0
  private var cosines: [Double] = []
  private var distances = 0.0
  private var tokenErrors: [Double] = []
  private var tokenCounts: [Double] = []

  init(_ tower: Tower, _ changed: Graph, _ original: Graph, threadCount: Int) throws {
    self.tower = tower
    var names = [tower.outputName]
    // The last value with tokens that both graphs have: the residual stream before pooling.
    tokens = original.output(named: tower.outputName).flatMap { output in
      original.bottlenecks(before: output).last { value in
        original.tensorType(of: value).rank == 3
          && changed.value(named: original.name(of: value)) != nil
      }
    }.map { original.name(of: $0) }
    if let tokens { names.append(tokens) }
    func executor(_ graph: Graph) throws -> Executor {
      let values = names.compactMap { name in
        graph.output(named: name) ?? graph.value(named: name)
      }
      return try Executor(
        try graph.segment(computing: values, from: []), threadCount: threadCount)
    }
    let before = try executor(original)
    self.changed = try executor(changed)
    self.original = before
    inputs = Set(before.graph.inputs.map { before.graph.name(of: $0) })
  }

  var isFull: Bool { items >= TowerError.comparedItems }

  func isWanted(_ batch: Batch) -> Bool {
    !isFull && inputs.allSatisfy { batch.inputs[$0] != nil }
  }

  func add(_ batch: Batch) throws {
    let own = batch.inputs.filter { inputs.contains($0.key) }
    let before = try original.run(own)
    let after = try changed.run(own)
    if let (x, y) = pair(tower.outputName, before, after) { addEmbeddings(x, y) }
    if let tokens, let (x, y) = pair(tokens, before, after) { addTokens(x, y) }
  }

  private func pair(
    _ name: String, _ before: [String: Tensor], _ after: [String: Tensor]
  ) -> (Tensor, Tensor)? {
    guard let x = before[name], let y = after[name], x.shape == y.shape else { return nil }
    return (x, y)
  }

  private func addEmbeddings(_ before: Tensor, _ after: Tensor) {
    let width = before.shape.last ?? 1
    let (x, y) = (before.elements(of: Float.self), after.elements(of: Float.self))
    for start in stride(from: 0, to: x.count, by: max(width, 1)) {
      var (product, xx, yy, distance) = (0.0, 0.0, 0.0, 0.0)
      for index in start..<(start + width) {
        let (a, b) = (Double(x[index]), Double(y[index]))
        product += a * b
        xx += a * a
        yy += b * b
        distance += (a - b) * (a - b)
      }
      cosines.append(product / max((xx * yy).squareRoot(), 1e-30))
      distances += distance.squareRoot()
      items += 1
    }
  }

  private func addTokens(_ before: Tensor, _ after: Tensor) {
    let (count, width) = (before.shape[1], before.shape[2])
    let (x, y) = (before.elements(of: Float.self), after.elements(of: Float.self))
    while tokenErrors.count < count {
      tokenErrors.append(0)
      tokenCounts.append(0)
    }
    for row in 0..<(x.count / max(width, 1)) {
      var (distance, whole) = (0.0, 0.0)
      for index in (row * width)..<((row + 1) * width) {
        let (a, b) = (Double(x[index]), Double(y[index]))
        distance += (a - b) * (a - b)
        whole += a * a
      }
      tokenErrors[row % count] += distance / max(whole, 1e-30)
      tokenCounts[row % count] += 1
    }
  }

  func error(logitScale: Double) -> TowerError? {
    guard items > 0 else { return nil }
    let logitError = logitScale * distances / Double(items)
    return TowerError(
      tower: tower, items: items, meanCosine: cosines.reduce(0, +) / Double(items),
      leastCosine: cosines.min() ?? 1, logitError: logitError.isFinite ? logitError : nil,
      tokenErrors: zip(tokenErrors, tokenCounts).map { ($0 / max($1, 1)).squareRoot() })
  }
}
