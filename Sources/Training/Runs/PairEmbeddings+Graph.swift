import GraphIR
import Operators
import TensorCore

extension Graph {
  /// The graph as it is trained: on as many texts as images, and without rows that nothing reads.
  package func pairing() throws(GraphError) -> Graph {
    var graph = try selectingEarly()
    if let pixels = graph.value(named: "pixel_values"), let ids = graph.value(named: "input_ids"),
      case .symbol(let images) = graph.tensorType(of: pixels).extents[0],
      case .symbol(let texts) = graph.tensorType(of: ids).extents[0]
    {
      try graph.renameSymbol(texts, to: images)
    }
    return graph
  }

  /// The values of this graph that embed images and texts.
  ///
  /// - Throws: ``GraphError`` unless both towers end with a normalization.
  package func pairEmbeddings() throws(GraphError) -> PairEmbeddings {
    let (image, rawImage) = try normalizedOutput("image_embeds")
    let (text, rawText) = try normalizedOutput("text_embeds")
    return PairEmbeddings(image: image, text: text, rawImage: rawImage, rawText: rawText)
  }

  private func normalizedOutput(_ name: String) throws(GraphError) -> (Value, Value) {
    guard let value = output(named: name) else { throw .unknownName(name) }
    guard case .node(let index) = origin(of: value), nodes[index].op is L2Normalize else {
      throw .invariant(node: name, "is not a normalized embedding")
    }
    return (value, nodes[index].inputs[0])
  }
}

extension PairEmbeddings {
  /// These values where a graph was merged into another.
  func mapped(by images: [Value: Value]) throws(GraphError) -> PairEmbeddings {
    func image(_ value: Value) throws(GraphError) -> Value {
      guard let image = images[value] else { throw .unknownName("embedding") }
      return image
    }
    return PairEmbeddings(
      image: try image(self.image), text: try image(text), rawImage: try image(rawImage),
      rawText: try image(rawText))
  }
}
