import GraphIR
import TensorCore

/// Shapes and places of a graph's values for one binding of its symbols.
struct ExecutionPlan {
  let symbols: [String: Int]
  let memory: MemoryPlan
  private let shapes: [[Int]]
  private let requestIndex: [Int]
  private let byteCounts: [Int]

  /// Plans `graph` with each symbol's number; the values in `placed` have memory of their own.
  init(
    _ graph: Graph, symbols: [String: Int], realByteCount: Int, placed: Set<Value>
  ) throws(ExecutionError) {
    self.symbols = symbols
    var shapes: [[Int]] = []
    var byteCounts: [Int] = []
    for value in graph.values {
      let type = graph.tensorType(of: value)
      guard let shape = type.shape(binding: symbols), let count = elementCount(of: shape),
        count <= 1 << 40
      else {
        throw .unbound(value: graph.name(of: value), type: "\(type)")
      }
      shapes.append(shape)
      byteCounts.append(count * (type.dtype == .float32 ? realByteCount : type.dtype.byteCount))
    }
    var lastSteps = [Int](repeating: 0, count: graph.values.count)
    for (step, node) in graph.nodes.enumerated() {
      for input in node.inputs { lastSteps[Int(input.index)] = step }
      do { try node.op.checkBound(inputs: node.inputs.map { shapes[Int($0.index)] }) } catch {
        throw .graph(error)
      }
    }
    for output in graph.outputs { lastSteps[Int(output.value.index)] = graph.nodes.count }
    var requests: [MemoryPlan.Request] = []
    var requestIndex = [Int](repeating: -1, count: graph.values.count)
    for (step, node) in graph.nodes.enumerated() {
      for output in node.outputs where !placed.contains(output) {
        let index = Int(output.index)
        requestIndex[index] = requests.count
        requests.append(
          MemoryPlan.Request(
            byteCount: byteCounts[index], firstStep: step, lastStep: max(step, lastSteps[index])))
      }
    }
    memory = MemoryPlan(requests)
    self.shapes = shapes
    self.byteCounts = byteCounts
    self.requestIndex = requestIndex
  }

  func shape(_ value: Value) -> [Int] { shapes[Int(value.index)] }
  func byteCount(_ value: Value) -> Int { byteCounts[Int(value.index)] }
  func offset(_ value: Value) -> Int { memory.offsets[requestIndex[Int(value.index)]] }
}
