import GraphIR

/// How weights become sparse while a student is trained.
package struct SparseTrainingOptions: Codable, Sendable, Equatable {
  /// How the masks, or what masked weights contribute, change over the steps.
  package enum Schedule: String, Codable, Sendable, CaseIterable {
    /// The share that is masked rises along a cubic; masked weights rest and may return.
    case gradual
    /// Masked weights contribute less from step to step, along a line.
    case flowLinear = "flow-linear"
    /// Masked weights contribute less from step to step, exponentially.
    case flowExponential = "flow-exponential"
    /// Straight-through gradients, and a pull of masked weights towards zero.
    case srSTE = "sr-ste"
    /// Straight-through gradients.
    case ste
    /// Frames of patterns of one block length that keep ever fewer.
    case stepwise
    /// Frames of patterns of one density whose blocks shrink.
    case geometric
    /// Thresholds that are learned.
    case autosparse
  }

  /// Single weights, or a pattern of them.
  package var structure: PruningStructure
  /// The share of the prunable weights that is gone at the end; what a pattern leaves out for one.
  package var sparsity: Double
  /// The schedule.
  package var schedule: Schedule
  /// Over what magnitudes are compared; ``PruningScope/layer`` where nothing is said.
  package var scope: PruningScope?
  /// Steps between two choices of masks; nil for what suits the schedule.
  package var interval: Int?
  /// The share of the run before the first mask.
  package var start = 0.0
  /// The share of the run over which the schedule acts; masks do not change after it.
  package var ramp = 0.6
  /// What a step takes from the contribution of masked weights, for the two flows; nil for what ends
  /// them with the ramp.
  package var decay: Double?
  /// The pull of masked weights towards zero, for ``Schedule/srSTE``.
  package var restoring = 2e-4

  /// Single weights by `schedule` until the share `sparsity` is gone.
  package init(sparsity: Double, schedule: Schedule = .gradual) {
    structure = .weights
    self.sparsity = sparsity
    self.schedule = schedule
  }

  /// A pattern that keeps `kept` of `block` neighbours, by `schedule`.
  package init(kept: Int, of block: Int, schedule: Schedule) {
    structure = .pattern(kept: kept, block: block)
    sparsity = 1 - Double(kept) / Double(max(block, 1))
    self.schedule = schedule
  }

  /// Throws ``PassError/option(name:expected:found:)`` for choices that do not go together.
  func check() throws(PassError) {
    guard sparsity > 0, sparsity < 1 else {
      throw .option(name: "sparsity", expected: "above 0 and below 1", found: "\(sparsity)")
    }
    guard start >= 0, ramp > 0, start + ramp <= 1 else {
      throw .option(
        name: "prune-start and prune-ramp", expected: "shares of the run that add up to at most 1",
        found: "\(start) and \(ramp)")
    }
    guard interval.map({ $0 > 0 }) ?? true else {
      throw .option(name: "prune-every", expected: "positive", found: "\(interval ?? 0)")
    }
    guard decay.map({ $0 > 0 && $0.isFinite }) ?? true else {
      throw .option(name: "prune-decay", expected: "positive", found: "\(decay ?? 0)")
    }
    let isPattern: Bool
    switch structure {
    case .weights: isPattern = false
    case .pattern(let kept, let block):
      isPattern = true
      guard kept > 0, kept < block else {
        throw .option(name: "prune", expected: "N:M with 0 < N < M", found: "\(kept):\(block)")
      }
      let implied = 1 - Double(kept) / Double(block)
      guard abs(sparsity - implied) < 1e-6 else {
        throw .option(
          name: "sparsity", expected: "\(implied), as \(structure) says, or left out",
          found: "\(sparsity)")
      }
    default: throw .option(name: "prune", expected: "weights or N:M", found: "\(structure)")
    }
    if isPattern, schedule == .autosparse || scope != nil {
      throw .option(
        name: "prune", expected: "weights, which the schedule or the scope is for",
        found: "\(structure)")
    }
    if schedule == .autosparse, scope != nil {
      throw .option(
        name: "prune-scope", expected: "left out with autosparse, whose thresholds are learned",
        found: scope?.rawValue ?? "")
    }
    if !isPattern, schedule == .stepwise || schedule == .geometric {
      throw .option(
        name: "prune-schedule", expected: "one for single weights; \(schedule.rawValue) is for N:M",
        found: schedule.rawValue)
    }
  }
}
