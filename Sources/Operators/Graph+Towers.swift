import GraphIR
import TensorCore

extension Graph {
  /// Channels, rows and columns of the images that the graph takes; nil without an image tower.
  package var imageExtents: [Int]? {
    guard let pixels = value(named: "pixel_values") else { return nil }
    let extents = tensorType(of: pixels).extents.dropFirst().compactMap(\.fixedCount)
    return extents.count == 3 ? extents : nil
  }

  /// Rows of the table that token ids look up; nil without a text tower.
  package var vocabularyCount: Int? {
    tokenEmbedding.flatMap { tensorType(of: $0.inputs[1]).extents[0].fixedCount }
  }

  /// The most tokens of a text, the rows of the table of positions; nil without a text tower.
  package var contextLength: Int? {
    guard let embedded = tokenEmbedding?.outputs[0] else { return nil }
    let positions = nodes.first { $0.op is AddPositions && $0.inputs[0] == embedded }
    return positions.flatMap { tensorType(of: $0.inputs[1]).extents[0].fixedCount }
  }

  /// How the end of a text is found; nil without a text tower.
  package var endTokenRule: EndTokenRule? {
    nodes.lazy.compactMap { ($0.op as? SelectEndToken)?.rule }.first
  }

  /// The factor from cosine to logit; nil where the model has none.
  package var logitScale: Float? {
    guard let logarithm = parameter(named: "logit_scale")?.materialized, logarithm.count == 1 else {
      return nil
    }
    return Float.exp(logarithm.elements(of: Float.self)[0])
  }

  /// Columns of an embedding; nil without outputs.
  package var embeddingWidth: Int? {
    outputs.first.flatMap { tensorType(of: $0.value).extents.last?.fixedCount }
  }

  /// Multiply-accumulate operations of output `name` for one image, or one text of full length.
  ///
  /// Zero where the graph has no such output.
  package func multiplyAccumulateCount(output name: String) -> Int {
    guard output(named: name) != nil, let tower = try? extracting(outputs: [name]) else { return 0 }
    let context = tower.contextLength ?? 1
    var symbols: [String: Int] = [:]
    for value in tower.inputs {
      for (axis, extent) in tower.tensorType(of: value).extents.enumerated() {
        if case .symbol(let name) = extent { symbols[name] = axis == 0 ? 1 : context }
      }
    }
    return tower.nodes.reduce(0) { sum, node in
      let inputs = node.inputs.compactMap { tower.tensorType(of: $0).shape(binding: symbols) }
      let outputs = node.outputs.compactMap { tower.tensorType(of: $0).shape(binding: symbols) }
      guard inputs.count == node.inputs.count, outputs.count == node.outputs.count else {
        return sum
      }
      return sum + node.op.multiplyAccumulateCount(inputs: inputs, outputs: outputs)
    }
  }

  /// The node that looks up token ids.
  private var tokenEmbedding: Node? {
    guard let ids = value(named: "input_ids") else { return nil }
    return nodes.first { $0.op is Embedding && $0.inputs[0] == ids }
  }
}
