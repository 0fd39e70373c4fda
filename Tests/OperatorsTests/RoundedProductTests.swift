import GraphIR
import Operators
import TensorCore
import TestSupport
import Testing

/// Products of linear layers whose factors are rounded to bfloat16.
@Suite struct RoundedProductTests {
  init() throws { try Matrix.open() }

  /// Slots of `tokens` tokens with two of three experts each, some of them with none.
  private static func assignment(_ tokens: Int) -> Tensor {
    var codes: [Int32] = []
    for token in 0..<tokens {
      codes.append(Int32(token % 3))
      codes.append(token % 5 == 0 ? SlotCode.none : Int32((token + 1) % 3))
    }
    return Tensor(shape: [tokens, 2], codes)
  }

  /// Sides across the bounds of panels, pairs, and of what a thread works on at a time.
  static let cases: [OperatorCase] = {
    var cases: [OperatorCase] = []
    func random(_ op: any Op, _ shapes: [[Int]]) {
      cases.append(.random(op, shapes, seed: UInt64(cases.count + 1)))
    }
    for (rows, width, out) in [(1, 1, 1), (5, 7, 17), (40, 33, 16), (3, 64, 90), (700, 95, 34)] {
      random(Linear(), [[rows, width], [out, width]])
      random(Linear(), [[rows, width], [out, width], [out]])
      random(LinearTransposed(), [[rows, out], [out, width]])
      random(ContractLeading(), [[rows, out], [rows, width]])
    }
    random(ContractLeading(), [[1100, 150], [1100, 40]])
    random(ContractLeading(), [[515, 21], [515, 401]])
    random(ContractLeading(), [[0, 3], [0, 5]])
    random(Linear(), [[4, 0], [3, 0], [3]])
    let tokens = 400
    let (weight, slots) = ([21, 19], assignment(tokens))
    for shared in [true, false] {
      let rows = shared ? [tokens] : [tokens, 2]
      var random = SplitMix64(seed: shared ? 91 : 92)
      func normals(_ shape: [Int]) -> Tensor { random.normalTensor(shape, scale: 2) }
      let weights = (0..<3).map { _ in normals(weight) }
      let biases = (0..<3).map { _ in normals([21]) }
      let (x, g) = (normals(rows + [19]), normals([tokens, 2, 21]))
      cases.append(
        OperatorCase(
          op: GroupedLinear(experts: 3, hasBias: true), inputs: [x, slots] + weights + biases))
      cases.append(
        OperatorCase(
          op: GroupedLinearTransposed(experts: 3, first: 0, isSum: shared),
          inputs: [g, slots] + weights))
      cases.append(OperatorCase(op: GroupedContract(expert: 1), inputs: [g, x, slots]))
    }
    return cases
  }()

  private static func rounded(_ tensor: Tensor) -> Tensor {
    guard tensor.dtype == .float32 else { return tensor }
    let values = tensor.elements(of: Float.self).map { value in
      let bits = value.bitPattern
      return Float(bitPattern: (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000)
    }
    return Tensor(shape: tensor.shape, values)
  }

  /// What is rounded are both factors, nothing else: the definition in double precision gives the
  /// same of rounded ones.
  @Test(arguments: cases)
  func agreesWithTheDefinitionOfRoundedFactors(_ testCase: OperatorCase) throws {
    // Biases are no factors: they are the same on both sides.
    let shared = testCase.inputs.map { $0.shape.count == 1 ? Self.rounded($0) : $0 }
    let given = OperatorCase(op: testCase.op, inputs: shared)
    let reference = OperatorCase(op: testCase.op, inputs: shared.map(Self.rounded))
    let exact = try evaluateAll(reference, as: Double.self)[0]
    let unrounded = try evaluateAll(given, as: Double.self)[0]
    let one = try evaluateAll(given, as: Float.self, fast: true, roundsFactors: true)[0]
    let largest = exact.reduce(1) { max($0, abs($1)) }
    for (index, value) in exact.enumerated() {
      #expect(abs(Double(one[index]) - value) <= 4e-6 * largest, "element \(index)")
    }
    if exact.count > 100 { #expect(zip(exact, unrounded).contains { abs($0 - $1) > 1e-3 }) }
    for threadCount in [2, 3] {
      let some = try evaluateAll(
        given, as: Float.self, fast: true, threadCount: threadCount, roundsFactors: true)[0]
      #expect(some.map(\.bitPattern) == one.map(\.bitPattern), "\(threadCount) threads")
    }
  }
}
