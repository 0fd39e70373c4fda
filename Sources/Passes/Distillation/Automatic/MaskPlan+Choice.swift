import TensorCore

extension MaskPlan {
  /// The masks that training ends with, so that about `target` of the towers' parameters are left.
  ///
  /// Of each mask as many elements as it expects become zero, those of lowest `loga`, and the others
  /// take their soft value. Then neurons, and where they do not suffice heads, channels and
  /// branches, of any layer close in order of `loga`, or open again, until the count is close to
  /// `target`. A tower keeps at least a channel and a unit of a branch.
  ///
  /// - Parameters:
  ///   - loga: the parameters of each mask; those of masks that are not learned do not matter.
  ///   - target: how many parameters shall be left.
  /// - Returns: the elements of each mask, ones where it is not learned.
  package func finalMasks(of loga: [[Float]], keeping target: Int) -> [[Float]] {
    var choice = MaskChoice(self, loga)
    choice.adjust(to: Double(target))
    return masks.indices.map { index in
      choice.isOpen[index].indices.map { element in
        guard masks[index].isLearned else { return 1 }
        let value = Float(HardConcrete.softValue(Double(loga[index][element])))
        return choice.isOpen[index][element] ? value : 0
      }
    }
  }

  /// The towers' parameters after ``compacting(_:masks:)`` with masks that are open there.
  func parameterCount(whereOpen isOpen: [[Bool]]) -> Double {
    var counts = isOpen.map { Double($0.count { $0 }) }
    // A branch without units goes with all that it has.
    for (branch, units) in unitsOfBranch where counts[units] == 0 { counts[branch] = 0 }
    return size.value(counts)
  }

  /// The least number of parameters that the learned masks can leave.
  var leastParameterCount: Double {
    let closed = masks.map { [Float](repeating: HardConcrete.bounds.lowerBound, count: $0.count) }
    var choice = MaskChoice(self, closed)
    choice.adjust(to: 0)
    return parameterCount(whereOpen: choice.isOpen)
  }
}

/// Which elements of masks are open.
private struct MaskChoice {
  private struct Element {
    let mask: Int
    let index: Int
    let loga: Float
  }

  /// How far from the target, as a part of all parameters, a choice may be.
  private static let tolerance = 0.003

  private let plan: MaskPlan
  private let loga: [[Float]]
  /// By mask and element.
  private(set) var isOpen: [[Bool]]
  /// What stays open in any case.
  private var isProtected: [[Bool]]

  /// Closes as many elements of each mask as it expects.
  init(_ plan: MaskPlan, _ loga: [[Float]]) {
    self.plan = plan
    self.loga = loga
    isOpen = plan.masks.map { [Bool](repeating: true, count: $0.count) }
    isProtected = plan.masks.map { [Bool](repeating: false, count: $0.count) }
    for index in plan.learned {
      let values = loga[index]
      let expected = values.reduce(0) { $0 + HardConcrete.openProbability(Double($1)) }
      let closedCount = Int((Double(values.count) - expected).rounded())
      let order = values.indices.sorted { (values[$0], $0) < (values[$1], $1) }
      for element in order.prefix(max(closedCount, 0)) { isOpen[index][element] = false }
    }
    for tower in Tower.allCases { protect(tower) }
  }

  /// Keeps open what is most so: a channel of `tower`, and a unit of one of its branches.
  private mutating func protect(_ tower: Tower) {
    for (index, mask) in plan.masks.enumerated() where mask.tower == tower && mask.kind == .width {
      keep(best(index)?.index, of: index)
    }
    var strongest: (branch: Int, unit: Element?, loga: Float)?
    for branch in plan.masks.indices {
      guard plan.masks[branch].tower == tower, let units = plan.unitsOfBranch[branch] else {
        continue
      }
      let unit = best(units)
      let loga = min(unit?.loga ?? .infinity, best(branch)?.loga ?? .infinity)
      if strongest.map({ loga > $0.loga }) ?? true { strongest = (branch, unit, loga) }
    }
    guard let strongest else { return }
    keep(0, of: strongest.branch)
    if let unit = strongest.unit { keep(unit.index, of: unit.mask) }
  }

  /// The element of mask `index` with the highest `loga`; nil where it is not learned.
  private func best(_ index: Int) -> Element? {
    guard plan.masks[index].isLearned else { return nil }
    let values = loga[index]
    return values.indices.max { (values[$0], $1) < (values[$1], $0) }.map {
      Element(mask: index, index: $0, loga: values[$0])
    }
  }

  private mutating func keep(_ element: Int?, of mask: Int) {
    guard let element else { return }
    isOpen[mask][element] = true
    isProtected[mask][element] = true
  }

  /// Closes or opens elements until the number of parameters is close to `target`.
  mutating func adjust(to target: Double) {
    var finer: [MaskKind] = []
    for kind in [MaskKind.neurons, .heads, .width, .layers] {
      guard gap(to: target) > Self.tolerance * plan.size.value(plan.fullCounts) else { return }
      // Beyond the target with the coarse kind, and back with the finer ones, or as near as it gets.
      var beyond = self
      beyond.approach(target, with: kind, crossing: true)
      for kind in finer { beyond.approach(target, with: kind, crossing: false) }
      approach(target, with: kind, crossing: false)
      if beyond.gap(to: target) < gap(to: target) { self = beyond }
      finer.insert(kind, at: 0)
    }
  }

  private func gap(to target: Double) -> Double {
    abs(plan.parameterCount(whereOpen: isOpen) - target)
  }

  /// Closes or opens elements of `kind` until the number of parameters is closest to `target`, or
  /// until it has crossed it.
  private mutating func approach(_ target: Double, with kind: MaskKind, crossing: Bool) {
    let excess = plan.parameterCount(whereOpen: isOpen) - target
    guard excess != 0 else { return }
    let candidates = candidates(kind, areOpen: excess > 0)
    // The count changes in one direction with every candidate, so halving finds the crossing.
    var (few, many) = (0, candidates.count)
    while few < many {
      let middle = (few + many) / 2
      let rest = plan.parameterCount(whereOpen: flipping(candidates.prefix(middle))) - target
      if rest * excess > 0 { few = middle + 1 } else { many = middle }
    }
    let before = isOpen
    isOpen = flipping(candidates.prefix(few))
    guard !crossing, few > 0 else { return }
    var nearer = self
    nearer.isOpen = before
    nearer.isOpen = nearer.flipping(candidates.prefix(few - 1))
    if nearer.gap(to: target) <= gap(to: target) { self = nearer }
  }

  /// The elements of `kind` that may change, those that should do so first in front.
  private func candidates(_ kind: MaskKind, areOpen: Bool) -> [Element] {
    var found: [Element] = []
    for index in plan.learned where plan.masks[index].kind == kind {
      for element in isOpen[index].indices
      where isOpen[index][element] == areOpen && !isProtected[index][element] {
        found.append(Element(mask: index, index: element, loga: loga[index][element]))
      }
    }
    return found.sorted { left, right in
      let (l, r) = areOpen ? (left.loga, right.loga) : (-left.loga, -right.loga)
      return (l, left.mask, left.index) < (r, right.mask, right.index)
    }
  }

  private func flipping(_ elements: some Sequence<Element>) -> [[Bool]] {
    var flipped = isOpen
    for element in elements { flipped[element.mask][element.index].toggle() }
    return flipped
  }
}
