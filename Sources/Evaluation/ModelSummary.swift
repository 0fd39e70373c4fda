import GraphIR
import Operators
import TensorCore

/// The figures of a model that people ask for first.
package struct ModelSummary: Codable, Sendable, Equatable {
  /// Counts of parameters; the towers' leave out the token embedding.
  package struct Parameters: Codable, Sendable, Equatable {
    package var total = 0
    package var nonzero = 0
    package var imageTower = 0
    package var textTower = 0
    package var tokenEmbedding = 0
    /// Those that a token can meet: all but the experts it does not go through; nil in files that
    /// do not tell.
    package var active: Int?

    private enum CodingKeys: String, CodingKey {
      case total
      case active
      case nonzero
      case imageTower = "image_tower"
      case textTower = "text_tower"
      case tokenEmbedding = "token_embedding"
    }
  }

  /// Multiply-accumulate operations for one input; a text at the full context.
  package struct Operations: Codable, Sendable, Equatable {
    package var image = 0
    package var text = 0
  }

  /// A layer that is a mixture of experts.
  package struct Experts: Codable, Sendable, Equatable {
    /// What the layer's values are named after.
    package var layer: String
    /// How many experts there are.
    package var experts: Int
    /// How many a token goes through; nil where experts choose.
    package var perToken: Int?

    private enum CodingKeys: String, CodingKey {
      case layer
      case experts
      case perToken = "per_token"
    }
  }

  /// How the numbers are stored.
  package struct Quantization: Codable, Sendable, Equatable {
    /// What most elements of weights are, such as `int8`, `int4 in groups of 64`, `bfloat16` or
    /// `float32`.
    package var weights = "float32"
    /// What linears read: `int8` or fewer bits, `per token` where each has a scale, `bfloat16` or
    /// `float32`.
    package var activations = "float32"
    /// How the token embedding is stored.
    package var tokenEmbedding = "float32"
    /// Parameters stored as codes.
    package var quantizedParameters = 0

    private enum CodingKeys: String, CodingKey {
      case weights
      case activations
      case tokenEmbedding = "token_embedding"
      case quantizedParameters = "quantized_parameters"
    }
  }

  package var parameters = Parameters()
  package var macs = Operations()
  package var quantization = Quantization()
  /// The mixtures of experts; nil where there are none.
  package var experts: [Experts]?
  package var facts: [Fact] = []
  package var provenance: [ProvenanceStep] = []

  /// Counts what `graph` holds.
  package init(_ graph: Graph) {
    facts = graph.facts
    provenance = graph.provenance
    let embeddings = Self.tokenEmbeddings(graph)
    var shares: [String: Int] = [:]
    for value in graph.parameterValues {
      guard let parameter = graph.parameter(value) else { continue }
      let isEmbedding = embeddings.contains(value)
      count(parameter, graph.name(of: value), isEmbedding: isEmbedding)
      if !isEmbedding, parameter.tensor.shape.count > 1 {
        let kind = parameter.quantization?.summary ?? Self.floatFormat(parameter.tensor)
        shares[kind, default: 0] += parameter.tensor.count
      }
    }
    if let most = shares.max(by: { ($0.value, $1.key) < ($1.value, $0.key) }) {
      quantization.weights = most.key
    }
    quantization.activations = Self.activations(graph)
    let layers = graph.expertLayers
    if !layers.isEmpty {
      experts = layers.map {
        Experts(layer: $0.name, experts: $0.expertCount, perToken: $0.expertsPerToken)
      }
    }
    parameters.active = parameters.total - graph.idleParameterCount()
    macs.image = graph.multiplyAccumulateCount(output: "image_embeds")
    macs.text = graph.multiplyAccumulateCount(output: "text_embeds")
  }

  private mutating func count(_ parameter: Parameter, _ name: String, isEmbedding: Bool) {
    let count = parameter.tensor.count
    parameters.total += count
    parameters.nonzero += Self.nonzeroCount(parameter)
    if isEmbedding {
      parameters.tokenEmbedding += count
    } else if name.hasPrefix("image.") {
      parameters.imageTower += count
    } else if name.hasPrefix("text.") {
      parameters.textTower += count
    }
    if let codes = parameter.quantization {
      quantization.quantizedParameters += count
      if isEmbedding { quantization.tokenEmbedding = codes.summary }
    }
  }

  /// The shortest float that has every element.
  private static func floatFormat(_ tensor: Tensor) -> String {
    guard tensor.dtype == .float32 else { return "\(tensor.dtype)" }
    return tensor.withElements(of: Float.self) { all in
      if all.allSatisfy({ $0.bitPattern & 0xFFFF == 0 }) { return "bfloat16" }
      return all.allSatisfy({ Float(Float16($0)) == $0 }) ? "float16" : "float32"
    }
  }

  private static func activations(_ graph: Graph) -> String {
    for node in graph.nodes {
      if let op = node.op as? FakeQuantize {
        return "int\((Int(op.parameters.highest) + 1).trailingZeroBitCount)"
      }
      if let op = node.op as? FakeQuantizeTokens { return "int\(op.bitCount) per token" }
      if node.op is RoundToBFloat16 { return "bfloat16" }
    }
    return "float32"
  }

  /// The tables that ids look up.
  private static func tokenEmbeddings(_ graph: Graph) -> Set<Value> {
    Set(graph.nodes.lazy.filter { $0.op is Embedding }.map { $0.inputs[1] })
  }

  private static func nonzeroCount(_ parameter: Parameter) -> Int {
    let tensor = parameter.tensor
    func count(_ isNonzero: (Int) -> Bool) -> Int {
      guard let mask = parameter.mask else { return (0..<tensor.count).count(where: isNonzero) }
      return mask.withElements(of: UInt8.self) { mask in
        (0..<tensor.count).count { mask[$0] != 0 && isNonzero($0) }
      }
    }
    switch tensor.dtype {
    case .float32: return tensor.withElements(of: Float.self) { all in count { all[$0] != 0 } }
    case .int8: return tensor.withElements(of: Int8.self) { all in count { all[$0] != 0 } }
    default: return tensor.count
    }
  }
}

extension WeightQuantization {
  /// The element type in words, such as `int4 in groups of 64`.
  package var summary: String {
    "int\(bitCount)" + (groupSize.map { " in groups of \($0)" } ?? "")
  }
}
