import GraphIR

/// Chooses the dimensions of a tower that has a share of its teacher's parameters.
///
/// Depth and width stay where they can: every block keeps the share of its heads, and as many
/// neurons as meet the number. Where less than an eighth of the neurons would be left, the width
/// shrinks by about the share by which heads and neurons do, and where an eighth of the width is
/// not little enough, blocks go.
struct InheritBudget {
  /// How far from the wanted share a student may be.
  static let tolerance = 0.02
  /// How far from it a student is if another one is closer.
  private static let aim = 0.005
  /// The least share of neurons, and of the width, that stays.
  private static let least = 0.125

  private let extents: InheritExtents
  private let keep: Double
  private let total: Int

  /// A search for a tower with the share `keep` of the parameters in `extents`.
  init(_ extents: InheritExtents, keep: Double) {
    self.extents = extents
    self.keep = keep
    total = extents.parameterCount(extents.full)
  }

  /// The shape of the student's tower.
  ///
  /// - Throws: ``PassError`` when no shape has the wanted share.
  func shape(of tower: Tower) throws(PassError) -> InheritShape {
    if keep == 1 { return extents.full }
    let tolerances = [Self.aim, Self.tolerance]
    for tolerance in tolerances {
      if let shape = shapeOfFullWidth(within: tolerance) { return shape }
    }
    for count in (1...extents.full.layers.count).reversed() {
      for tolerance in tolerances {
        if let shape = narrower(layerCount: count, within: tolerance) { return shape }
      }
    }
    let smallest = share(of: smallestShape)
    guard smallest > keep else {
      throw .unsuitable(
        pass: InheritManual.name,
        "no dimensions of the \(tower.rawValue) tower have \(keep) of its parameters")
    }
    throw .option(
      name: "keep",
      expected: "at least \((smallest * 1000).rounded(.up) / 1000), as one narrow block of the "
        + "\(tower.rawValue) tower has",
      found: "\(keep)")
  }

  private var smallestShape: InheritShape {
    var shape = extents.full
    shape.layers = InheritShape.layerMap(from: shape.layers.count, to: 1)
    shape.width = leastWidth
    shape.heads = scaled(shape.heads, 0)
    shape.neurons = scaled(shape.neurons, Self.least)
    return shape
  }

  private var leastWidth: Int {
    max(Int((Self.least * Double(extents.full.width)).rounded(.up)), 1)
  }

  private func shapeOfFullWidth(within tolerance: Double) -> InheritShape? {
    let most = extents.full.heads.max() ?? 0
    // Rounding may take so many heads that all neurons together are too few.
    for extra in 0...most {
      var shape = extents.full
      shape.heads = zip(scaled(shape.heads, keep), extents.full.heads).map { min($0 + extra, $1) }
      let (filled, neurons) = filled(shape)
      if neurons >= Self.least, isMet(filled, within: tolerance) { return filled }
      if neurons < 1 { return nil }
    }
    return nil
  }

  /// The shape of `layerCount` blocks whose width shrinks most nearly as its neurons do.
  private func narrower(layerCount: Int, within tolerance: Double) -> InheritShape? {
    var best: (shape: InheritShape, imbalance: Double)?
    let full = extents.full
    guard full.width > leastWidth else { return nil }
    for width in (leastWidth..<full.width).reversed() {
      let factor = Double(width) / Double(full.width)
      var shape = full
      shape.layers = InheritShape.layerMap(from: full.layers.count, to: layerCount)
      shape.width = width
      shape.heads = scaled(full.heads, factor)
      let (filled, neurons) = filled(shape)
      let imbalance = abs(neurons - factor)
      if neurons >= Self.least, imbalance < best?.imbalance ?? .infinity,
        isMet(filled, within: tolerance)
      {
        best = (filled, imbalance)
      }
    }
    return best?.shape
  }

  /// `shape` with the share of neurons, also returned, whose parameters are closest to the budget.
  private func filled(_ shape: InheritShape) -> (shape: InheritShape, neurons: Double) {
    let steps = extents.full.neurons.max() ?? 0
    guard steps > 0 else { return (shape, 1) }
    func candidate(_ step: Int) -> InheritShape {
      var candidate = shape
      candidate.neurons = scaled(extents.full.neurons, Double(step) / Double(steps))
      return candidate
    }
    let budget = keep * Double(total)
    var (low, high) = (1, steps)
    while low < high {
      let middle = (low + high) / 2
      if Double(extents.parameterCount(candidate(middle))) < budget {
        low = middle + 1
      } else {
        high = middle
      }
    }
    func distance(_ step: Int) -> Double {
      abs(Double(extents.parameterCount(candidate(step))) - budget)
    }
    if low > 1, distance(low - 1) <= distance(low) { low -= 1 }
    return (candidate(low), Double(low) / Double(steps))
  }

  /// The share `factor` of each of `counts`, rounded, at least one of any.
  private func scaled(_ counts: [Int], _ factor: Double) -> [Int] {
    counts.map { min(max(Int((factor * Double($0)).rounded()), 1), $0) }
  }

  private func share(of shape: InheritShape) -> Double {
    Double(extents.parameterCount(shape)) / Double(max(total, 1))
  }

  private func isMet(_ shape: InheritShape, within tolerance: Double) -> Bool {
    abs(share(of: shape) - keep) <= tolerance
  }
}
