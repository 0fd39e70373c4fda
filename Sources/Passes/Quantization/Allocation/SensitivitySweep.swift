import Execution
import GraphIR
import Operators
import TensorCore

/// Embeddings of a model with one weight changed at a time, each from the last cut before the weight.
final class SensitivitySweep {
  private let tower: Tower
  private let graph: Graph
  private let output: Value
  private let cuts: [Value]
  private let batches: TowerBatches
  private let width: Int
  private let memoryBudget: Int
  private let threadCount: Int
  /// The cut whose values are kept, and its values by batch as far as they fit.
  private var held: (cut: Value?, values: [Tensor?])

  /// Prepares to change weights of `tower` of the scorer's model.
  init(
    _ tower: Tower, _ scorer: PairScorer, memoryBudget: Int, threadCount: Int
  ) throws(GraphError) {
    self.tower = tower
    self.memoryBudget = memoryBudget
    self.threadCount = threadCount
    width = scorer.width
    graph = try scorer.graph.measurable(tower)
    guard let output = graph.output(named: tower.outputName) else {
      throw .unknownName(tower.outputName)
    }
    self.output = output
    cuts = graph.bottlenecks(before: output)
    batches = PairScorer.batches(scorer.pairs, tower, for: graph)
    held = (nil, batches.batches.map { _ in nil })
  }

  /// The place of the first node that reads parameter `name`; nil where the tower has none.
  func place(of name: String) -> Int? {
    guard let value = graph.value(named: name) else { return nil }
    return graph.nodes.firstIndex { $0.inputs.contains(value) }
  }

  /// The embeddings with `tensor` in place of parameter `name`, a row for each item.
  ///
  /// Parameters have to be asked for in the order of their places.
  func embeddings(with tensor: Tensor, for name: String) throws -> [Float] {
    guard let place = place(of: name) else { throw GraphError.unknownName(name) }
    let cut = cuts.last { cut in
      guard case .node(let index) = graph.origin(of: cut) else { return false }
      return index < place
    }
    try advance(to: cut)
    var part = try graph.segment(computing: [output], from: cut.map { [$0] } ?? [])
    if let value = part.value(named: name) { try part.setParameter(value, Parameter(tensor)) }
    let executor = try Executor(part, threadCount: threadCount)
    var rows = EmbeddingRows(count: batches.count, width: width)
    for (number, batch) in batches.batches.enumerated() {
      let given = try cut.flatMap { try value(of: $0, batch: number) }
      let made = try run(executor, from: cut, given, batch)
      if let result = made[graph.name(of: output)] { rows.set(result, for: batch.items) }
    }
    return rows.values
  }

  /// Keeps the values of `cut` instead of those of an earlier one, as far as they fit.
  private func advance(to cut: Value?) throws {
    guard let cut, held.cut != cut else { return }
    var values: [Tensor?] = []
    var bytes = 0
    var executors: [Bool: Executor] = [:]
    for (number, batch) in batches.batches.enumerated() {
      guard bytes <= memoryBudget else {
        values.append(nil)
        continue
      }
      let start = held.values[number] == nil ? nil : held.cut
      let executor =
        try executors[start == nil]
        ?? Executor(
          try graph.segment(computing: [cut], from: start.map { [$0] } ?? []),
          threadCount: threadCount)
      executors[start == nil] = executor
      let made = try run(executor, from: start, held.values[number], batch)
      let tensor = made[graph.name(of: cut)]
      bytes += tensor?.byteCount ?? 0
      values.append(tensor)
    }
    held = (cut, values)
  }

  private func value(of cut: Value, batch: Int) throws -> Tensor? {
    if held.cut == cut, let value = held.values[batch] { return value }
    let executor = try Executor(
      try graph.segment(computing: [cut], from: []), threadCount: threadCount)
    return try run(executor, from: nil, nil, batches.batches[batch])[graph.name(of: cut)]
  }

  private func run(
    _ executor: Executor, from boundary: Value?, _ given: Tensor?, _ batch: TowerBatch
  ) throws -> [String: Tensor] {
    var inputs = batch.inputs.filter { executor.graph.value(named: $0.key) != nil }
    if let boundary { inputs[graph.name(of: boundary)] = given }
    return try executor.run(inputs)
  }
}
