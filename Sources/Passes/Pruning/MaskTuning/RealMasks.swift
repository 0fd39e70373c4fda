import GraphIR
import TensorCore
import Training

/// The real masks of a model's weights while they are learned.
final class RealMasks {
  private let options: MaskTuning.Options
  private let weights: [Value]
  /// The weights' elements, masked ones zero.
  private let elements: ParameterBlock
  private let masks: ParameterBlock
  private let gradients: ParameterBlock
  private let optimizer: AdamW
  private let hidden: [[UInt8]?]

  init(_ options: MaskTuning.Options, _ graph: Graph, _ weights: [Value]) {
    self.options = options
    self.weights = weights
    elements = MaskTuningTask.block(of: weights, in: graph)
    masks = ParameterBlock(like: elements)
    gradients = ParameterBlock(like: elements)
    hidden = weights.map { graph.parameter($0)?.mask?.elements(of: UInt8.self) }
    optimizer = AdamW(
      layout: masks.layout,
      options: AdamW.Options(beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0))
    for entry in masks.entries {
      let target = masks.slice(entry)
      if options.sparsity == nil {
        target.update(repeating: Float(options.initial))
      } else {
        Self.rank(elements.slice(entry), into: target, options)
      }
    }
  }

  /// Spreads masks evenly about the initial one, above the threshold, in the order of magnitudes.
  private static func rank(
    _ elements: UnsafeMutableBufferPointer<Float>, into masks: UnsafeMutableBufferPointer<Float>,
    _ options: MaskTuning.Options
  ) {
    let order = elements.indices.sorted {
      let (a, b) = (abs(elements[$0]), abs(elements[$1]))
      return a == b ? $0 < $1 : a < b
    }
    let reach = options.initial - options.threshold
    for (rank, place) in order.enumerated() {
      let part = Double(rank + 1) / Double(max(order.count, 1))
      masks[place] = Float(options.threshold + 2 * reach * part)
    }
  }

  /// Leaves in `used` what the model computes with at `step` of `total`.
  func write(to used: ParameterBlock, atStep step: Int, of total: Int) {
    used.copyElements(of: elements)
    guard let sparsity = options.sparsity else {
      for index in used.elements.indices
      where masks.elements[index] <= Float(options.threshold) {
        used.elements[index] = 0
      }
      return
    }
    let ramp = CubicSparsity(to: sparsity, start: 0, length: max(total * 3 / 5, 1))
    for (entry, mask) in zip(used.entries, binary(sparsity: ramp.sparsity(atStep: step))) {
      let target = used.slice(entry)
      for place in target.indices where mask[place] == 0 { target[place] = 0 }
    }
  }

  /// Moves masks by the gradients of the used weights.
  func update(
    _ task: ParameterBlock, _ divergence: ParameterBlock, rate: Double, random: inout SplitMix64
  ) {
    let level = Float(options.dropout)
    for entry in masks.entries {
      let (mask, weight) = (masks.slice(entry), elements.slice(entry))
      let (a, b) = (task.slice(entry), divergence.slice(entry))
      let norm = mask.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
      let price = norm > 0 ? Float(options.prior / norm) : 0
      let target = gradients.slice(entry)
      for place in target.indices {
        target[place] = GradientDropout.used(
          task: a[place] * weight[place] + price * mask[place],
          divergence: b[place] * weight[place], level: level, uniform: random.nextUniform())
      }
    }
    optimizer.step(
      parameters: masks, gradients: gradients, learningRate: rate, gradientFactor: 1)
  }

  /// The binary masks that learning came to.
  func final(in graph: Graph) throws(PassError) -> [Value: Tensor] {
    let binary: [[UInt8]]
    if let sparsity = options.sparsity {
      binary = self.binary(sparsity: sparsity)
    } else {
      binary = masks.entries.map { entry in
        masks.slice(entry).map { $0 > Float(options.threshold) ? 1 : 0 }
      }
    }
    var result: [Value: Tensor] = [:]
    for (index, weight) in weights.enumerated() {
      var mask = binary[index]
      for (place, old) in (hidden[index] ?? []).enumerated() where old == 0 { mask[place] = 0 }
      result[weight] = Tensor(shape: masks.entries[index].shape, mask)
    }
    return result
  }

  /// Masks that hide exactly the share `sparsity` of the lowest, what is hidden already first.
  private func binary(sparsity: Double) -> [[UInt8]] {
    let margins = masks.entries.map { entry in
      let (mask, old) = (masks.slice(entry), hidden[entry.index])
      return mask.indices.map { old?[$0] == 0 ? -.greatestFiniteMagnitude : mask[$0] }
    }
    switch options.scope {
    case .global:
      let count = margins.reduce(0) { $0 + $1.count }
      return AutoSparseForm.masks(
        margins, pruning: WeightMasks.prunedCount(sparsity, of: count))
    case .layer:
      return margins.map {
        AutoSparseForm.masks([$0], pruning: WeightMasks.prunedCount(sparsity, of: $0.count))[0]
      }
    }
  }
}
