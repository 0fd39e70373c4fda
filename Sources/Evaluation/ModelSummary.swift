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

    private enum CodingKeys: String, CodingKey {
      case total
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

  /// How the numbers are stored.
  package struct Quantization: Codable, Sendable, Equatable {
    /// `int8` where linear weights are codes, otherwise `float32`.
    package var weights = "float32"
    /// `int8` where linears read codes, otherwise `float32`.
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
  package var facts: [Fact] = []
  package var provenance: [ProvenanceStep] = []

  /// Counts what `graph` holds.
  package init(_ graph: Graph) {
    facts = graph.facts
    provenance = graph.provenance
    let embeddings = Self.tokenEmbeddings(graph)
    for value in graph.parameterValues {
      guard let parameter = graph.parameter(value) else { continue }
      count(parameter, graph.name(of: value), isEmbedding: embeddings.contains(value))
    }
    quantization.activations =
      graph.nodes.contains { $0.op is FakeQuantize } ? "int8" : "float32"
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
      if isEmbedding {
        quantization.tokenEmbedding = "int\(codes.bitCount)"
      } else {
        quantization.weights = "int\(codes.bitCount)"
      }
    }
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
