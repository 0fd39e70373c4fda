import Execution
import GraphIR
import Operators
import TensorCore
import Training

/// Telling images apart by texts, and staying close to the unmasked model: both losses' gradients
/// with respect to some weights of the image tower.
final class MaskTuningTask {
  /// The weights that the model computes with, one entry for each in their order.
  let used: ParameterBlock
  /// Gradients of the cross entropy with the targets.
  let taskGradients: ParameterBlock
  /// Gradients of the divergence from the unmasked model.
  let divergenceGradients: ParameterBlock
  private let pairs: PairSet
  private let executor: Executor
  private let names: (task: String, divergence: String)
  /// What the unmasked model makes of each image, `[images, candidates]`.
  private let frozen: [Float]
  private let candidateCount: Int

  var imageCount: Int { pairs.imageCount }

  init(
    _ graph: Graph, _ weights: [Value], _ pairs: PairSet, threadCount: Int
  ) throws(ExecutionError) {
    self.pairs = pairs
    candidateCount = pairs.candidates.count
    let classes = try Self.candidates(graph, pairs, threadCount: threadCount)
    used = Self.block(of: weights, in: graph)
    taskGradients = ParameterBlock(like: used)
    divergenceGradients = ParameterBlock(like: used)
    let made: (graph: Graph, losses: [String], gradients: [[String?]])
    do throws(GraphError) {
      made = try Self.losses(graph, weights.map { graph.name(of: $0) }, classes)
    } catch {
      throw .graph(error)
    }
    names = (made.losses[0], made.losses[1])
    var memory: [String: BoundMemory] = [:]
    for entry in used.entries { memory[entry.name] = BoundMemory(used.slice(entry), owner: used) }
    for (names, block) in zip(made.gradients, [taskGradients, divergenceGradients]) {
      for (name, entry) in zip(names, block.entries) {
        if let name { memory[name] = BoundMemory(block.slice(entry), owner: block) }
      }
    }
    executor = try Executor(
      made.graph, outputs: made.losses + made.gradients.flatMap { $0.compactMap { $0 } },
      threadCount: threadCount, memory: memory)
    let count = pairs.imageCount
    let scorer = try Executor(
      made.graph, outputs: [Self.probabilities], threadCount: threadCount)
    var frozen: [Float] = []
    for first in stride(from: 0, to: count, by: 64) {
      let rows = Array(first..<min(first + 64, count))
      let results = try scorer.run(["pixel_values": pairs.pixels.selecting(rows, onAxis: 0)])
      frozen += results[Self.probabilities]?.elements(of: Float.self) ?? []
    }
    self.frozen = frozen
  }

  /// Leaves both gradients of a batch and returns the cross entropy.
  func gradients(ofRows rows: [Int]) throws(ExecutionError) -> Double {
    let width = candidateCount
    let wanted = Tensor(shape: [rows.count, width], of: Float.self) { target in
      target.update(repeating: 0)
      for (row, image) in rows.enumerated() { target[row * width + pairs.targets[image]] = 1 }
    }
    let kept = Tensor(shape: [rows.count, width], of: Float.self) { target in
      for (row, image) in rows.enumerated() {
        for place in 0..<width { target[row * width + place] = frozen[image * width + place] }
      }
    }
    let results = try executor.run([
      "pixel_values": pairs.pixels.selecting(rows, onAxis: 0), Self.wanted: wanted,
      Self.kept: kept,
    ])
    return results[names.task].map { Double($0.elements(of: Float.self)[0]) } ?? .nan
  }

  /// The masked elements of `weights`, an entry for each.
  static func block(of weights: [Value], in graph: Graph) -> ParameterBlock {
    let tensors = weights.compactMap { weight in
      graph.parameter(weight).map { (name: graph.name(of: weight), tensor: $0.materialized) }
    }
    let block = ParameterBlock(tensors.map { ($0.name, $0.tensor.shape) })
    for (entry, tensor) in zip(block.entries, tensors) { block.set(entry, tensor.tensor) }
    return block
  }

  // MARK: Graphs

  private static let wanted = "tuning.wanted"
  private static let kept = "tuning.kept"
  private static let probabilities = "tuning.probabilities"

  /// The image tower with both losses and their gradients with respect to the parameters `names`.
  private static func losses(
    _ model: Graph, _ names: [String], _ classes: Tensor
  ) throws(GraphError) -> (graph: Graph, losses: [String], gradients: [[String?]]) {
    let scale = model.logitScale ?? 100
    let tower = try model.extracting(outputs: ["image_embeds"]).selectingEarly()
    guard let embedding = tower.output(named: "image_embeds") else {
      throw .unknownName("image_embeds")
    }
    var builder = GraphBuilder(tower, scope: "tuning")
    let table = try builder.graph.addParameter("tuning.classes", Parameter(classes))
    let cosines = try builder.add(MatMul(transposesB: true), embedding, table)
    let logits = try builder.scaled(cosines, by: scale)
    let logarithms = try builder.add(LogSoftmax(), logits)
    _ = try builder.graph.add(probabilities, Softmax(), logits)
    let extents = builder.graph.tensorType(of: logits).extents
    var losses: [Value] = []
    for name in [wanted, kept] {
      let target = try builder.graph.addInput(name, TensorType(.float32, extents))
      let rows = try builder.add(Sum(over: .last), try builder.product(target, logarithms))
      let mean = try builder.add(Sum(over: .all, isMean: true), rows)
      losses.append(try builder.scaled(mean, by: -1))
    }
    var graph = builder.graph
    let values = names.compactMap { graph.value(named: $0) }
    var gradients: [[String?]] = []
    for loss in losses {
      let made = try graph.addGradients(of: loss, withRespectTo: values)
      var unique: [String?] = []
      for value in made {
        guard let value else {
          unique.append(nil)
          continue
        }
        // Each is left in memory of its own.
        builder = GraphBuilder(graph, scope: "tuning.gradient")
        let copy = try builder.add(Scale(by: 1), value)
        unique.append(builder.graph.name(of: copy))
        graph = builder.graph
      }
      gradients.append(unique)
    }
    return (graph, losses.map { graph.name(of: $0) }, gradients)
  }

  /// The embeddings of the candidates, each the normalized mean of its texts', `[candidates, width]`.
  private static func candidates(
    _ graph: Graph, _ pairs: PairSet, threadCount: Int
  ) throws(ExecutionError) -> Tensor {
    let tower: Graph
    do throws(GraphError) {
      tower = try graph.extracting(outputs: ["text_embeds"]).selectingEarly()
    } catch {
      throw .graph(error)
    }
    let executor = try Executor(tower, threadCount: threadCount)
    var texts: [Float] = []
    for first in stride(from: 0, to: pairs.texts.count, by: 64) {
      let rows = first..<min(first + 64, pairs.texts.count)
      let results = try executor.run(["input_ids": pairs.tokenIDs(of: rows)])
      texts += results["text_embeds"]?.elements(of: Float.self) ?? []
    }
    let width = texts.count / max(pairs.texts.count, 1)
    var table: [Float] = []
    for members in pairs.candidates {
      var sum = [Double](repeating: 0, count: width)
      for text in members {
        for place in 0..<width { sum[place] += Double(texts[text * width + place]) }
      }
      let norm = max(sum.reduce(0) { $0 + $1 * $1 }.squareRoot(), 1e-12)
      table += sum.map { Float($0 / norm) }
    }
    return Tensor(shape: [pairs.candidates.count, width], table)
  }
}
