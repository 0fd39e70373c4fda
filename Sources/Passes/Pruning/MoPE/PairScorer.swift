import Execution
import GraphIR
import Operators
import TensorCore

/// Measures how well models tell the images and texts of a set apart.
///
/// - Source: the cross-modal metric of Lin et al., "MoPE-CLIP: Structured Pruning for Efficient
///   Vision-Language Models with Module-wise Pruning Error Metric", CVPR 2024, arXiv:2403.07839.
///   Differs: a tenth of the loss is taken off, since right answers alone come in steps.
package struct PairScorer {
  /// What is told apart.
  package let pairs: PairSet
  /// The model whose embeddings are kept.
  package let graph: Graph
  /// The score of ``graph``.
  package let dense: PairScore
  /// The relation of images and candidates.
  let task: PairTask
  /// The scaled cosines of ``graph``, `[images, candidates]`.
  private let logits: [Float]
  /// The embeddings of ``graph``, a row for each image or text.
  let embeddings: [Tower: [Float]]
  /// Columns of an embedding.
  let width: Int
  /// How many threads run.
  let threadCount: Int

  /// Encodes `pairs` with `graph`.
  ///
  /// - Throws: ``PassError`` when the set leaves nothing to tell apart, or does not fit the model.
  package init(
    _ pairs: PairSet, of graph: Graph, threadCount: Int
  ) throws(PassError) {
    try Self.check(pairs, graph)
    self.pairs = pairs
    self.graph = graph
    self.threadCount = threadCount
    task = PairTask(pairs)
    width = graph.embeddingWidth ?? 1
    var embeddings: [Tower: [Float]] = [:]
    for tower in Tower.allCases {
      embeddings[tower] = try Self.encode(pairs, tower, of: graph, width: width, threadCount)
    }
    self.embeddings = embeddings
    let (images, texts) = (embeddings[.image] ?? [], embeddings[.text] ?? [])
    let scale = graph.logitScale ?? 1
    logits = task.logits(images: images, texts: texts, width: width, scale: scale)
    dense = task.score(
      images: images, texts: texts, width: width, scale: scale, reference: logits)
  }

  /// The score of `other`, a model with the inputs and outputs of ``graph``.
  ///
  /// A tower that is that of ``graph`` is not run again.
  ///
  /// - Throws: ``PassError`` when the model does not fit the set.
  package func score(of other: Graph) throws(PassError) -> PairScore {
    var rows: [Tower: [Float]] = [:]
    for tower in Tower.allCases {
      rows[tower] =
        other.hasSame(tower, as: graph)
        ? embeddings[tower]
        : try Self.encode(pairs, tower, of: other, width: width, threadCount)
    }
    return score(images: rows[.image], texts: rows[.text], scale: other.logitScale)
  }

  /// The score with the given rows, and those of ``graph`` in place of absent ones.
  func score(
    images: [Float]? = nil, texts: [Float]? = nil, scale: Float? = nil
  ) -> PairScore {
    task.score(
      images: images ?? embeddings[.image] ?? [], texts: texts ?? embeddings[.text] ?? [],
      width: width, scale: scale ?? graph.logitScale ?? 1, reference: logits)
  }

  /// The runs of `tower`, whose graph is `graph`.
  static func batches(_ pairs: PairSet, _ tower: Tower, for graph: Graph) -> TowerBatches {
    switch tower {
    case .image: .images(pairs, Array(0..<pairs.imageCount), for: graph)
    case .text: .texts(pairs, Array(pairs.texts.indices), for: graph)
    }
  }

  private static func encode(
    _ pairs: PairSet, _ tower: Tower, of graph: Graph, width: Int, _ threadCount: Int
  ) throws(PassError) -> [Float] {
    do {
      let part = try graph.measurable(tower)
      let executor = try Executor(part, threadCount: threadCount)
      let batches = batches(pairs, tower, for: part)
      var rows = EmbeddingRows(count: batches.count, width: width)
      for batch in batches.batches {
        if let made = try executor.run(batch.inputs)[tower.outputName] {
          rows.set(made, for: batch.items)
        }
      }
      return rows.values
    } catch {
      throw .calibration(error)
    }
  }

  private static func check(_ pairs: PairSet, _ graph: Graph) throws(PassError) {
    let name = "mope"
    guard let extents = graph.imageExtents, let vocabulary = graph.vocabularyCount,
      let context = graph.contextLength, graph.output(named: Tower.image.outputName) != nil,
      graph.output(named: Tower.text.outputName) != nil
    else {
      throw .unsuitable(pass: name, "the model lacks a tower, and both are compared")
    }
    guard pairs.imageCount > 0 else {
      throw .unsuitable(pass: name, "the calibration data has no images")
    }
    guard pairs.candidates.count > 1 else {
      let what = pairs.task == .zeroShot ? "class" : "caption"
      throw .unsuitable(
        pass: name,
        "the calibration data has one \(what) alone, expected two at least to tell images apart by")
    }
    guard pairs.pixels.dtype == .float32, Array(pairs.pixels.shape.dropFirst()) == extents else {
      throw .unsuitable(
        pass: name,
        "images are \(pairs.pixels.shape.dropFirst().map { String($0) }.joined(separator: " x ")), "
          + "expected \(extents.map { String($0) }.joined(separator: " x "))")
    }
    for text in pairs.texts {
      guard !text.isEmpty, text.count <= context else {
        throw .unsuitable(
          pass: name, "a text has \(text.count) tokens, expected 1 to \(context)")
      }
      if let id = text.first(where: { $0 < 0 || Int($0) >= vocabulary }) {
        throw .unsuitable(
          pass: name, "token id \(id) lies outside the vocabulary of \(vocabulary)")
      }
    }
  }
}

extension Graph {
  /// Whether both compute the output of `tower` in the same way from the same parameters.
  fileprivate func hasSame(_ tower: Tower, as other: Graph) -> Bool {
    guard let own = try? extracting(outputs: [tower.outputName]),
      let theirs = try? other.extracting(outputs: [tower.outputName]),
      own.nodes.count == theirs.nodes.count,
      own.parameterValues.count == theirs.parameterValues.count
    else { return false }
    let sameNodes = zip(own.nodes, theirs.nodes).allSatisfy { left, right in
      left.inputs == right.inputs && left.op.isSame(as: right.op)
    }
    return sameNodes
      && zip(own.parameterValues, theirs.parameterValues).allSatisfy { left, right in
        left == right && own.parameter(left) == theirs.parameter(right)
      }
  }
}

extension Op {
  /// Whether `other` is the same operation with the same constants.
  fileprivate func isSame(as other: any Op) -> Bool { other as? Self == self }
}
