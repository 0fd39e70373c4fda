import GraphIR
import TensorCore

/// A layer whose feed-forward part is a mixture of experts, as nodes of a graph.
package struct ExpertLayer: Sendable {
  /// What the names of its values begin with, such as `image.layers.1.mlp`.
  package let name: String
  /// How tokens find their experts.
  package let route: RouteTokens
  /// How many experts there are.
  package let expertCount: Int
  /// What the router says of each token and expert.
  package let logits: Value
  /// The experts of each token.
  package let assignment: Value
  /// What the experts of each token count.
  package let gates: Value
  /// The linears of all experts, in order.
  package let linears: [Node]
  /// What the layer's experts say together.
  package let mixture: Value

  /// The name that an expert has for the parameter that `name` is of the part called `part`.
  package static func parameterName(_ name: String, part: String, expert: Int) -> String {
    "\(part).experts.\(expert)" + name.dropFirst(part.count)
  }

  /// Experts that a token goes through; nil where experts choose, and a token may meet all or none.
  package var expertsPerToken: Int? {
    switch route.choice {
    case .tokens(let topK): topK
    case .experts: nil
    }
  }

  /// The parameters of expert `expert`.
  package func parameters(ofExpert expert: Int) -> [Value] {
    linears.flatMap { node in
      stride(from: 2 + expert, to: node.inputs.count, by: expertCount).map { node.inputs[$0] }
    }
  }
}

extension Graph {
  /// The weights of all routers.
  package var routerWeights: [Value] {
    expertLayers.compactMap { layer in
      guard case .node(let index) = origin(of: layer.logits) else { return nil }
      return nodes[index].inputs.dropFirst().first
    }
  }

  /// The elements of experts' parameters that a token does not meet, among those that `isCounted`
  /// holds for.
  package func idleParameterCount(where isCounted: (Value) -> Bool = { _ in true }) -> Int {
    expertLayers.reduce(0) { sum, layer in
      guard let taken = layer.expertsPerToken else { return sum }
      let elements = layer.linears.flatMap { $0.inputs.dropFirst(2) }.reduce(0) {
        isCounted($1) ? $0 + (parameter($1)?.tensor.count ?? 0) : $0
      }
      return sum + elements * (layer.expertCount - taken) / layer.expertCount
    }
  }

  /// The layers that are mixtures of experts, in order.
  package var expertLayers: [ExpertLayer] {
    let consumers = consumers()
    func readers(_ value: Value) -> [Node] { consumers[Int(value.index)].map { nodes[$0] } }
    return nodes.compactMap { node in
      guard let route = node.op as? RouteTokens else { return nil }
      let assignment = node.outputs[0]
      let reading = readers(assignment)
      let linears = reading.filter { $0.op is GroupedLinear && $0.inputs[1] == assignment }
      guard let gates = reading.first(where: { $0.op is ExpertGates })?.outputs[0],
        let mixture = readers(gates).first(where: { $0.op is CombineExperts }),
        let first = linears.first?.op as? GroupedLinear
      else { return nil }
      return ExpertLayer(
        name: mixture.name.split(separator: ".").dropLast().joined(separator: "."), route: route,
        expertCount: first.experts, logits: node.inputs[0], assignment: assignment, gates: gates,
        linears: linears, mixture: mixture.outputs[0])
    }
  }
}
