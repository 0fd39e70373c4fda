import TensorCore

/// Clipping by the norm of the whole gradient at a percentile of all norms so far.
///
/// The norm of the present step counts among them. A percentile between two norms is interpolated
/// linearly.
///
/// - Source: Seetharaman et al., "AutoClip: Adaptive Gradient Clipping for Source Separation
///   Networks", MLSP 2020, arXiv:2007.14469.
package final class AutoClip: GradientClipping {
  /// The part of the norms that is not clipped, in percent.
  package let percentile: Double
  /// All norms so far in ascending order.
  private var norms: [Double] = []

  /// Makes the method; the paper's percentile is 10.
  package init(percentile: Double = 10) { self.percentile = percentile }

  /// Asks for a factor that takes the norm to the percentile.
  package func clip(_ gradients: ParameterBlock) -> ClippingReport {
    let norm = gradients.norm
    guard norm.isFinite else { return .rejecting(norm) }
    norms.insert(norm, at: position(of: norm))
    return .scaling(norm, by: norm > 0 ? min(1, threshold / norm) : 1)
  }

  /// The percentile of the norms so far; infinite before the first.
  package var threshold: Double {
    guard let last = norms.last else { return .infinity }
    let place = Double(norms.count - 1) * min(max(percentile, 0), 100) / 100
    let lower = Int(place)
    guard lower + 1 < norms.count else { return last }
    return norms[lower] + (norms[lower + 1] - norms[lower]) * (place - Double(lower))
  }

  /// The first place whose norm is not below `norm`.
  private func position(of norm: Double) -> Int {
    var (low, high) = (0, norms.count)
    while low < high {
      let middle = (low + high) / 2
      if norms[middle] < norm { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// The norms so far in ascending order, float64.
  package var state: [NamedTensor] { [("norms", Tensor(shape: [norms.count], norms))] }

  /// Continues from `state`.
  package func restore(_ state: [NamedTensor]) throws(TrainingStateError) {
    var saved = try SavedTensors(state)
    let tensor = try saved.take("norms", .float64, nil)
    try saved.finish()
    let values = tensor.elements(of: Double.self)
    guard values.allSatisfy(\.isFinite), zip(values, values.dropFirst()).allSatisfy(<=) else {
      throw .invalid(name: "norms", reason: "are not finite and ascending")
    }
    norms = values
  }
}
