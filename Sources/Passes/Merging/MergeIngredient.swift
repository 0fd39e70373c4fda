import GraphIR
import TensorCore

/// One of several models that become one.
package struct MergeIngredient: Sendable {
  /// What messages call the model.
  package let name: String
  /// The model.
  package let graph: Graph

  /// Calls `graph` by `name`.
  package init(name: String, graph: Graph) {
    self.name = name
    self.graph = graph
  }
}

/// What all ways of merging share.
package enum Merging {
  /// The name in provenance and errors.
  package static let name = "merge"

  /// Throws unless all `models` have one architecture and finite float weights.
  ///
  /// - Parameters:
  ///   - models: the models; each is compared with the first.
  ///   - allowsMasks: whether pruned weights will do, under the same mask in every model.
  /// - Throws: ``PassError`` that names the model and the first tensor or node that differs.
  package static func check(
    _ models: [MergeIngredient], allowsMasks: Bool
  ) throws(PassError) {
    guard let first = models.first, models.count > 1 else {
      throw .option(name: "MODEL", expected: "two models or more", found: "\(models.count)")
    }
    for model in models { try checkNumbers(model, allowsMasks: allowsMasks) }
    for model in models.dropFirst() { try checkSameness(first, model) }
  }

  /// `model` with the places that values have in `graph`, of the same architecture.
  package static func restated(_ model: Graph, as graph: Graph) throws(PassError) -> Graph {
    var result = graph
    for value in graph.parameterValues {
      guard let parameter = model.parameter(named: graph.name(of: value)) else { continue }
      do { try result.setParameter(value, parameter) } catch { throw .graph(pass: name, error) }
    }
    return result
  }

  private static func checkNumbers(
    _ model: MergeIngredient, allowsMasks: Bool
  ) throws(PassError) {
    for value in model.graph.parameterValues {
      let name = model.graph.name(of: value)
      guard let parameter = model.graph.parameter(value) else { continue }
      guard parameter.quantization == nil else {
        throw .parameter(
          name: name,
          "of \(model.name) holds integer codes: merge float models, then quantize the merged one")
      }
      guard allowsMasks || parameter.mask == nil else {
        throw .parameter(
          name: name,
          "of \(model.name) is masked, and units that move would leave their masks behind")
      }
      guard parameter.tensor.dtype == .float32 else { continue }
      let isFinite = parameter.tensor.withElements(of: Float.self) { $0.allSatisfy(\.isFinite) }
      guard isFinite else {
        throw .parameter(
          name: name, "of \(model.name) holds an infinite number or none at all")
      }
    }
  }

  private static func checkSameness(
    _ first: MergeIngredient, _ other: MergeIngredient
  ) throws(PassError) {
    func differ(_ what: String) -> PassError {
      .unsuitable(pass: name, "\(other.name) differs from \(first.name): \(what)")
    }
    for value in first.graph.parameterValues {
      let name = first.graph.name(of: value)
      guard let own = first.graph.parameter(value) else { continue }
      guard let theirs = other.graph.parameter(named: name) else {
        throw differ("expected a parameter \(name) of \(own.type), found none")
      }
      guard theirs.type == own.type else {
        throw differ("parameter \(name): expected \(own.type), found \(theirs.type)")
      }
      guard theirs.mask == own.mask else {
        throw differ("parameter \(name): expected the same mask, found another or none")
      }
      if own.tensor.dtype != .float32, own.tensor != theirs.tensor {
        throw differ("parameter \(name): expected the same integers, found others")
      }
    }
    for value in other.graph.parameterValues
    where first.graph.parameter(named: other.graph.name(of: value)) == nil {
      throw differ("it has a parameter \(other.graph.name(of: value)) beyond")
    }
    try checkNodes(first.graph, other.graph, differ)
  }

  private static func checkNodes(
    _ first: Graph, _ other: Graph, _ differ: (String) -> PassError
  ) throws(PassError) {
    guard first.nodes.count == other.nodes.count else {
      throw differ("expected \(first.nodes.count) operations, found \(other.nodes.count)")
    }
    for (own, theirs) in zip(first.nodes, other.nodes) {
      let sameInputs =
        own.inputs.map { first.name(of: $0) } == theirs.inputs.map { other.name(of: $0) }
      guard own.name == theirs.name, sameInputs, AnyHashable(own.op) == AnyHashable(theirs.op)
      else {
        throw differ("operation \(own.name) is another there")
      }
    }
    let sameOutputs = first.outputs.elementsEqual(other.outputs) {
      $0.name == $1.name && first.name(of: $0.value) == other.name(of: $1.value)
    }
    let sameInputs =
      first.inputs.map { "\(first.name(of: $0)) \(first.tensorType(of: $0))" }
      == other.inputs.map { "\(other.name(of: $0)) \(other.tensorType(of: $0))" }
    guard sameOutputs, sameInputs else { throw differ("it takes or gives other values") }
  }
}
