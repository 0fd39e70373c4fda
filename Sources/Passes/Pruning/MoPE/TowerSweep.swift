import Execution
import GraphIR
import Operators
import TensorCore

/// Runs one tower again and again with something taken out, each time from where it is missed.
final class TowerSweep {
  private let tower: Tower
  private let scorer: PairScorer
  private let graph: Graph
  private let output: Value
  private let cuts: [Value]
  private let batches: TowerBatches
  private let memoryBudget: Int
  private let threadCount: Int
  /// For each module what goes, in the order of the tower.
  private var modules: [[(product: UnitProduct, units: [Int])]] = []
  /// The cut whose values are kept, and its values by batch as far as they fit.
  private var held: (cut: Value?, values: [Tensor?])
  private var executors: [[Value]: Executor] = [:]

  /// Prepares to take each of `modules` out of `tower` of the scorer's model.
  init(
    _ tower: Tower, _ scorer: PairScorer, removing modules: [[UnitRemoval]], memoryBudget: Int,
    threadCount: Int
  ) throws {
    self.tower = tower
    self.scorer = scorer
    self.memoryBudget = memoryBudget
    self.threadCount = threadCount
    graph = try scorer.graph.measurable(tower)
    guard let output = graph.output(named: tower.outputName) else {
      throw GraphError.unknownName(tower.outputName)
    }
    self.output = output
    cuts = graph.bottlenecks(before: output)
    batches = PairScorer.batches(scorer.pairs, tower, for: graph)
    held = (nil, batches.batches.map { _ in nil })
    for removals in modules {
      let products = try scorer.graph.unitProducts(
        of: removals.map(\.group), in: graph, cuts: cuts)
      let parts = zip(products, removals).map { ($0, $1.units.sorted()) }
      self.modules.append(parts.sorted { $0.0.stream.index < $1.0.stream.index })
    }
  }

  /// Calls `body` with the index of each module and the embeddings without it, in an order that
  /// the tower gives.
  func forEachModule(_ body: (Int, [Float]) throws -> Void) throws {
    let order = modules.indices.filter { !modules[$0].isEmpty }.sorted { left, right in
      let (a, b) = (modules[left][0].product.stream, modules[right][0].product.stream)
      return (a.index, left) < (b.index, right)
    }
    for index in modules.indices where modules[index].isEmpty {
      try body(index, scorer.embeddings[tower] ?? [])
    }
    var start = 0
    while start < order.count {
      let product = modules[order[start]][0].product
      var end = start
      while end < order.count, modules[order[end]][0].product.stream == product.stream { end += 1 }
      try measure(Array(order[start..<end]), at: product, body)
      start = end
    }
  }

  /// Takes out `indices`, modules that are first missed at `product`.
  private func measure(
    _ indices: [Int], at product: UnitProduct, _ body: (Int, [Float]) throws -> Void
  ) throws {
    executors.removeAll()
    let cut = lastCut(before: product.factor)
    try advance(to: cut)
    let probe = try state(of: product, from: cut, batch: 0)
    let batchBytes = probe.reduce(0) { $0 + $1.byteCount }
    let fits = batchBytes * batches.batches.count <= memoryBudget
    var states: [[Tensor]] = []
    if fits {
      states = [probe]
      for batch in batches.batches.indices.dropFirst() {
        states.append(try state(of: product, from: cut, batch: batch))
      }
    }
    // Where states are computed again, as many modules share one as there are.
    let chunk = fits ? 1 : indices.count
    for start in stride(from: 0, to: indices.count, by: chunk) {
      let chosen = Array(indices[start..<min(start + chunk, indices.count)])
      var rows = chosen.map { _ in EmbeddingRows(count: batches.count, width: scorer.width) }
      for (number, batch) in batches.batches.enumerated() {
        let state = fits ? states[number] : try state(of: product, from: cut, batch: number)
        for (place, index) in chosen.enumerated() {
          rows[place].set(
            try embeddings(without: modules[index], state, batch), for: batch.items)
        }
      }
      for (place, index) in chosen.enumerated() { try body(index, rows[place].values) }
    }
  }

  /// The embeddings of a batch without `parts`, from factor and stream of the first.
  private func embeddings(
    without parts: [(product: UnitProduct, units: [Int])], _ state: [Tensor], _ batch: TowerBatch
  ) throws -> Tensor {
    var state = state
    for (index, part) in parts.enumerated() {
      let gone = part.product.contribution(
        of: part.units, state[0], threadCount: threadCount)
      let stream = state[1].subtracting(gone)
      let next = index + 1 < parts.count ? parts[index + 1].product : nil
      let wanted = next.map { [$0.factor, $0.stream] } ?? [output]
      state = try run(wanted, from: part.product.stream, stream, batch)
    }
    return state[0]
  }

  /// Factor and stream of `product` for a batch, in the whole model.
  private func state(of product: UnitProduct, from cut: Value?, batch: Int) throws -> [Tensor] {
    try run(
      [product.factor, product.stream], from: cut, try value(of: cut, batch: batch),
      batches.batches[batch])
  }

  /// Keeps the values of `cut` instead of those of an earlier one, as far as they fit.
  private func advance(to cut: Value?) throws {
    guard let cut, held.cut != cut else { return }
    var values: [Tensor?] = []
    var bytes = 0
    for number in batches.batches.indices {
      guard bytes <= memoryBudget else {
        values.append(nil)
        continue
      }
      let made = try run(
        [cut], from: held.values[number] == nil ? nil : held.cut, held.values[number],
        batches.batches[number])[0]
      bytes += made.byteCount
      values.append(made)
    }
    held = (cut, values)
  }

  private func value(of cut: Value?, batch: Int) throws -> Tensor? {
    guard let cut else { return nil }
    if held.cut == cut, let value = held.values[batch] { return value }
    return try run([cut], from: nil, nil, batches.batches[batch])[0]
  }

  /// The last value through which everything passes before `value`.
  private func lastCut(before value: Value) -> Value? {
    guard let place = graph.place(of: value) else { return nil }
    return cuts.last { cut in graph.place(of: cut).map { $0 < place } ?? true }
  }

  /// Runs the part of the tower between `boundary`, whose value is `given`, and `wanted`.
  private func run(
    _ wanted: [Value], from boundary: Value?, _ given: Tensor?, _ batch: TowerBatch
  ) throws -> [Tensor] {
    if let boundary, let given, wanted == [boundary] { return [given] }
    let key = [boundary ?? output] + wanted
    let executor: Executor
    if let known = executors[key] {
      executor = known
    } else {
      let part = try graph.segment(
        computing: wanted, from: boundary.map { [$0] } ?? [])
      executor = try Executor(part, threadCount: threadCount)
      executors[key] = executor
    }
    var inputs = batch.inputs.filter { executor.graph.value(named: $0.key) != nil }
    if let boundary { inputs[graph.name(of: boundary)] = given }
    let results = try executor.run(inputs)
    return wanted.compactMap { results[graph.name(of: $0)] }
  }
}

extension Graph {
  /// The index of the node that makes `value`; nil for inputs and parameters.
  fileprivate func place(of value: Value) -> Int? {
    guard case .node(let index) = origin(of: value) else { return nil }
    return index
  }
}

extension Tensor {
  /// Each element less the one of `others` at its place.
  fileprivate func subtracting(_ others: [Float]) -> Tensor {
    Tensor(dtype: .float32, shape: shape) { bytes in
      let target = bytes.bindMemory(to: Float.self)
      withElements(of: Float.self) { source in
        others.withUnsafeBufferPointer { others in
          for index in source.indices { target[index] = source[index] - others[index] }
        }
      }
    }
  }
}
