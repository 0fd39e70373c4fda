import GraphIR
import Operators
import TensorCore

/// Which rows of each value the result depends on.
///
/// Behind the last attention only the pooled row of an item matters, so that what follows it, and
/// the attention's own queries, can be computed for that row alone.
struct RowNeeds {
  /// The values of which only each item's pooled row is needed.
  private(set) var pooled: Set<Value> = []
  /// Every reader of each value, by the value's index.
  private let consumers: [[Int]]

  /// Walks `graph` from its results to its inputs.
  init(_ graph: Graph) {
    consumers = graph.consumers()
    var full = Set<Value>()
    for output in graph.outputs { full.insert(output.value) }
    for node in graph.nodes.reversed() {
      let needsAllRows = node.outputs.contains { full.contains($0) }
      switch node.op {
      case is SelectToken, is SelectEndToken: continue
      case is Attention, is ProportionalAttention:
        full.formUnion(node.inputs[1...])
        if needsAllRows { full.insert(node.inputs[0]) }
      case is TokenMerge, is TokenDrop:
        full.formUnion(node.inputs)
        full.formUnion(node.outputs)
      case is Linear, is LayerNorm, is Add, is QuickGELU, is GELU, is FakeQuantize,
        is FakeQuantizeTokens, is RoundToBFloat16, is ExpertGates, is GroupedLinear,
        is CombineExperts:
        if needsAllRows { full.formUnion(node.inputs) }
      case let op as RouteTokens:
        // With a capacity tokens compete, so that the choice for one depends on others.
        if needsAllRows || op.capacity > 0 { full.formUnion(node.inputs) }
      default:
        full.formUnion(node.inputs)
        full.formUnion(node.outputs)
      }
    }
    // What is made after pooling has one row anyway; it counts as full, in its own extents.
    for value in graph.values
    where !full.contains(value) && (3...4).contains(graph.tensorType(of: value).rank) {
      pooled.insert(value)
    }
  }

  /// The nodes that read `value`.
  func readers(of value: Value, in graph: Graph) -> [Node] {
    consumers[Int(value.index)].map { graph.nodes[$0] }
  }

  /// The only node that reads `value`, where there is just one.
  func soleConsumer(of value: Value, in graph: Graph) -> Node? {
    let readers = consumers[Int(value.index)]
    guard readers.count == 1, !graph.outputs.contains(where: { $0.value == value }) else {
      return nil
    }
    let node = graph.nodes[readers[0]]
    return node.inputs.count { $0 == value } == 1 ? node : nil
  }
}
