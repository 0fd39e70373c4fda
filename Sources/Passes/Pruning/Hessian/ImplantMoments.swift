import Execution
import GraphIR
import Operators
import TensorCore

/// Second moments of what a path of an implant reads and of what is missing where it ends.
struct ImplantMoments {
  /// Elements of a row of features.
  private(set) var width = 0
  /// Elements of a row of targets.
  private(set) var height = 0
  /// The second moments of the features about their means, `[width, width]`.
  private(set) var inputs: [Double] = []
  /// Those of targets and features, `[height, width]`.
  private(set) var products: [Double] = []
  /// The means of the features.
  private(set) var inputMeans: [Double] = []
  /// The means of the targets.
  private(set) var targetMeans: [Double] = []
  private var rowCount = 0

  /// Takes the moments over images, or texts, spread over `pairs`.
  ///
  /// - Parameters:
  ///   - dense: the model that the targets come from.
  ///   - pruned: the model whose own answer is taken from them, and whose features are read.
  ///   - target: the operation that answers, in both.
  ///   - features: the operation of `pruned` whose first operand is read.
  ///   - pairs: images and texts.
  ///   - sampleCount: how many of them at most.
  ///   - threadCount: how many threads run.
  /// - Throws: ``GraphError`` or `ExecutionError` when a model lacks the operation or cannot run.
  init(
    dense: Graph, pruned: Graph, target: String, features: String, pairs: PairSet,
    sampleCount: Int, threadCount: Int
  ) throws {
    let dense = try dense.selectingEarly()
    let pruned = try pruned.selectingEarly()
    guard let reader = pruned.nodes.first(where: { $0.name == features }),
      pruned.value(named: target) != nil
    else { throw GraphError.unknownName(features) }
    let source = pruned.name(of: reader.inputs[0])
    let full = try Executor(dense, outputs: [target], threadCount: threadCount)
    let small = try Executor(pruned, outputs: [target, source], threadCount: threadCount)
    let isImage = small.graph.value(named: "pixel_values") != nil
    let whole = isImage ? pairs.imageCount : pairs.texts.count
    let count = min(sampleCount, whole)
    for start in stride(from: 0, to: count, by: 64) {
      let rows = (start..<min(start + 64, count)).map { $0 * whole / count }
      var lengths: [Int]?
      var batch: [String: Tensor] = [:]
      if isImage {
        batch["pixel_values"] = pairs.pixels.selecting(rows, onAxis: 0)
      } else {
        batch["input_ids"] = pairs.tokenIDs(of: rows)
        lengths = rows.map { pairs.texts[$0].count }
      }
      let expected = try full.run(batch)
      let found = try small.run(batch)
      guard let whole = expected[target], let own = found[target], let read = found[source] else {
        throw GraphError.unknownName(target)
      }
      add(read, whole, own, lengths, threadCount)
    }
    finish()
  }

  private mutating func add(
    _ read: Tensor, _ whole: Tensor, _ own: Tensor, _ lengths: [Int]?, _ threadCount: Int
  ) {
    if width == 0 {
      width = read.shape.last ?? 0
      height = whole.shape.last ?? 0
      inputs = [Double](repeating: 0, count: width * width)
      products = [Double](repeating: 0, count: height * width)
      inputMeans = [Double](repeating: 0, count: width)
      targetMeans = [Double](repeating: 0, count: height)
    }
    let tokens = read.shape.count == 3 ? read.shape[1] : 1
    // What stands behind the end of a text is no input.
    let hasTargets = whole.count / max(height, 1) == read.count / max(width, 1)
    let rows = (0..<(read.count / max(width, 1))).filter { row in
      guard let lengths, read.shape.count == 3 else { return true }
      return row % tokens < lengths[row / tokens]
    }
    let features = columns(read, rows, width)
    accumulate(&inputs, features, features, threadCount)
    for k in 0..<width {
      inputMeans[k] += features[(k * rows.count)..<((k + 1) * rows.count)].reduce(0) {
        $0 + Double($1)
      }
    }
    rowCount += rows.count
    guard hasTargets else { return }
    let missing = zip(columns(whole, rows, height), columns(own, rows, height)).map { $0 - $1 }
    accumulate(&products, missing, features, threadCount)
    for k in 0..<height {
      targetMeans[k] += missing[(k * rows.count)..<((k + 1) * rows.count)].reduce(0) {
        $0 + Double($1)
      }
    }
  }

  /// The columns of a matrix at `rows`, one after the other.
  private func columns(_ tensor: Tensor, _ rows: [Int], _ width: Int) -> [Float] {
    var result = [Float](repeating: 0, count: rows.count * width)
    tensor.withElements(of: Float.self) { elements in
      for (place, row) in rows.enumerated() {
        for k in 0..<width { result[k * rows.count + place] = elements[row * width + k] }
      }
    }
    return result
  }

  private func accumulate(
    _ sums: inout [Double], _ a: [Float], _ b: [Float], _ threadCount: Int
  ) {
    let (m, n) = (a.count * width / max(b.count, 1), width)
    let made = Matrix.productTransposed(
      m: m, n: n, k: b.count / max(n, 1), a, b, threadCount: threadCount)
    for (place, element) in made.enumerated() { sums[place] += Double(element) }
  }

  private mutating func finish() {
    let scale = 1 / Double(max(rowCount, 1))
    for k in inputMeans.indices { inputMeans[k] *= scale }
    for k in targetMeans.indices { targetMeans[k] *= scale }
    for i in 0..<width {
      for j in 0..<width {
        inputs[i * width + j] = inputs[i * width + j] * scale - inputMeans[i] * inputMeans[j]
      }
    }
    for i in 0..<height {
      for j in 0..<width {
        products[i * width + j] = products[i * width + j] * scale - targetMeans[i] * inputMeans[j]
      }
    }
  }
}
