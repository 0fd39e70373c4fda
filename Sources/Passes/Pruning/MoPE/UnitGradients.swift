import Execution
import GraphIR
import Operators
import TensorCore
import Training

/// The gradients of a loss with respect to multiplicative masks of units, where every mask is one.
///
/// The gradient of a unit's mask is the sum over its tokens and channels of `a dL/da`. It is found
/// on small parts of a set, each told apart by itself, so that its spread over them is known.
package struct UnitGradients: Sendable {
  /// For each group, for each part, the gradients of its units.
  package private(set) var values: [[[Double]]]

  /// Runs the towers that have groups backward over the scorer's set.
  ///
  /// - Parameters:
  ///   - groups: groups of heads or neurons of the scorer's model.
  ///   - scorer: the set and the model.
  ///   - partSize: the most images of a part; nil for few of them, as squares of gradients ask for,
  ///     but as many as make all classes' prompts worth a run.
  ///   - context: where progress goes, and how many threads run.
  /// - Throws: ``PassError`` when a group's units do not leave by a product that is added to a
  ///   residual stream.
  package init(
    of groups: [DependencyGroup], _ scorer: PairScorer,
    partSize: Int? = nil, context: borrowing PassContext
  ) throws(PassError) {
    let graph = scorer.graph
    let parts = Self.parts(scorer, size: partSize ?? Self.partSize(scorer.pairs))
    values = groups.map { group in
      parts.map { _ in [Double](repeating: 0, count: group.unitCount) }
    }
    var done = 0
    for tower in Tower.allCases {
      let members = graph.values(of: tower)
      let places = groups.indices.filter { index in
        groups[index].members.allSatisfy { members.contains($0.parameter) }
      }
      guard !places.isEmpty else { continue }
      do {
        let pass = try TowerBackward(
          tower, of: places.map { groups[$0] }, in: graph, threadCount: context.threadCount)
        for (index, part) in parts.enumerated() {
          let found = try pass.gradients(part, scorer)
          for (place, sums) in zip(places, found) { values[place][index] = sums }
          done += 1
          context.report(.progress(stage: "gradients", done: done, total: 2 * parts.count))
        }
      } catch let error as PassError {
        throw error
      } catch {
        throw .calibration(error)
      }
    }
  }

  /// The mean over parts of the squared gradients: what Fisher's information says of a mask.
  package func squares() -> [[Double]] { means { $0 * $0 } }

  /// The mean over parts of the absolute gradients.
  package func magnitudes() -> [[Double]] { means { abs($0) } }

  private func means(_ transform: (Double) -> Double) -> [[Double]] {
    values.map { parts in
      guard let first = parts.first else { return [] }
      return first.indices.map { unit in
        parts.reduce(0) { $0 + transform($1[unit]) } / Double(parts.count)
      }
    }
  }

  private static func partSize(_ pairs: PairSet) -> Int {
    pairs.task == .retrieval ? 8 : min(max(pairs.texts.count / 16, 4), 64)
  }

  /// Neighbours in a set may be of one class, so a part takes every so manieth image.
  private static func parts(_ scorer: PairScorer, size: Int) -> [Part] {
    let count = scorer.pairs.imageCount
    let partCount = max(1, (count + size - 1) / size)
    return (0..<partCount).map { part in
      let images = Array(stride(from: part, to: count, by: partCount))
      let (task, texts) = scorer.task.selecting(images)
      return Part(task: task, images: images, texts: texts)
    }
  }

  /// Some images and the texts that they are told apart by.
  struct Part {
    let task: PairTask
    let images: [Int]
    let texts: [Int]
  }
}

/// One tower with what its embeddings' gradients make of the masks of its units.
private struct TowerBackward {
  private let tower: Tower
  private let graph: Graph
  private let executor: Executor
  private let observed: [Value: Int]
  private let products: [UnitProduct]
  private static let seed = "embedding_gradient"

  init(
    _ tower: Tower, of groups: [DependencyGroup], in whole: Graph, threadCount: Int
  ) throws {
    self.tower = tower
    let part = try whole.measurable(tower)
    guard let output = part.output(named: tower.outputName) else {
      throw GraphError.unknownName(tower.outputName)
    }
    products = try whole.unitProducts(
      of: groups, in: part, cuts: part.bottlenecks(before: output))
    var differentiated = part
    let seed = try differentiated.addInput(Self.seed, part.tensorType(of: output))
    let factors = products.map(\.factor)
    let gradients = try differentiated.addGradients(
      of: [(output, seed)], withRespectTo: factors)
    var builder = GraphBuilder(differentiated, scope: "unit")
    var names: [String] = []
    for (factor, gradient) in zip(factors, gradients) {
      guard let gradient else { continue }
      let product = try builder.add(Multiply(), factor, gradient)
      names.append(builder.graph.name(of: product))
    }
    executor = try Executor(builder.graph, outputs: names, threadCount: threadCount)
    graph = executor.graph
    var observed: [Value: Int] = [:]
    for (index, name) in names.enumerated() {
      if let value = executor.graph.value(named: name) { observed[value] = index }
    }
    self.observed = observed
  }

  /// The gradients of the units' masks for one part of a set, by group.
  func gradients(_ part: UnitGradients.Part, _ scorer: PairScorer) throws -> [[Double]] {
    let images = Self.rows(part.images, scorer.embeddings[.image] ?? [], scorer.width)
    let texts = Self.rows(part.texts, scorer.embeddings[.text] ?? [], scorer.width)
    let slopes = part.task.gradients(
      images: images, texts: texts, width: scorer.width, scale: scorer.graph.logitScale ?? 1)
    let items = tower == .image ? part.images : part.texts
    let rows = tower == .image ? slopes.images : slopes.texts
    let place = Dictionary(uniqueKeysWithValues: items.enumerated().map { ($1, $0) })
    let batches =
      tower == .image
      ? TowerBatches.images(scorer.pairs, items, for: graph)
      : TowerBatches.texts(scorer.pairs, items, for: graph)
    var sums = products.map { [Double](repeating: 0, count: $0.group.unitCount) }
    for batch in batches.batches {
      var inputs = batch.inputs
      let own = batch.items.compactMap { place[$0] }
      inputs[Self.seed] = Tensor(
        shape: [own.count, scorer.width], Self.rows(own, rows, scorer.width))
      _ = try executor.run(inputs, observing: Set(observed.keys)) { value, elements in
        guard let index = observed[value] else { return }
        Self.add(elements, unit: products[index].group.unit, to: &sums[index])
      }
    }
    return sums
  }

  private static func rows(_ indices: [Int], _ rows: [Float], _ width: Int) -> [Float] {
    indices.flatMap { rows[($0 * width)..<(($0 + 1) * width)] }
  }

  private static func add(
    _ elements: UnsafeBufferPointer<Float>, unit: Int, to sums: inout [Double]
  ) {
    let extent = sums.count * unit
    guard extent > 0 else { return }
    for row in 0..<(elements.count / extent) {
      for index in sums.indices {
        let start = row * extent + index * unit
        for place in start..<(start + unit) { sums[index] += Double(elements[place]) }
      }
    }
  }
}
