import Glibc
import Training

/// What a schedule asks for at each step of a run of a certain length.
package struct SparsePlan: Sendable {
  /// The choices.
  package let options: SparseTrainingOptions
  /// The step with which masking begins.
  package let start: Int
  /// The first step whose masks are final.
  package let end: Int
  /// Steps between two choices of masks.
  package let interval: Int
  /// The share that is gone already at the start.
  package let initialSparsity: Double

  /// Plans a run of `steps` steps.
  ///
  /// The last choice of masks is made within the run, however short that is.
  package init(_ options: SparseTrainingOptions, steps: Int, initialSparsity: Double = 0) {
    self.options = options
    self.initialSparsity = initialSparsity
    let last = max(steps - 1, 0)
    start = min(Int((options.start * Double(steps)).rounded()), last)
    end = min(max(Int(((options.start + options.ramp) * Double(steps)).rounded()), start), last)
    let length = end - start
    let usual = options.schedule == .gradual ? min(100, max(1, length / 20)) : 1
    interval = options.interval ?? usual
  }

  /// Steps of the ramp.
  package var length: Int { end - start }

  /// Whether masks do not change any more at `step`.
  package func isFinal(_ step: Int) -> Bool { step >= end }

  /// Whether masks are chosen anew at `step`.
  package func choosesMasks(_ step: Int) -> Bool {
    step == end || (start..<end).contains(step) && (step - start) % interval == 0
  }

  /// The share that masks hide at `step`, for single weights.
  package func sparsity(atStep step: Int) -> Double {
    guard step >= start else { return 0 }
    guard options.schedule == .gradual else { return options.sparsity }
    return CubicSparsity(
      from: min(initialSparsity, options.sparsity), to: options.sparsity, start: start,
      length: length
    ).sparsity(atStep: step)
  }

  /// The pattern of the masks at `step`, for patterns; nil before the first.
  package func pattern(atStep step: Int) -> BlockPattern? {
    guard case .pattern(let kept, let block) = options.structure, step >= start else { return nil }
    let final = BlockPattern(kept: kept, of: block)
    guard step < end else { return final }
    let frames: [BlockPattern]
    switch options.schedule {
    case .stepwise: frames = final.stepwiseFrames
    case .geometric: frames = final.geometricFrames
    case .gradual:
      let share = CubicSparsity(to: 1, start: start, length: length).sparsity(atStep: step)
      let gone = Int((share * Double(block - kept)).rounded(.down))
      return BlockPattern(kept: block - gone, of: block)
    default: return final
    }
    return frames[min((step - start) * frames.count / max(length, 1), frames.count - 1)]
  }

  /// How much of a masked weight the model sees at `step`.
  package func leak(atStep step: Int) -> Float {
    guard step >= start else { return 1 }
    guard step < end else { return 0 }
    let leak: MaskLeak =
      switch options.schedule {
      case .flowLinear: .linear(beta: options.decay ?? 1 / Double(max(length, 1)))
      case .flowExponential: .exponential(beta: options.decay ?? log(100) / Double(max(length, 1)))
      default: .closed
      }
    return Float(leak.value(at: step - start))
  }

  /// Whether gradients reach masked weights at `step`.
  package func flows(atStep step: Int) -> Bool {
    step < end && options.schedule != .gradual
  }
}
