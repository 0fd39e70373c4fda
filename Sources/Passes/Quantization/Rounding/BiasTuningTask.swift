import Execution
import GraphIR
import Operators
import TensorCore
import Training

/// One tower of a quantized model with its divergence from the original one, and the gradient of that
/// with respect to biases and normalization parameters.
final class BiasTuningTask {
  /// What is tuned, an entry for each parameter.
  let values: ParameterBlock
  /// The gradient that ``leaveGradients(of:)`` left.
  let gradients: ParameterBlock
  /// The items to learn from.
  let learning: [Int]
  private let held: [Int]
  private let tower: Tower
  private let pairs: PairSet
  private let executor: Executor
  private let judge: Executor
  /// What the original model makes of each item and candidate, `[items, candidates]`.
  private let logits: [Float]
  private let count: Int

  private static let targetName = "tuning.target"
  private static let lossName = "tuning.loss"
  /// Fewer items do not tell whether something was learned.
  private static let fewestHeld = 8
  /// More images tell nothing new of texts.
  private static let mostImages = 256

  /// The task of `tower` of `model`, which shall be like the scorer's; nil where there is nothing to
  /// tune or there are too few items to tell by.
  init?(
    _ tower: Tower, _ model: Graph, _ scorer: PairScorer, heldOut: Double, threadCount: Int
  ) throws {
    self.tower = tower
    pairs = scorer.pairs
    let items = tower == .image ? pairs.imageCount : pairs.texts.count
    let bank = Self.bank(for: tower, scorer)
    count = bank.shape[0]
    let heldCount = Int(Double(items) * heldOut)
    guard heldCount >= Self.fewestHeld, items > heldCount, count > 1 else { return nil }
    // Evenly taken, so that neither part lacks a class where items are sorted by it.
    let chosen = Set((0..<heldCount).map { $0 * items / heldCount })
    held = chosen.sorted()
    learning = (0..<items).filter { !chosen.contains($0) }
    let graph = try model.measurable(tower)
    let names = graph.tunableNames
    guard !names.isEmpty else { return nil }
    let tensors = names.compactMap { name in
      graph.parameter(named: name).map { (name: name, tensor: $0.tensor) }
    }
    values = ParameterBlock(tensors.map { ($0.name, $0.tensor.shape) })
    for (entry, tensor) in zip(values.entries, tensors) { values.set(entry, tensor.tensor) }
    gradients = ParameterBlock(like: values)
    let scale = scorer.graph.logitScale ?? 1
    let made = try Self.graph(graph, names, tower, bank, scale: scale)
    var memory: [String: BoundMemory] = [:]
    for entry in values.entries {
      memory[entry.name] = BoundMemory(values.slice(entry), owner: values)
    }
    judge = try Executor(
      made.graph, outputs: [Self.lossName], threadCount: threadCount, memory: memory)
    for (name, entry) in zip(made.gradients, gradients.entries) {
      if let name { memory[name] = BoundMemory(gradients.slice(entry), owner: gradients) }
    }
    executor = try Executor(
      made.graph, outputs: [Self.lossName] + made.gradients.compactMap { $0 },
      threadCount: threadCount, memory: memory)
    let own = scorer.embeddings[tower] ?? []
    logits = Matrix.productTransposed(
      m: items, n: count, k: scorer.width, own, bank.elements(of: Float.self),
      threadCount: threadCount
    ).map { $0 * scale }
  }

  /// Leaves the gradient of the mean divergence of `items`.
  func leaveGradients(of items: [Int]) throws { _ = try executor.run(inputs(items)) }

  /// The mean divergence of the items that are held out, in nats.
  func divergence() throws -> Double {
    // Texts are told apart among each other, so that they go together.
    let size = tower == .image ? 64 : held.count
    var sum = 0.0
    for first in stride(from: 0, to: held.count, by: size) {
      let items = Array(held[first..<min(first + size, held.count)])
      let inputs = inputs(items)
      let loss = try judge.run(inputs)[Self.lossName]?.elements(of: Float.self).first ?? .nan
      sum += (Double(loss) - Self.entropy(inputs[Self.targetName])) * Double(items.count)
    }
    return sum / Double(held.count)
  }

  private func inputs(_ items: [Int]) -> [String: Tensor] {
    switch tower {
    case .image:
      let rows = items.flatMap { logits[($0 * count)..<(($0 + 1) * count)] }
      return [
        Self.targetName: Tensor(shape: [items.count, count], Self.softmax(rows, count)),
        "pixel_values": pairs.pixels.selecting(items, onAxis: 0),
      ]
    case .text:
      let rows = (0..<count).flatMap { image in items.map { logits[$0 * count + image] } }
      return [
        Self.targetName: Tensor(
          shape: [count, items.count], Self.softmax(rows, items.count)),
        "input_ids": pairs.tokenIDs(of: items),
      ]
    }
  }

  /// The mean entropy of the rows of `distributions`, in nats.
  private static func entropy(_ distributions: Tensor?) -> Double {
    guard let distributions, let rows = distributions.shape.first, rows > 0 else { return 0 }
    return distributions.withElements(of: Float.self) { elements in
      -elements.reduce(0.0) { $0 + ($1 > 0 ? Double($1) * Double.log(Double($1)) : 0) }
        / Double(rows)
    }
  }

  /// The original embeddings that items of `tower` are compared with, `[candidates, width]`.
  private static func bank(for tower: Tower, _ scorer: PairScorer) -> Tensor {
    let width = scorer.width
    switch tower {
    case .image:
      let texts = scorer.embeddings[.text] ?? []
      var table: [Float] = []
      for members in scorer.pairs.candidates {
        var sum = [Double](repeating: 0, count: width)
        for text in members {
          for place in 0..<width { sum[place] += Double(texts[text * width + place]) }
        }
        let norm = max(sum.reduce(0) { $0 + $1 * $1 }.squareRoot(), 1e-12)
        table += sum.map { Float($0 / norm) }
      }
      return Tensor(shape: [scorer.pairs.candidates.count, width], table)
    case .text:
      let images = Tensor(
        shape: [scorer.pairs.imageCount, width], scorer.embeddings[.image] ?? [])
      let number = min(scorer.pairs.imageCount, mostImages)
      return images.selecting(
        (0..<number).map { $0 * scorer.pairs.imageCount / number }, onAxis: 0)
    }
  }

  private static func graph(
    _ model: Graph, _ names: [String], _ tower: Tower, _ bank: Tensor, scale: Float
  ) throws(GraphError) -> (graph: Graph, gradients: [String?]) {
    guard let embedding = model.output(named: tower.outputName) else {
      throw .unknownName(tower.outputName)
    }
    var builder = GraphBuilder(model, scope: "tuning")
    let table = try builder.graph.addParameter("tuning.candidates", Parameter(bank))
    // Both towers are held to the distributions of images over texts.
    let (images, texts) = tower == .image ? (embedding, table) : (table, embedding)
    let logits = try builder.scaled(
      try builder.add(MatMul(transposesB: true), images, texts), by: scale)
    let logarithms = try builder.add(LogSoftmax(), logits)
    let target = try builder.graph.addInput(
      targetName, TensorType(.float32, builder.graph.tensorType(of: logits).extents))
    let rows = try builder.add(Sum(over: .last), try builder.product(target, logarithms))
    let mean = try builder.add(Sum(over: .all, isMean: true), rows)
    var graph = builder.graph
    let loss = try graph.add(lossName, Scale(by: -1), mean)
    let made = try graph.addGradients(
      of: loss, withRespectTo: names.compactMap { graph.value(named: $0) })
    builder = GraphBuilder(graph, scope: "tuning.gradient")
    var gradients: [String?] = []
    for value in made {
      // Each is left in memory of its own.
      let copy = try value.map { value throws(GraphError) in
        try builder.add(Scale(by: 1), value)
      }
      gradients.append(copy.map { builder.graph.name(of: $0) })
    }
    return (builder.graph, gradients)
  }

  private static func softmax(_ logits: [Float], _ width: Int) -> [Float] {
    var result: [Float] = []
    result.reserveCapacity(logits.count)
    for start in stride(from: 0, to: logits.count, by: width) {
      let row = logits[start..<(start + width)].map(Double.init)
      let largest = row.max() ?? 0
      let powers = row.map { Double.exp($0 - largest) }
      let sum = powers.reduce(0, +)
      result += powers.map { Float($0 / sum) }
    }
    return result
  }
}

extension Graph {
  /// The parameters of linear layers and normalizations that are not weights, in their order.
  fileprivate var tunableNames: [String] {
    var found = Set<Value>()
    for node in nodes {
      if node.op is Linear { found.formUnion(node.inputs.dropFirst(2)) }
      if node.op is LayerNorm { found.formUnion(node.inputs.dropFirst()) }
    }
    return parameterValues.filter(found.contains).map { name(of: $0) }
  }
}
