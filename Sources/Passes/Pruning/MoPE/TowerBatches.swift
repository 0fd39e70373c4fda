import Execution
import GraphIR
import Operators
import TensorCore

/// Inputs of one tower for one run, and which items they are.
struct TowerBatch {
  /// The tensors by input name.
  let inputs: [String: Tensor]
  /// The indices of the images or texts.
  let items: [Int]
}

/// How items of a tower are put together: always the same ones, so that the bits are the same.
struct TowerBatches {
  /// Floats of the largest value of a run: what the caches of a core and memory bear well.
  private static let floatBudget = 1 << 23
  /// Items of a run: more do not make products faster.
  private static let mostItems = 64

  /// The runs.
  let batches: [TowerBatch]
  /// How many items there are.
  let count: Int

  /// The images of `pairs` at `items`, for the tower of `graph`.
  static func images(
    _ pairs: PairSet, _ items: [Int], for graph: Graph, most: Int = mostItems
  ) -> TowerBatches {
    let itemFloats = graph.floatsPerItem(tokenCount: 1)
    let size = max(1, min(most, floatBudget / max(itemFloats, 1)))
    var batches: [TowerBatch] = []
    for start in stride(from: 0, to: items.count, by: size) {
      let chosen = Array(items[start..<min(start + size, items.count)])
      let pixels = pairs.pixels.selecting(chosen, onAxis: 0)
      batches.append(TowerBatch(inputs: ["pixel_values": pixels], items: chosen))
    }
    return TowerBatches(batches: batches, count: items.count)
  }

  /// The texts of `pairs` at `items`, for the tower of `graph`; those of a run are equally long.
  static func texts(
    _ pairs: PairSet, _ items: [Int], for graph: Graph, most: Int = 4 * mostItems
  ) -> TowerBatches {
    let order = items.sorted { (pairs.texts[$0].count, $0) < (pairs.texts[$1].count, $1) }
    var batches: [TowerBatch] = []
    var start = 0
    while start < order.count {
      let length = pairs.texts[order[start]].count
      let itemFloats = graph.floatsPerItem(tokenCount: length)
      let size = max(1, min(most, floatBudget / max(itemFloats, 1)))
      var end = start
      while end < order.count, end - start < size, pairs.texts[order[end]].count == length {
        end += 1
      }
      let chosen = Array(order[start..<end])
      batches.append(
        TowerBatch(inputs: ["input_ids": pairs.tokenIDs(of: chosen)], items: chosen))
      start = end
    }
    return TowerBatches(batches: batches, count: items.count)
  }
}

extension Graph {
  /// Elements of the largest value that one item makes, at `tokenCount` tokens where that is open.
  fileprivate func floatsPerItem(tokenCount: Int) -> Int {
    nodes.flatMap(\.outputs).reduce(1) { most, value in
      let counts = tensorType(of: value).extents.dropFirst().map { $0.fixedCount ?? tokenCount }
      return max(most, counts.reduce(1, *))
    }
  }

  /// One tower by itself, with the choice of its token made early and plain parameters.
  ///
  /// - Throws: ``GraphError`` when the graph lacks the tower.
  func measurable(_ tower: Tower) throws(GraphError) -> Graph {
    var graph = try extracting(outputs: [tower.outputName]).selectingEarly()
    for value in graph.parameterValues {
      guard let parameter = graph.parameter(value) else { continue }
      if parameter.mask != nil || parameter.quantization != nil {
        try graph.setParameter(value, Parameter(parameter.materialized))
      }
    }
    return graph
  }
}

/// Rows of embeddings that arrive a batch at a time.
struct EmbeddingRows {
  /// The rows, one for each item.
  private(set) var values: [Float]
  /// The length of a row.
  let width: Int

  /// Makes `count` rows of zeros.
  init(count: Int, width: Int) {
    values = [Float](repeating: 0, count: count * width)
    self.width = width
  }

  /// Stores the rows of `items`.
  mutating func set(_ tensor: Tensor, for items: [Int]) {
    tensor.withElements(of: Float.self) { source in
      for (row, item) in items.enumerated() {
        for k in 0..<width { values[item * width + k] = source[row * width + k] }
      }
    }
  }
}
