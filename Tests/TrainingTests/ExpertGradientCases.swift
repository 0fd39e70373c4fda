import GraphIR
import Operators
import TensorCore

extension GradientCase {
  /// What experts consist of, for tokens with axes before them and without.
  static let experts: [GradientCase] =
    ([[], [.batch], [.batch, 2]] as [[Extent]]).flatMap { products($0) + gates($0) }

  private static func products(_ leading: [Extent]) -> [GradientCase] {
    let slots = leading + [2]
    let assignment = GradientOperand(slots, .slots(experts: 3))
    let weights = (0..<3).map { _ in GradientOperand([4, 5]) }
    let biases = (0..<3).map { _ in GradientOperand([4]) }
    var cases: [GradientCase] = []
    for x in [GradientOperand(leading + [5]), GradientOperand(slots + [5])] {
      cases.append(
        GradientCase(
          GroupedLinear(experts: 3, hasBias: true), all: [x, assignment] + weights + biases))
      cases.append(
        GradientCase(GroupedLinear(experts: 1, first: 2), x, assignment, GradientOperand([4, 5])))
    }
    for g in [GradientOperand(leading + [4]), GradientOperand(slots + [4])] {
      for isSum in [false, true] {
        cases.append(
          GradientCase(
            GroupedLinearTransposed(experts: 3, isSum: isSum), all: [g, assignment] + weights))
        cases.append(
          GradientCase(
            GroupedLinearTransposed(experts: 1, first: 1, isSum: isSum), g, assignment,
            GradientOperand([4, 5])))
      }
      for x in [GradientOperand(leading + [5]), GradientOperand(slots + [5])] {
        cases.append(GradientCase(GroupedContract(expert: 1), g, x, assignment))
      }
    }
    cases.append(GradientCase(GroupedSum(expert: 1), GradientOperand(slots + [4]), assignment))
    cases.append(GradientCase(GroupedBroadcast(expert: 0), GradientOperand([4]), assignment))
    return cases
  }

  private static func gates(_ leading: [Extent]) -> [GradientCase] {
    let slots = leading + [2]
    let assignment = GradientOperand(slots, .slots(experts: 3))
    let logits = GradientOperand(leading + [3])
    return [
      GradientCase(ExpertGates(isNormalized: true), logits, assignment),
      GradientCase(ExpertGates(isNormalized: false), logits, assignment),
      GradientCase(SelectSlots(fill: 0.5), logits, assignment),
      GradientCase(PlaceSlots(experts: 3), GradientOperand(slots), assignment),
      GradientCase(CombineExperts(), slots + [5], slots),
      GradientCase(ScaleSlots(), leading + [5], slots),
      GradientCase(SlotProducts(), slots + [5], leading + [5]),
    ]
  }
}
