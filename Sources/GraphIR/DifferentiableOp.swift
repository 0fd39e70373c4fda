import TensorCore

/// What an operation needs to know to pass gradients on: its place in a graph and what arrived.
package struct Pullback: Sendable {
  /// The operands of the node.
  package let inputs: [Value]
  /// The results of the node.
  package let outputs: [Value]
  /// The gradient of each result; nil where the result does not matter.
  package let gradients: [Value?]
  /// Whether the gradient of each operand is asked for.
  package let isWanted: [Bool]

  /// Describes a node and the gradients of its results.
  package init(inputs: [Value], outputs: [Value], gradients: [Value?], isWanted: [Bool]) {
    self.inputs = inputs
    self.outputs = outputs
    self.gradients = gradients
    self.isWanted = isWanted
  }

  /// The gradient of the only result.
  package var gradient: Value {
    guard let gradient = gradients[0] else {
      preconditionFailure("a node is differentiated only where its result matters")
    }
    return gradient
  }
}

/// An operation whose gradient is made of operations.
///
/// The operations that a pullback adds are differentiable again, so gradients of gradients follow.
package protocol DifferentiableOp: Op {
  /// Adds what turns the gradients of the results into those of the operands.
  ///
  /// - Returns: One value for each operand, of the operand's type; nil where the result does not
  ///   depend on it or where it is not wanted.
  func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?]
}

/// An operation that fuses what simpler operations could compute.
///
/// It is differentiated through them.
package protocol DecomposableOp: Op {
  /// Adds the simpler operations and returns their results.
  func decomposition(
    of inputs: [Value], _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value]
}

/// A graph that grows by operations whose names do not matter.
package struct GraphBuilder: Sendable {
  /// The graph.
  package var graph: Graph
  /// What the names of new nodes begin with.
  package var scope: String
  private var count = 0

  /// Grows `graph`.
  package init(_ graph: Graph, scope: String) {
    self.graph = graph
    self.scope = scope
  }

  /// Adds an operation and returns its results.
  package mutating func addNode(
    _ op: any Op, _ inputs: [Value]
  ) throws(GraphError) -> [Value] {
    var name: String
    repeat {
      name = "\(scope.prefix(200)).\(type(of: op).name).\(count)"
      count += 1
    } while graph.value(named: name) != nil
    return try graph.addNode(name, op, inputs)
  }

  /// Adds an operation with one result and returns it.
  package mutating func add(_ op: any Op, _ inputs: Value...) throws(GraphError) -> Value {
    try addNode(op, inputs)[0]
  }
}
