import ModelFormat

/// How a tiny model stores weights and activations.
package enum TinyPrecision: String, CaseIterable, Sendable {
  /// float32 weights and activations.
  case float
  /// int8 weights, float32 activations.
  case weightOnly
  /// int8 weights, uint8 activations.
  case integer
  /// bfloat16 weights, float32 activations that products round to bfloat16.
  case bfloat16

  /// Whether activations are rounded, here from float32 and in a reference from float64, so that
  /// some fall on the other side.
  package var roundsActivations: Bool { self == .integer || self == .bfloat16 }
}

/// A model of both towers with random weights and awkward extents.
package struct TinyModel: Sendable, CustomStringConvertible {
  /// How weights and activations are stored.
  package var precision = TinyPrecision.float
  /// The function between the two products of a layer.
  package var activation = Activation.quickGELU
  /// How a text's pooled position is found.
  package var poolingRule = PoolingRule.endToken
  /// Whether the last layer works on the pooled rows only.
  package var hasPooledTail = false
  /// Whether texts see what follows.
  package var isCausal = true
  /// Rows of hidden states.
  package var width = 21
  /// Heads that were left by pruning.
  package var headCount = 2
  /// Columns of a head; all heads together are narrower than the model.
  package var headWidth = 5
  /// Columns between the two products of a layer.
  package var neuronCount = 35
  /// Layers of each tower.
  package var layerCount = 2
  /// Pixels along an edge.
  package var imageExtent = 9
  /// Pixels along the edge of a patch; what remains is left out.
  package var patchSize = 4
  /// Ids are below it.
  package var vocabularyCount = 19
  /// The most tokens.
  package var contextLength = 8
  /// Columns of an embedding.
  package var embeddingWidth = 6
  /// Which towers there are.
  package var towers: [Tower] = [.image, .text]
  /// Tokens that each layer of the image tower merges but the last.
  package var mergedCount = 0
  /// Whether the first layer of the image tower drops tokens instead, all but half.
  package var dropsTokens = false
  /// Whether most weights are zero and stored in every sparse layout by turns.
  package var isSparse = false
  /// Whether weights that are zero for ``isSparse`` are stored in panels all the same.
  package var storesZeros = false
  /// Bits of a code of an activation.
  package var activationBitCount = 8
  /// Bits of a code of a weight or table.
  package var codeBitCount = 8
  /// Columns that share a scale, 0 where a row has one.
  package var groupSize = 0
  /// Whether floats are drawn such that they can be stored in 16 bits, and are.
  package var hasShortFloats = false
  /// Whether rows of activations have scales of their own, in integer products.
  package var scalesTokens = false
  /// Whether queries, keys and values are codes, in integer models.
  package var hasIntegerAttention = false
  /// Experts of each layer; 0 for a layer of one.
  package var expertCount = 0
  /// Experts that a token chooses; 0 where experts choose tokens.
  package var expertTopK = 1
  /// Tokens that an expert takes, 0 for any number.
  package var expertCapacity = 0
  /// Whether gates are shares among the experts chosen.
  package var normalizesGates = true
  /// Whether the last layer's experts compute the pooled token alone, of which all compete.
  package var poolsExperts = false
  /// The names of the classes that the file knows, if any.
  package var labels: [String] = []
  /// Where the weights come from.
  package var seed: UInt64 = 1

  /// The usual extents.
  package init() {}

  /// What tells it from others, for test output.
  package var description: String {
    "\(precision) \(activation) \(poolingRule) width \(width) tail \(hasPooledTail) "
      + "merged \(mergedCount) drops \(dropsTokens) sparse \(isSparse) "
      + "activation bits \(activationBitCount) weight bits \(codeBitCount) group \(groupSize) "
      + "short \(hasShortFloats) tokens \(scalesTokens) "
      + "attention \(hasIntegerAttention) "
      + "experts \(expertTopK) of \(expertCount) capacity \(expertCapacity) "
      + "\(normalizesGates ? "normalized" : "as shares") pooled \(poolsExperts)"
  }

  /// The token behind every text, also the largest one.
  package var endToken: Int { vocabularyCount - 1 }

  /// The facts of the model.
  package var info: ModelInfo {
    let hasImage = towers.contains(.image)
    let hasText = towers.contains(.text)
    return ModelInfo(
      embeddingWidth: embeddingWidth, imageChannelCount: hasImage ? 3 : 0,
      imageHeight: hasImage ? imageExtent : 0, imageWidth: hasImage ? imageExtent : 0,
      contextLength: hasText ? contextLength : 0, vocabularyCount: hasText ? vocabularyCount : 0,
      logitScale: 14.3, startToken: 0, endToken: hasText ? endToken : 0)
  }

  /// Draws the weights and builds the programs.
  package func parts() -> TinyParts {
    var builder = TinyBuilder(self)
    if towers.contains(.image) { builder.image() }
    if towers.contains(.text) { builder.text() }
    var parts = builder.parts
    parts.labels = labels
    parts.labelEmbeddings = labelEmbeddings
    return parts
  }

  /// Random rows of norm 1, `[labels, embedding width]`.
  private var labelEmbeddings: [Float] {
    var numbers = Numbers(seed: seed + 99)
    return labels.flatMap { _ in
      let row = numbers.floats(embeddingWidth)
      let norm = row.reduce(0) { $0 + $1 * $1 }.squareRoot()
      return row.map { $0 / norm }
    }
  }

  /// Random pixels of `count` images.
  package func pixels(_ count: Int, seed: UInt64 = 7) -> [Float] {
    var numbers = Numbers(seed: seed)
    return numbers.floats(count * 3 * imageExtent * imageExtent, scale: 2)
  }

  /// Random texts: start token, words, end token, then padding with the start token.
  package func texts(_ count: Int, tokenCount: Int, seed: UInt64 = 8) -> [Int32] {
    var numbers = Numbers(seed: seed)
    return (0..<count).flatMap { text in
      let length = 2 + numbers.integer(below: max(1, tokenCount - 1))
      return (0..<tokenCount).map { position -> Int32 in
        if position == 0 || position >= length { return 0 }
        if position == length - 1 { return Int32(endToken) }
        return Int32(1 + numbers.integer(below: vocabularyCount - 2))
      }
    }
  }
}

/// What a file is written from.
package struct TinyParts: Sendable {
  /// The facts.
  package var info: ModelInfo
  /// The tensors by index.
  package var tensors: [StoredTensor] = []
  /// Their names.
  package var tensorNames: [String] = []
  /// The program of the image tower.
  package var image: Program?
  /// The program of the text tower.
  package var text: Program?
  /// Names of the image tower's instructions.
  package var imageNames: [String] = []
  /// Names of the text tower's instructions.
  package var textNames: [String] = []
  /// The names of the labels.
  package var labels: [String] = []
  /// Their embeddings, `[labels, embedding width]`.
  package var labelEmbeddings: [Float] = []

  /// The writer of these parts with some bytes in the opaque sections.
  package var writer: ModelWriter {
    var writer = ModelWriter(info: info)
    for (tensor, name) in zip(tensors, tensorNames) { _ = writer.add(tensor, name: name) }
    if let image { writer.set(image, names: imageNames, for: .image) }
    if let text { writer.set(text, names: textNames, for: .text) }
    writer.set(Array("tokens".utf8), for: .tokenizer)
    writer.set(Array("{}".utf8), for: .metadata)
    if !labels.isEmpty { writer.setLabels(labels, embeddings: labelEmbeddings) }
    return writer
  }
}
