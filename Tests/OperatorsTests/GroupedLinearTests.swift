import GraphIR
import Operators
import TensorCore
import TestSupport
import Testing

/// The product of each token with its experts' matrices.
@Suite struct GroupedLinearTests {
  init() throws { try Matrix.open() }

  /// Experts that no token takes are not read, and tokens that no expert takes are zero.
  @Test func onlyTakenExpertsAreRead() throws {
    var random = SplitMix64(seed: 1)
    let x = random.normalTensor([3, 4])
    let used = random.normalTensor([5, 4])
    let unused = Tensor(shape: [5, 4], [Float](repeating: .nan, count: 20))
    let codes: [Int32] = [
      1, SlotCode.full(0), SlotCode.none, 1, SlotCode.full(1), SlotCode.full(2),
    ]
    let assignment = Tensor(shape: [3, 2], codes)
    let testCase = OperatorCase(
      op: GroupedLinear(experts: 3), inputs: [x, assignment, unused, used, unused])
    let dense = try evaluate(OperatorCase(op: Linear(), inputs: [x, used]), as: Float.self)
    for fast in [false, true] {
      let y = try evaluate(testCase, as: Float.self, fast: fast)
      for slot in 0..<6 {
        for k in 0..<5 {
          let expected = codes[slot] == 1 ? dense[slot / 2 * 5 + k] : 0
          #expect(abs(y[slot * 5 + k] - expected) <= 1e-5, "slot \(slot)")
        }
      }
    }
  }

  @Test func oneExpertIsALinear() throws {
    var random = SplitMix64(seed: 2)
    let operands = [
      random.normalTensor([2, 7, 9]), random.normalTensor([6, 9]), random.normalTensor([6]),
    ]
    let assignment = Tensor(shape: [2, 7, 1], [Int32](repeating: 0, count: 14))
    let grouped = try evaluate(
      OperatorCase(
        op: GroupedLinear(experts: 1, hasBias: true),
        inputs: [operands[0], assignment] + operands[1...]), as: Double.self)
    #expect(try evaluate(OperatorCase(op: Linear(), inputs: operands), as: Double.self) == grouped)
  }

  @Test func slotsAreCountedAsFilled() throws {
    let shapes = [[2, 10, 8], [2, 10, 2], [6, 8], [6, 8], [6, 8]]
    let count = GroupedLinear(experts: 3).multiplyAccumulateCount(
      inputs: shapes, outputs: [[2, 10, 2, 6]])
    #expect(count == 2 * 10 * 2 * 6 * 8)
    // Each of three experts took four tokens of each of two samples.
    let chosen = GroupedLinear(experts: 3, capacity: 4).multiplyAccumulateCount(
      inputs: [[2, 10, 8], [2, 10, 3], [6, 8], [6, 8], [6, 8]], outputs: [[2, 10, 3, 6]])
    #expect(chosen == 2 * 3 * 4 * 6 * 8)
  }

  @Test func axesOfAllExpertsGoTogether() {
    let matrix = TensorType(.float32, shape: [6, 8])
    let bias = TensorType(.float32, shape: [6])
    let links = GroupedLinear(experts: 2, hasBias: true).axisLinks(
      inputs: [
        TensorType(.float32, shape: [2, 5, 8]), TensorType(.int32, shape: [2, 5, 3]), matrix,
        matrix, bias, bias,
      ], outputs: [TensorType(.float32, shape: [2, 5, 3, 6])])
    let members = links.map { Set($0.members) }
    #expect(members.contains([.input(0, 2), .input(2, 1), .input(3, 1)]))
    #expect(
      members.contains([
        .output(0, 3), .input(2, 0), .input(3, 0), .input(4, 0), .input(5, 0),
      ]))
    let slots = links.flatMap(\.members).filter { $0 == .input(1, 2) || $0 == .output(0, 2) }
    #expect(slots.isEmpty, "slots cannot go")
  }

  @Test func attributesCanBeReadBack() throws {
    let ops: [any Op] = [
      RouteTokens(topK: 2), RouteTokens(topK: 1, capacity: 7), RouteTokens(expertChoiceOf: 3),
      ExpertGates(isNormalized: true), CombineExperts(),
      GroupedLinear(experts: 4), GroupedLinear(experts: 1, first: 3, hasBias: true, capacity: 9),
    ]
    for op in ops {
      let values = Dictionary(uniqueKeysWithValues: op.attributes.map { ($0.name, $0.value) })
      let read = try OperatorRegistry.standard.make(type(of: op).name, values)
      #expect(AnyHashable(read) == AnyHashable(op))
    }
  }

  @Test func wrongOperandsAreNamed() {
    let x = TensorType(.float32, shape: [2, 5, 8])
    let assignment = TensorType(.int32, shape: [2, 5, 3])
    let matrix = TensorType(.float32, shape: [6, 8])
    func refusal(_ op: any Op, _ inputs: [TensorType]) -> String {
      do throws(GraphError) {
        _ = try op.outputTypes(for: inputs)
        return ""
      } catch {
        return "\(error)"
      }
    }
    let two = GroupedLinear(experts: 2)
    #expect(refusal(two, [x, assignment, matrix, matrix]) == "")
    #expect(
      refusal(two, [x, assignment, matrix])
        == "operator grouped_linear takes 4 inputs, found 3")
    #expect(
      refusal(two, [x, x, matrix, matrix])
        == "input 1 of operator grouped_linear must be i32[..., slots] of rank 1 to 3, found "
        + "f32[2, 5, 8]")
    #expect(
      refusal(two, [TensorType(.float32, shape: [2, 4, 8]), assignment, matrix, matrix])
        == "input 0 of operator grouped_linear must be f32[2, 5, n], found f32[2, 4, 8]")
    #expect(
      refusal(two, [x, assignment, matrix, TensorType(.float32, shape: [5, 8])])
        == "input 3 of operator grouped_linear must be f32[6, 8], found f32[5, 8]")
    let other = TensorType(.float32, shape: [6, 7])
    #expect(
      refusal(two, [x, assignment, other, other])
        == "input 2 of operator grouped_linear must be f32[out, 8], found f32[6, 7]")
    #expect(
      refusal(RouteTokens(topK: 9), [x])
        == "attribute top_k of operator route_tokens must be in 1...8")
    #expect(refusal(RouteTokens(topK: 2, capacity: 3), [matrix]).contains("rank 3 to 3"))
    #expect(refusal(RouteTokens(expertChoiceOf: 0), [x]).contains("capacity"))
    #expect(
      refusal(ExpertGates(isNormalized: true), [matrix, assignment]).contains("f32[2, 5, n]"))
    #expect(refusal(CombineExperts(), [x, matrix]).contains("f32[2, 5]"))
    #expect(throws: GraphError.self) {
      try OperatorRegistry.standard.make(
        "route_tokens", ["choice": .word("experts"), "capacity": .integer(0)])
    }
    #expect(throws: GraphError.self) {
      try OperatorRegistry.standard.make(
        "grouped_linear", ["experts": .integer(0), "bias": .flag(false)])
    }
  }
}
