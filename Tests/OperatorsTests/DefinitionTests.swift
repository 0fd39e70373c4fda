import GraphIR
import Operators
import TensorCore
import Testing

/// Values worked out by hand for the operators that move rather than compute.
@Suite struct DefinitionTests {
  @Test func patchesAreRowsOfChannelsThenRows() throws {
    // Two channels of a 2 x 4 image, patches of 2 x 2.
    let pixels = Tensor(shape: [1, 2, 2, 4], (0..<16).map { Float($0) })
    let rows = try evaluate(
      OperatorCase(op: UnfoldPatches(patchSize: 2), inputs: [pixels]), as: Float.self)
    #expect(rows == [0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15])
  }

  @Test func tokenStandsInFront() throws {
    let x = Tensor(shape: [2, 1, 2], [1, 2, 3, 4] as [Float])
    let token = Tensor(shape: [2], [8, 9] as [Float])
    let y = try evaluate(OperatorCase(op: PrependToken(), inputs: [x, token]), as: Float.self)
    #expect(y == [8, 9, 1, 2, 8, 9, 3, 4])
  }

  @Test func positionsRepeatForEveryItem() throws {
    let x = Tensor(shape: [2, 1, 2], [1, 2, 3, 4] as [Float])
    let table = Tensor(shape: [3, 2], [10, 20, 30, 40, 50, 60] as [Float])
    let y = try evaluate(OperatorCase(op: AddPositions(), inputs: [x, table]), as: Float.self)
    #expect(y == [11, 22, 13, 24])
  }

  @Test func idsLookUpRows() throws {
    let ids = Tensor(shape: [1, 3], [2, 0, 2] as [Int32])
    let table = Tensor(shape: [3, 2], [0, 1, 2, 3, 4, 5] as [Float])
    let y = try evaluate(OperatorCase(op: Embedding(), inputs: [ids, table]), as: Float.self)
    #expect(y == [4, 5, 0, 1, 4, 5])
  }

  @Test func endTokenIsFoundByRule() throws {
    let x = Tensor(shape: [2, 3, 1], [0, 1, 2, 3, 4, 5] as [Float])
    let ids = Tensor(shape: [2, 3], [7, 9, 9, 9, 7, 1] as [Int32])
    func select(_ rule: EndTokenRule) throws -> [Float] {
      try evaluate(OperatorCase(op: SelectEndToken(rule: rule), inputs: [x, ids]), as: Float.self)
    }
    #expect(try select(.largest) == [1, 3])
    #expect(try select(.first(7)) == [0, 4])
    #expect(try select(.first(5)) == [0, 3], "an absent id counts as position 0")
  }

  @Test func zeroRowStaysZeroWhenNormalized() throws {
    let x = Tensor(shape: [2, 2], [0, 0, 3, 4] as [Float])
    let y = try evaluate(OperatorCase(op: L2Normalize(), inputs: [x]), as: Double.self)
    #expect(y[0] == 0 && y[1] == 0 && abs(y[2] - 0.6) < 1e-15 && abs(y[3] - 0.8) < 1e-15)
  }

  @Test func activationsHaveTheirPublishedValues() throws {
    let x = Tensor(shape: [3], [-1, 0, 2] as [Float])
    let quick = try evaluate(OperatorCase(op: QuickGELU(), inputs: [x]), as: Double.self)
    let exact = try evaluate(OperatorCase(op: GELU(), inputs: [x]), as: Double.self)
    #expect(abs(quick[0] + 0.1542042) < 1e-6 && quick[1] == 0 && abs(quick[2] - 1.9356586) < 1e-6)
    #expect(abs(exact[0] + 0.1586553) < 1e-6 && exact[1] == 0 && abs(exact[2] - 1.9544997) < 1e-6)
  }

  @Test func rowsTooSmallForAScaleBecomeZero() throws {
    let tiny = Float.leastNonzeroMagnitude
    let x = Tensor(shape: [4, 3], [tiny, 0, -63 * tiny, 0, 0, 0, 130 * tiny, tiny, 0, 1, 0.5, -2])
    let y = try evaluate(
      OperatorCase(op: FakeQuantizeTokens(bitCount: 8), inputs: [x]), as: Float.self)
    #expect(y.prefix(6).allSatisfy { $0 == 0 })
    // The scale is the least number there is, and codes go to 127.
    #expect(y[6] == 127 * tiny && y[7] == tiny && y[8] == 0)
    #expect(abs(y[9] - 1) < 0.008 && abs(y[10] - 0.5) < 0.008 && y[11] == -2)
  }

  @Test func bfloat16IsTheNearestWithTiesToEven() throws {
    // A bfloat16 has 8 bits, so that around 1 its numbers are 1/128 apart, below 1 half as far.
    let step: Float = 1 / 128
    let pairs: [(Float, Float)] = [
      (1, 1), (1 + step / 2, 1), (1 + 1.5 * step, 1 + 2 * step),
      ((1 + step / 2).nextUp, 1 + step), (-1 - step / 2, -1), (1 - step / 8, 1), (0, 0),
      (-0.0, -0.0), (0x1.FFp127, .infinity), (0x1.FEFp127, 0x1.FEp127), (.infinity, .infinity),
    ]
    let x = Tensor(shape: [pairs.count + 1], pairs.map(\.0) + [.nan])
    let y = try evaluate(OperatorCase(op: RoundToBFloat16(), inputs: [x]), as: Float.self)
    for (found, (_, wanted)) in zip(y, pairs) { #expect(found.bitPattern == wanted.bitPattern) }
    #expect(y[pairs.count].isNaN)
  }

  @Test func wrongInputsAreNamed() {
    let x = TensorType(.float32, shape: [2, 3])
    #expect(throws: GraphError.self) { try Linear().outputTypes(for: [x]) }
    #expect(throws: GraphError.self) {
      try Linear().outputTypes(for: [x, TensorType(.float32, shape: [5, 4])])
    }
    #expect(throws: GraphError.self) {
      try Attention(headWidth: 2, scale: 1, isCausal: false).outputTypes(
        for: [TensorType](repeating: TensorType(.float32, shape: [1, 2, 3]), count: 3))
    }
    #expect(throws: GraphError.self) {
      try AddPositions().checkBound(inputs: [[1, 9, 2], [8, 2]])
    }
  }
}
