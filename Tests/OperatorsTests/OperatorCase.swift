import GraphIR
import Operators
import TensorCore
import TestSupport
import Testing

/// One operation with inputs, for comparing its fast path with its definition.
struct OperatorCase: Sendable, CustomTestStringConvertible {
  let op: any Op
  let inputs: [Tensor]

  var testDescription: String {
    "\(type(of: op).name) \(op.attributes.map(\.value)) \(inputs.map(\.shape))"
  }

  /// Random inputs of these shapes.
  static func random(_ op: any Op, _ shapes: [[Int]], seed: UInt64 = 1) -> OperatorCase {
    var random = SplitMix64(seed: seed)
    return OperatorCase(op: op, inputs: shapes.map { random.normalTensor($0, scale: 2) })
  }

  /// The same operation with `last` behind its inputs.
  func appending(_ last: Tensor) -> OperatorCase { OperatorCase(op: op, inputs: inputs + [last]) }
}

/// The first result of `testCase` in the precision of `type`.
func evaluate<Element: FloatingElement>(
  _ testCase: OperatorCase, as type: Element.Type, fast: Bool = false, threadCount: Int = 1
) throws -> [Element] {
  try #require(
    try evaluateAll(testCase, as: type, fast: fast, threadCount: threadCount).first)
}

/// Every result of `testCase` in the precision of `type`, which integer results are converted to.
func evaluateAll<Element: FloatingElement>(
  _ testCase: OperatorCase, as type: Element.Type, fast: Bool = false, threadCount: Int = 1,
  roundsFactors: Bool = false
) throws -> [[Element]] {
  let types = testCase.inputs.map { TensorType($0.dtype, shape: $0.shape) }
  let results = try testCase.op.outputTypes(for: types)
  let shapes = try results.map { try #require($0.shape(binding: [:])) }
  let converted = testCase.inputs.map { tensor in
    tensor.dtype == .float32
      ? Tensor(shape: tensor.shape, tensor.elements(of: Float.self).map { Element($0) }) : tensor
  }
  let inputs = InputOperands(
    buffers: converted.map { $0.withBytes { $0 } }, shapes: converted.map(\.shape))
  // What an operator leaves unwritten is not a number, and differs from everything.
  let buffers = shapes.map { shape in
    let buffer = UnsafeMutableBufferPointer<Element>.allocate(capacity: shape.reduce(1, *))
    buffer.initialize(repeating: .nan)
    return buffer
  }
  defer { buffers.forEach { $0.deallocate() } }
  var outputs = OutputOperands(
    buffers: buffers.map { UnsafeMutableRawBufferPointer($0) }, shapes: shapes,
    threadCount: threadCount, roundsFactors: roundsFactors)
  if fast, let op = testCase.op as? any AcceleratedOp {
    op.evaluateFast(inputs, &outputs)
  } else {
    testCase.op.evaluate(inputs, &outputs, as: type)
  }
  withExtendedLifetime(converted) {}
  return zip(buffers, results).map { buffer, result in
    guard result.dtype == .int32 else { return Array(buffer) }
    let bytes = UnsafeRawBufferPointer(buffer)
    return bytes.assumingMemoryBound(to: Int32.self).prefix(buffer.count).map { Element($0) }
  }
}
