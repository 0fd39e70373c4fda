import GraphIR
import Operators
import TensorCore
import TestSupport
import Testing

/// One operation with inputs, for comparing its fast path with its definition.
struct OperatorCase: Sendable, CustomTestStringConvertible {
  let op: any Op
  let inputs: [Tensor]

  var testDescription: String { "\(type(of: op).name) \(inputs.map(\.shape))" }

  static func random(_ op: any Op, _ shapes: [[Int]], seed: UInt64 = 1) -> OperatorCase {
    var random = SplitMix64(seed: seed)
    return OperatorCase(op: op, inputs: shapes.map { random.normalTensor($0, scale: 2) })
  }

  static let all: [OperatorCase] = {
    var cases: [OperatorCase] = []
    for (rows, width, out) in [(1, 1, 1), (3, 17, 5), (2, 0, 7), (31, 64, 33), (0, 4, 3)] {
      cases.append(random(Linear(), [[rows, width], [out, width], [out]]))
      cases.append(random(Linear(), [[1, rows, width], [out, width]]))
    }
    for count in [0, 1, 15, 16, 17, 301] {
      cases.append(random(QuickGELU(), [[count]]))
      cases.append(random(GELU(), [[count]]))
      cases.append(random(Add(), [[count], [count]]))
      for (zeroPoint, lowest) in [(128, 1), (0, 0), (13, 0)] as [(UInt8, UInt8)] {
        let codes = ActivationQuantization(scale: 0.037, zeroPoint: zeroPoint, lowest: lowest)
        cases.append(random(FakeQuantize(parameters: codes), [[count]]))
      }
    }
    for width in [1, 16, 17, 65] {
      cases.append(random(LayerNorm(epsilon: 1e-5), [[7, width], [width], [width]]))
    }
    for (tokens, heads, headWidth) in [(1, 1, 1), (5, 3, 4), (17, 2, 16), (33, 1, 7), (4, 0, 8)] {
      for isCausal in [false, true] {
        let op = Attention(headWidth: headWidth, scale: 0.5, isCausal: isCausal)
        let shape = [2, tokens, heads * headWidth]
        cases.append(random(op, [shape, shape, shape]))
      }
    }
    return cases
  }()
}

/// What `op` gives for `inputs` in the precision of `type`.
func evaluate<Element: FloatingElement>(
  _ testCase: OperatorCase, as type: Element.Type, fast: Bool = false, threadCount: Int = 1
) throws -> [Element] {
  let types = testCase.inputs.map { TensorType($0.dtype, shape: $0.shape) }
  let shape = try #require(try testCase.op.outputTypes(for: types)[0].shape(binding: [:]))
  let converted = testCase.inputs.map { tensor in
    tensor.dtype == .float32
      ? Tensor(shape: tensor.shape, tensor.elements(of: Float.self).map { Element($0) }) : tensor
  }
  let inputs = InputOperands(
    buffers: converted.map { $0.withBytes { $0 } }, shapes: converted.map(\.shape))
  var result = [Element](repeating: .nan, count: shape.reduce(1, *))
  result.withUnsafeMutableBytes { bytes in
    var outputs = OutputOperands(buffers: [bytes], shapes: [shape], threadCount: threadCount)
    if fast, let op = testCase.op as? any AcceleratedOp {
      op.evaluateFast(inputs, &outputs)
    } else {
      testCase.op.evaluate(inputs, &outputs, as: type)
    }
  }
  withExtendedLifetime(converted) {}
  return result
}

@Suite struct FastPathTests {
  init() throws { try Matrix.open() }

  @Test(arguments: OperatorCase.all)
  func agreesWithDefinitionInDouble(_ testCase: OperatorCase) throws {
    let exact = try evaluate(testCase, as: Double.self)
    let fast = try evaluate(testCase, as: Float.self, fast: true, threadCount: 2)
    let slow = try evaluate(testCase, as: Float.self)
    let largest = exact.reduce(1) { max($0, abs($1)) }
    for (index, value) in exact.enumerated() {
      #expect(abs(Double(fast[index]) - value) <= 4e-6 * largest, "fast, element \(index)")
      #expect(abs(Double(slow[index]) - value) <= 4e-6 * largest, "definition, element \(index)")
    }
  }

  @Test func fakeQuantizationIsTheSameBitsBothWays() throws {
    for zeroPoint in [0, 5, 128] as [UInt8] {
      let codes = ActivationQuantization(scale: 0.031, zeroPoint: zeroPoint, lowest: 1)
      let testCase = OperatorCase.random(FakeQuantize(parameters: codes), [[4099]], seed: 3)
      #expect(
        try evaluate(testCase, as: Float.self) == evaluate(testCase, as: Float.self, fast: true))
    }
  }
}
