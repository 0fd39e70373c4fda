import GraphIR
import Operators
import TensorCore

/// How a graph's operators are computed.
package enum Arithmetic: Sendable {
  /// In float32, by their fast paths where they have some.
  case fast
  /// As `fast`, but what linear layers multiply is rounded to bfloat16. Sums stay float32.
  case mixed
  /// In float32, by their definitions.
  case definitions
  /// In float64, by their definitions, for checks against rounding-free arithmetic.
  case float64
}

/// Memory of a caller in which a parameter or a result of a graph lives.
package struct BoundMemory {
  /// The elements, as many as the value has.
  package let elements: UnsafeMutableBufferPointer<Float>
  /// What keeps the elements.
  package let owner: AnyObject

  /// Lends `elements`, which live as long as `owner`.
  package init(_ elements: UnsafeMutableBufferPointer<Float>, owner: AnyObject) {
    self.elements = elements
    self.owner = owner
  }
}

/// Runs a graph in one block of memory.
///
/// Values are placed once for each binding of the symbols. The same inputs and thread count give
/// the same bits.
package final class Executor {
  /// Called with a value's elements right after its node has run.
  package typealias Observer = (Value, UnsafeBufferPointer<Float>) -> Void

  /// The graph that runs: what the wanted outputs need.
  package let graph: Graph
  /// How many threads run.
  package let threadCount: Int
  private let wanted: [(name: String, value: Value)]
  private let tensors: [Value: Tensor]
  private let bound: [Value: BoundMemory]
  private let arithmetic: Arithmetic
  private var plan: ExecutionPlan?
  private var arena = Arena(byteCount: 0)

  /// Prepares to compute `outputs` of `graph`; all of its outputs when nil.
  ///
  /// A name of an output or of any value may be asked for.
  ///
  /// - Parameters:
  ///   - graph: a verified graph.
  ///   - names: the outputs.
  ///   - threadCount: how many threads run.
  ///   - arithmetic: how operators are computed.
  ///   - memory: by value name, where float32 parameters are read from at every run and where
  ///     computed values are left. Such results are not among those of ``run(_:observing:_:)``. Not
  ///     for float64.
  /// - Throws: ``ExecutionError`` when a name is unknown or the matrix library is absent.
  package init(
    _ graph: Graph, outputs names: [String]? = nil, threadCount: Int = 1,
    arithmetic: Arithmetic = .fast, memory: [String: BoundMemory] = [:]
  ) throws(ExecutionError) {
    do throws(GraphError) {
      var wanted: [String] = []
      var extended = graph
      for name in names ?? graph.outputs.map(\.name) {
        if graph.output(named: name) == nil {
          guard let value = graph.value(named: name) else { throw GraphError.unknownName(name) }
          try extended.addOutput(name, value)
        }
        wanted.append(name)
      }
      self.graph = try extended.extracting(outputs: wanted)
    } catch {
      throw .graph(error)
    }
    self.threadCount = max(1, threadCount)
    self.arithmetic = arithmetic
    var bound: [Value: BoundMemory] = [:]
    for (name, memory) in memory { if let v = self.graph.value(named: name) { bound[v] = memory } }
    self.bound = bound
    wanted = self.graph.outputs.filter { bound[$0.value] == nil }
    var tensors: [Value: Tensor] = [:]
    for value in self.graph.parameterValues where bound[value] == nil {
      tensors[value] = self.graph.parameter(value)?.materialized.stored(for: arithmetic)
    }
    self.tensors = tensors
    do { try Matrix.open() } catch { throw .library(error) }
  }

  /// Bytes of the block that holds the values of the last run.
  package var arenaByteCount: Int { plan?.memory.byteCount ?? 0 }

  /// Computes the wanted outputs.
  ///
  /// - Parameters:
  ///   - inputs: tensors by input name, of the declared types; symbols take their extents from them.
  ///     Float64 arithmetic takes float64 tensors too.
  ///   - observed: values to report to `observer` as soon as they are made.
  ///   - observer: takes each observed value's elements, which are lent for the call alone.
  /// - Returns: the outputs by name.
  /// - Throws: ``ExecutionError`` when an input is absent or of another type.
  package func run(
    _ inputs: [String: Tensor], observing observed: Set<Value> = [], _ observer: Observer? = nil
  ) throws(ExecutionError) -> [String: Tensor] {
    let symbols = try bind(inputs)
    if plan?.symbols != symbols {
      let made = try ExecutionPlan(
        graph, symbols: symbols, realByteCount: arithmetic == .float64 ? 8 : 4,
        placed: Set(bound.keys))
      try checkMemory(made)
      if made.memory.byteCount > arena.bytes.count {
        arena = Arena(byteCount: made.memory.byteCount)
      }
      plan = made
    }
    guard let plan else { return [:] }
    var provided = tensors
    for value in graph.inputs {
      provided[value] = inputs[graph.name(of: value)]?.stored(for: arithmetic)
    }
    if let observer {
      for value in graph.inputs where observed.contains(value) {
        provided[value]?.withElements(of: Float.self) { observer(value, $0) }
      }
    }
    for node in graph.nodes {
      evaluate(node, plan, provided)
      guard let observer else { continue }
      for output in node.outputs where observed.contains(output) {
        let bytes = UnsafeRawBufferPointer(memory(of: output, plan))
        observer(output, bytes.assumingMemoryBound(to: Float.self))
      }
    }
    var results: [String: Tensor] = [:]
    for output in wanted {
      if let tensor = provided[output.value] {
        results[output.name] = tensor
        continue
      }
      let bytes = UnsafeRawBufferPointer(memory(of: output.value, plan))
      let type = graph.tensorType(of: output.value).dtype
      results[output.name] = Tensor(
        dtype: type == .float32 && arithmetic == .float64 ? .float64 : type,
        shape: plan.shape(output.value)
      ) { $0.copyMemory(from: bytes) }
    }
    return results
  }

  private func bind(_ inputs: [String: Tensor]) throws(ExecutionError) -> [String: Int] {
    var symbols: [String: Int] = [:]
    for value in graph.inputs {
      let name = graph.name(of: value)
      let type = graph.tensorType(of: value)
      guard let tensor = inputs[name] else { throw .missingInput(name) }
      let isWide = arithmetic == .float64 && tensor.dtype == .float64 && type.dtype == .float32
      var fits = (tensor.dtype == type.dtype || isWide) && tensor.shape.count == type.rank
      if fits {
        for (extent, count) in zip(type.extents, tensor.shape) {
          switch extent {
          case .fixed(let fixed): fits = fits && fixed == count
          case .symbol(let symbol):
            fits = fits && symbols.updateValue(count, forKey: symbol) ?? count == count
          }
        }
      }
      guard fits else {
        throw .inputShape(
          name: name, expected: "\(type)", found: "\(TensorType(tensor.dtype, shape: tensor.shape))"
        )
      }
    }
    return symbols
  }

  private func evaluate(_ node: Node, _ plan: ExecutionPlan, _ provided: [Value: Tensor]) {
    var buffers: [UnsafeRawBufferPointer] = []
    for input in node.inputs {
      if let tensor = provided[input] {
        // The dictionary keeps the tensor, and with it the bytes, for the whole run.
        buffers.append(tensor.withBytes { $0 })
      } else {
        buffers.append(UnsafeRawBufferPointer(memory(of: input, plan)))
      }
    }
    let inputs = InputOperands(buffers: buffers, shapes: node.inputs.map { plan.shape($0) })
    var outputs = OutputOperands(
      buffers: node.outputs.map { memory(of: $0, plan) },
      shapes: node.outputs.map { plan.shape($0) }, threadCount: threadCount,
      roundsFactors: arithmetic == .mixed)
    if arithmetic == .float64 {
      node.op.evaluate(inputs, &outputs, as: Double.self)
    } else if arithmetic != .definitions, let fast = node.op as? any AcceleratedOp {
      fast.evaluateFast(inputs, &outputs)
    } else {
      node.op.evaluate(inputs, &outputs, as: Float.self)
    }
  }

  private func memory(of value: Value, _ plan: ExecutionPlan) -> UnsafeMutableRawBufferPointer {
    if let memory = bound[value] { return UnsafeMutableRawBufferPointer(memory.elements) }
    return arena.slice(plan, value)
  }

  private func checkMemory(_ plan: ExecutionPlan) throws(ExecutionError) {
    for (value, memory) in bound where memory.elements.count * 4 != plan.byteCount(value) {
      throw .unbound(
        value: graph.name(of: value),
        type: "that are not the \(memory.elements.count) of its memory")
    }
  }
}

/// The block of memory that a run's values share.
private struct Arena: ~Copyable {
  let bytes: UnsafeMutableRawBufferPointer

  init(byteCount: Int) {
    bytes = .allocate(byteCount: max(byteCount, 64), alignment: 64)
  }

  deinit { bytes.deallocate() }

  func slice(_ plan: ExecutionPlan, _ value: Value) -> UnsafeMutableRawBufferPointer {
    let start = plan.offset(value)
    return UnsafeMutableRawBufferPointer(rebasing: bytes[start..<(start + plan.byteCount(value))])
  }
}

extension Tensor {
  /// The elements as `arithmetic` computes with them.
  fileprivate func stored(for arithmetic: Arithmetic) -> Tensor {
    guard arithmetic == .float64, dtype == .float32 else { return self }
    return Tensor(shape: shape, elements(of: Float.self).map { Double($0) })
  }
}
