import GraphIR
import Operators
import TensorCore

/// The feed-forward part of a block: a linear, what works on its elements, and a linear.
struct FeedForward {
  /// The block's number in its tower, from 0.
  let layer: Int
  /// What the names of its values begin with, such as `image.layers.3.mlp`.
  let name: String
  /// The node that widens.
  let up: Node
  /// The nodes between the two linears, in order, each with one input that is computed.
  let between: [Node]
  /// The node that narrows; its result joins the residual stream.
  let down: Node

  /// What the first linear reads.
  var input: Value { up.inputs[0] }

  /// All of its nodes, in order.
  var nodes: [Node] { [up] + between + [down] }

  /// Channels that go in.
  func width(in graph: Graph) -> Int {
    graph.tensorType(of: input).extents.last?.fixedCount ?? 0
  }

  /// The elements of its parameters.
  func parameterCount(in graph: Graph) -> Int {
    var seen = Set<Value>()
    return nodes.flatMap(\.inputs).reduce(0) { sum, value in
      guard seen.insert(value).inserted, let parameter = graph.parameter(value) else { return sum }
      return sum + parameter.tensor.count
    }
  }
}

extension Graph {
  /// The feed-forward parts of `tower`'s blocks, in order.
  ///
  /// A block is a sum whose second summand is a linear of elements of a linear; what the attention
  /// adds is none, since attention stands between its linears.
  func feedForwards(of tower: Tower) -> [FeedForward] {
    let needed = values(of: tower)
    let consumers = consumers()
    let results = Set(outputs.map(\.value))
    func made(_ value: Value) -> Node? {
      guard case .node(let index) = origin(of: value) else { return nil }
      return nodes[index]
    }
    /// Whether only one node reads what `node` makes.
    func isInner(_ node: Node) -> Bool {
      node.outputs.count == 1 && consumers[Int(node.outputs[0].index)].count == 1
        && !results.contains(node.outputs[0])
    }
    var found: [FeedForward] = []
    for sum in nodes where sum.op is Add && needed.contains(sum.outputs[0]) {
      for side in [1, 0] {
        guard let down = made(sum.inputs[side]), down.op is Linear, isInner(down) else { continue }
        var between: [Node] = []
        var node = made(down.inputs[0])
        while let inner = node, !(inner.op is Linear), inner.op is any RowwiseOp, isInner(inner),
          inner.inputs.count == 1, between.count < 8
        {
          between.insert(inner, at: 0)
          node = made(inner.inputs[0])
        }
        guard let up = node, up.op is Linear, isInner(up), !between.isEmpty else { continue }
        let name = up.name.split(separator: ".").dropLast().joined(separator: ".")
        found.append(
          FeedForward(layer: found.count, name: name, up: up, between: between, down: down))
        break
      }
    }
    return found
  }
}
