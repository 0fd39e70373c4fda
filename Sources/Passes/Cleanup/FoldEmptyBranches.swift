import GraphIR
import Operators
import TensorCore

/// Replaces branches that have no heads or neurons left by the constant they still add.
///
/// A residual branch whose last operation contracts over an empty axis emits its bias alone. The
/// bias moves into whatever wrote the residual stream before, whose only later readers also read
/// the sum, and the branch goes away. The result is exact but for rounding.
package struct FoldEmptyBranches: Pass {
  package static let name = "fold-empty-branches"

  /// There is nothing to choose.
  package struct Options: Codable, Sendable {
    /// The only value.
    package init() {}
  }

  package let options: Options

  package init(options: Options = Options()) { self.options = options }

  package func run(
    on graph: consuming Graph, in context: borrowing PassContext
  ) throws(PassError) -> Graph {
    var graph = graph
    do {
      while let branch = EmptyBranch(first: graph) { graph = try branch.folded(in: graph) }
      return try graph.removingUnread()
    } catch {
      throw .graph(pass: Self.name, error)
    }
  }
}

/// An operation with an operand that is added to its result.
private protocol ShiftableOp: Op {
  /// The place of that operand among the inputs; its elements repeat over the leading axes.
  var shiftInput: Int { get }
}

extension Linear: ShiftableOp {
  fileprivate var shiftInput: Int { 2 }
}

extension LayerNorm: ShiftableOp {
  fileprivate var shiftInput: Int { 2 }
}

extension AddPositions: ShiftableOp {
  fileprivate var shiftInput: Int { 1 }
}

/// An operation whose first result moves by a constant row when its first operand does.
private protocol ShiftPreservingOp: Op {}

extension TokenMerge: ShiftPreservingOp {}

extension TokenDrop: ShiftPreservingOp {}

/// A sum one side of which is a constant row, since an empty axis was contracted to make it.
private struct EmptyBranch {
  let sum: Node
  let residual: Value
  let constant: [Float]

  /// The first such sum of `graph`.
  init?(first graph: Graph) {
    for node in graph.nodes where node.op is Add {
      for side in 0..<2 {
        guard let constant = Self.constant(node.inputs[side], in: graph) else { continue }
        sum = node
        residual = node.inputs[1 - side]
        self.constant = constant
        return
      }
    }
    return nil
  }

  /// The row that `value` repeats, where it was made from nothing but empty values and parameters.
  private static func constant(_ value: Value, in graph: Graph) -> [Float]? {
    guard case .node(let index) = graph.origin(of: value) else { return nil }
    let node = graph.nodes[index]
    let isEmpty = { (value: Value) in graph.tensorType(of: value).extents.contains(0) }
    let computed = node.inputs.filter { graph.origin(of: $0) != .parameter }
    guard !isEmpty(value), !computed.isEmpty, computed.allSatisfy(isEmpty) else { return nil }
    let type = graph.tensorType(of: value)
    // With nothing to contract, every row along the leading axes is the same: one is enough.
    let shape = type.extents.dropLast().map { _ in 1 } + [type.extents.last?.fixedCount ?? 0]
    let inputs = node.inputs.map { input -> Tensor in
      if let parameter = graph.parameter(input) { return parameter.materialized }
      let extents = graph.tensorType(of: input).extents
      return Tensor(shape: extents.map { $0 == 0 ? 0 : 1 }, of: Float.self) { _ in }
    }
    let result = Tensor(shape: shape, of: Float.self) { target in
      let operands = InputOperands(
        buffers: inputs.map { tensor in tensor.withBytes { $0 } }, shapes: inputs.map(\.shape))
      var outputs = OutputOperands(
        buffers: [UnsafeMutableRawBufferPointer(target)], shapes: [shape])
      withExtendedLifetime(inputs) {
        node.op.evaluate(operands, &outputs, as: Float.self)
      }
    }
    return result.elements(of: Float.self)
  }

  /// The graph in which the residual's writer adds the constant and the sum is gone.
  func folded(in graph: Graph) throws(GraphError) -> Graph {
    var graph = graph
    if constant.contains(where: { $0 != 0 }) {
      let live = liveReaders(in: graph)
      guard try shift(residual, readBy: sum.outputs[0], live, &graph) else {
        throw .invariant(
          node: sum.name,
          "adds the bias of a branch without units, and nothing before it can take the bias in")
      }
    }
    let source = graph
    let sumName = sum.name
    let residual = residual
    let rewired = try source.rewritten { node, rewriter throws(GraphError) in
      guard node.name == sumName else { return try rewriter.copy(node) }
      rewriter.setImage(of: node.outputs[0], to: try rewriter.image(of: residual))
    }
    return try rewired.removingUnread()
  }

  /// The results of operations that read each value, once the branch is gone.
  private func liveReaders(in graph: Graph) -> [Value: Set<Value>] {
    var needed = Set(graph.outputs.map(\.value))
    var readers: [Value: Set<Value>] = [:]
    for output in graph.outputs { readers[output.value, default: []].insert(output.value) }
    for node in graph.nodes.reversed() where node.outputs.contains(where: needed.contains) {
      let inputs = node.outputs == sum.outputs ? [residual] : node.inputs
      needed.formUnion(inputs)
      for input in inputs { readers[input, default: []].insert(node.outputs[0]) }
    }
    return readers
  }

  /// Adds the constant to `value`, where only `reader` would notice.
  private func shift(
    _ value: Value, readBy reader: Value, _ live: [Value: Set<Value>], _ graph: inout Graph
  ) throws(GraphError) -> Bool {
    guard live[value] == [reader], case .node(let index) = graph.origin(of: value) else {
      return false
    }
    let node = graph.nodes[index]
    if node.op is Add {
      for input in node.inputs.reversed() {
        if try shift(input, readBy: value, live, &graph) { return true }
      }
      return false
    }
    if node.op is any ShiftPreservingOp, value == node.outputs[0] {
      return try shift(node.inputs[0], readBy: value, live, &graph)
    }
    guard let op = node.op as? any ShiftableOp, op.shiftInput < node.inputs.count else {
      return false
    }
    let target = node.inputs[op.shiftInput]
    guard live[target] == [value], let parameter = graph.parameter(target) else { return false }
    var elements = parameter.materialized.elements(of: Float.self)
    for place in elements.indices { elements[place] += constant[place % constant.count] }
    let shifted = Tensor(shape: parameter.tensor.shape, elements)
    try graph.setParameter(target, Parameter(shifted))
    return true
  }
}
