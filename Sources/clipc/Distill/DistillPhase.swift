import GraphIR
import Passes
import Training

/// A part of a run with a student of one shape and a schedule of its own.
struct DistillPhase {
  /// What is done to the student first.
  enum Start {
    /// Nothing.
    case asItIs
    /// It becomes smaller by choice.
    case inherited(InheritManual.Options)
  }

  /// How it is trained.
  enum Training {
    /// Its weights.
    case weights
    /// Its weights, and masks until this fraction of the teacher's parameters is left.
    case masks(keep: Double)
    /// Its weights, which become sparse.
    case sparse(SparseTrainingOptions)
  }

  let start: Start
  let training: Training
  let steps: Int

  /// Whether the learning rate rises over the whole of it, as while masks are learned.
  var isWarmUp: Bool { if case .masks = training { true } else { false } }
}

extension Distill {
  /// The phases of a run of `steps` steps that keeps `fractions` one after the other.
  func phases(steps: Int, keeping fractions: [Double]) throws -> [DistillPhase] {
    let sparsity = try pruning.options()
    let last = sparsity.map(DistillPhase.Training.sparse) ?? .weights
    guard let inherit else {
      return [DistillPhase(start: .asItIs, training: last, steps: steps)]
    }
    let stageCount = max(fractions.count, 1)
    var phases: [DistillPhase] = []
    for stage in 0..<stageCount {
      let stageSteps = steps * (stage + 1) / stageCount - steps * stage / stageCount
      guard stageSteps > 0 else {
        throw Failure(.usage, "\(steps) steps are too few for \(stageCount) stages")
      }
      switch inherit {
      case .manual:
        var options = InheritManual.Options()
        options.keep = fractions.isEmpty ? nil : fractions[stage]
        options.image = dimensions.image
        options.text = dimensions.text
        options.initialization = dimensions.initialization
        options.ranking = dimensions.ranking
        phases.append(
          DistillPhase(
            start: .inherited(options), training: stage + 1 < stageCount ? .weights : last,
            steps: stageSteps))
      case .automatic:
        let masked = min(training.maskSteps ?? stageSteps / 3, stageSteps - 1)
        guard masked > 0 else { throw Failure(.usage, "--mask-steps must be positive") }
        phases.append(
          DistillPhase(start: .asItIs, training: .masks(keep: fractions[stage]), steps: masked))
        phases.append(
          DistillPhase(start: .asItIs, training: .weights, steps: stageSteps - masked))
      }
    }
    return phases
  }
}
