import GraphIR
import Operators
import TensorCore

extension Graph {
  /// The dense model whose feed-forward parts are expert `expert` of each mixture.
  ///
  /// Parameters keep the names that they have as the expert's; routers go.
  package func withSingleExpert(_ expert: Int) throws(GraphError) -> Graph {
    let layers = expertLayers
    let mixtures = Dictionary(
      uniqueKeysWithValues: layers.map { ($0.mixture, $0) })
    let counts = Dictionary(
      uniqueKeysWithValues: layers.flatMap { layer in
        layer.linears.map { ($0.outputs[0], layer.expertCount) }
      })
    // What only routing asks for goes: copying it would ask for what the dense model lacks.
    let routing = Set(layers.flatMap { [$0.assignment, $0.gates] })
    let dense = try rewritten { node, rewriter throws(GraphError) in
      let output = node.outputs[0]
      guard !routing.contains(output) else { return }
      if mixtures[output] != nil {
        rewriter.setImage(of: output, to: try rewriter.image(of: node.inputs[0]))
      } else if let count = counts[output] {
        var operands = [try rewriter.image(of: node.inputs[0])]
        for place in stride(from: 2 + expert, to: node.inputs.count, by: count) {
          operands.append(try rewriter.image(of: node.inputs[place]))
        }
        rewriter.setImage(
          of: output, to: try rewriter.result.addNode(node.name, Linear(), operands)[0])
      } else {
        // Elements that an expert works on have no axis of slots here.
        try rewriter.copy(node)
      }
    }
    return try dense.removingUnread(since: self)
  }

  /// The elements of the parameters of `towers` that a token meets, tables that are looked up by
  /// row aside: of the experts of a mixture, as many as a token goes through.
  package func activeParameterCount(of towers: [Tower]) -> Int {
    let counted = Set(parameters(of: towers))
    return parameterCount(of: towers) - idleParameterCount { counted.contains($0) }
  }
}
