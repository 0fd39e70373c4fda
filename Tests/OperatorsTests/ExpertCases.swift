import GraphIR
import Operators
import TensorCore
import TestSupport

/// Extents of a layer of experts.
private struct ExpertShape {
  var leading: [Int]
  var slots: Int
  var experts: Int
  var width: Int
  var out: Int

  /// Odd ones, empty ones, and more slots of one expert than are computed at once.
  static let all = [
    ExpertShape(leading: [], slots: 1, experts: 1, width: 4, out: 3),
    ExpertShape(leading: [3], slots: 2, experts: 3, width: 5, out: 17),
    ExpertShape(leading: [2, 5], slots: 3, experts: 4, width: 17, out: 6),
    ExpertShape(leading: [0], slots: 2, experts: 2, width: 3, out: 3),
    ExpertShape(leading: [2], slots: 2, experts: 2, width: 0, out: 3),
    ExpertShape(leading: [2, 2], slots: 2, experts: 3, width: 3, out: 0),
    ExpertShape(leading: [2, 401], slots: 1, experts: 2, width: 9, out: 5),
  ]
}

extension OperatorCase {
  /// What experts consist of.
  static let experts: [OperatorCase] = {
    var cases: [OperatorCase] = []
    for (index, shape) in ExpertShape.all.enumerated() {
      cases += products(shape, seed: UInt64(index))
      cases += gates(shape, seed: UInt64(index))
    }
    var random = SplitMix64(seed: 8)
    let ids = random.idTensor([3, 5], below: 11)
    for rule in [.largest, .first(3)] as [EndTokenRule] {
      cases.append(OperatorCase(op: TextMask(rule: rule), inputs: [ids]))
    }
    return cases
  }()

  private static func products(_ shape: ExpertShape, seed: UInt64) -> [OperatorCase] {
    var random = SplitMix64(seed: seed)
    let (experts, width, out) = (shape.experts, shape.width, shape.out)
    let assignment = random.slotTensor(shape.leading + [shape.slots], experts: experts)
    let weights = (0..<experts).map { _ in random.normalTensor([out, width]) }
    let biases = (0..<experts).map { _ in random.normalTensor([out]) }
    let slots = shape.leading + [shape.slots]
    let x = [shape.leading, slots].map { random.normalTensor($0 + [width]) }
    let g = [shape.leading, slots].map { random.normalTensor($0 + [out]) }
    var cases: [OperatorCase] = []
    for x in x {
      cases.append(
        OperatorCase(
          op: GroupedLinear(experts: experts, hasBias: true),
          inputs: [x, assignment] + weights + biases))
      // Only the last expert is at hand.
      cases.append(
        OperatorCase(
          op: GroupedLinear(experts: 1, first: experts - 1), inputs: [x, assignment, weights[0]]))
      for g in g {
        cases.append(
          OperatorCase(op: GroupedContract(expert: experts - 1), inputs: [g, x, assignment]))
      }
    }
    for g in g {
      for isSum in [false, true] {
        cases.append(
          OperatorCase(
            op: GroupedLinearTransposed(experts: experts, isSum: isSum),
            inputs: [g, assignment] + weights))
        cases.append(
          OperatorCase(
            op: GroupedLinearTransposed(experts: 1, first: experts - 1, isSum: isSum),
            inputs: [g, assignment, weights[0]]))
      }
    }
    cases.append(OperatorCase(op: GroupedSum(expert: 0), inputs: [g[1], assignment]))
    cases.append(OperatorCase(op: GroupedBroadcast(expert: 0), inputs: [biases[0], assignment]))
    return cases
  }

  private static func gates(_ shape: ExpertShape, seed: UInt64) -> [OperatorCase] {
    var random = SplitMix64(seed: seed)
    let slots = shape.leading + [shape.slots]
    let assignment = random.slotTensor(slots, experts: shape.experts)
    let logits = random.normalTensor(shape.leading + [shape.experts])
    let rows = random.normalTensor(slots + [shape.width])
    let u = random.normalTensor(shape.leading + [shape.width])
    let shares = random.normalTensor(slots)
    var cases = [
      OperatorCase(op: ExpertGates(isNormalized: true), inputs: [logits, assignment]),
      OperatorCase(op: ExpertGates(isNormalized: false), inputs: [logits, assignment]),
      OperatorCase(op: SelectSlots(fill: -3), inputs: [logits, assignment]),
      OperatorCase(op: PlaceSlots(experts: shape.experts), inputs: [shares, assignment]),
      OperatorCase(op: SlotMask(), inputs: [assignment]),
      OperatorCase(op: ExpertMask(experts: shape.experts), inputs: [assignment]),
      OperatorCase(op: CombineExperts(), inputs: [rows, shares]),
      OperatorCase(op: ScaleSlots(), inputs: [u, shares]),
      OperatorCase(op: SlotProducts(), inputs: [rows, u]),
    ]
    for topK in Set([1, min(2, shape.experts), shape.experts]) {
      cases.append(OperatorCase(op: RouteTokens(topK: topK), inputs: [logits]))
      guard shape.leading.count == 2 else { continue }
      cases.append(OperatorCase(op: RouteTokens(topK: topK, capacity: 2), inputs: [logits]))
      cases.append(OperatorCase(op: RouteTokens(expertChoiceOf: topK), inputs: [logits]))
    }
    return cases
  }

  /// Experts large enough for several threads, each element computed by one of them in one order.
  static let threadedExperts: [(testCase: OperatorCase, isIndependent: Bool)] = {
    var random = SplitMix64(seed: 4)
    let assignment = random.slotTensor([3, 401, 2], experts: 3)
    let weights = (0..<3).map { _ in random.normalTensor([33, 65]) }
    let (x, g) = (random.normalTensor([3, 401, 65]), random.normalTensor([3, 401, 2, 33]))
    let u = random.normalTensor([3, 401, 33])
    let gates = random.normalTensor([3, 401, 2])
    return [
      (OperatorCase(op: GroupedLinear(experts: 3), inputs: [x, assignment] + weights), true),
      (
        OperatorCase(
          op: GroupedLinearTransposed(experts: 3, isSum: true), inputs: [g, assignment] + weights),
        true
      ),
      (OperatorCase(op: GroupedContract(expert: 1), inputs: [g, x, assignment]), false),
      (OperatorCase(op: GroupedSum(expert: 1), inputs: [g, assignment]), true),
      (OperatorCase(op: CombineExperts(), inputs: [g, gates]), true),
      (OperatorCase(op: ScaleSlots(), inputs: [u, gates]), true),
      (OperatorCase(op: SlotProducts(), inputs: [g, u]), true),
    ]
  }()
}
