import Execution
import GraphIR
import Operators
import TensorCore
import Training

/// Learns which weights of the image tower a task does better without; the weights stay as they are.
///
/// Every weight `w` has a real mask `m`; the model computes with `w 1[m > threshold]`, and gradients
/// go straight through to `m`. What falls is the cross entropy of the images' classes plus
/// `prior |m|` for each tensor; gradients that contradict staying close to the unmasked model are
/// dropped by chance (``GradientDropout``). The texts' embeddings are computed once. Where a sparsity
/// is asked for, `m` begins by the rank of `|w|` around ``Options/initial``, the model computes with
/// the share of the highest `m` that a cubic leaves at each step, and exactly that share of the lowest
/// is hidden at the end.
///
/// - Source: Zheng et al., "Regularized Mask Tuning: Uncovering Hidden Knowledge in Pre-trained
///   Vision-Language Models", ICCV 2023, arXiv:2307.15049. Differs: the sparsity.
package struct MaskTuning: Sendable {
  /// The name in errors.
  package static let name = "mask-tuning"

  /// The choices.
  package struct Options: Codable, Sendable, Equatable {
    /// Steps; nil for 30 passes over the data, or for ``minutes``.
    package var steps: Int?
    /// About how long learning takes, where no steps are given.
    package var minutes: Double?
    /// Images of a step.
    package var batch = 32
    /// The learning rate, which falls along a cosine; small models need more.
    package var rate = 8e-5
    /// The real masks at the start.
    package var initial = 1e-2
    /// The real mask above which a weight stays.
    package var threshold = 5e-3
    /// What the norm of a tensor's masks costs.
    package var prior = 1e-4
    /// How much of a contradicting gradient is dropped, from 0 to 1.
    package var dropout = 1.0
    /// The share of the weights that goes in the end; nil for what falls below the threshold.
    package var sparsity: Double?
    /// Over what masks are compared, where a sparsity is given.
    package var scope = PruningScope.global

    /// The usual choices.
    package init() {}
  }

  /// The choices.
  package let options: Options

  /// Prepares the method.
  package init(_ options: Options = Options()) { self.options = options }

  /// Learns a mask for each of `weights` that the image tower reads.
  ///
  /// - Parameters:
  ///   - weights: float32 parameters; what masks already hide stays hidden, and what lies in the text
  ///     tower alone gets no mask, since its embeddings are computed once.
  ///   - graph: the model.
  ///   - context: lends images with candidates and targets, a seed and threads.
  /// - Returns: Masks by weight.
  /// - Throws: ``PassError`` without data, for choices out of range, and where nothing can be masked.
  package func masks(
    for weights: [Value], in graph: Graph, context: borrowing PassContext
  ) throws(PassError) -> [Value: Tensor] {
    try check()
    guard let lend = context.pairs else { throw .needsData(pass: Self.name) }
    let image = graph.values(of: .image)
    let chosen = weights.filter(image.contains)
    guard !chosen.isEmpty else {
      throw .unsuitable(
        pass: Self.name,
        "only weights of the image tower can be masked: the texts' embeddings are computed once")
    }
    if chosen.contains(where: { graph.parameter($0)?.quantization != nil }) {
      throw .unsuitable(pass: Self.name, "the model is quantized: prune first, quantize then")
    }
    for weight in chosen { _ = try graph.finiteElements(of: weight) }
    let pairs: PairSet
    do { pairs = try lend() } catch { throw .calibration(error) }
    guard Set(pairs.targets).count > 1 else {
      throw .unsuitable(
        pass: Self.name, "all \(pairs.imageCount) images belong to one text; expected two or more")
    }
    let task: MaskTuningTask
    do throws(ExecutionError) {
      task = try MaskTuningTask(graph, chosen, pairs, threadCount: context.threadCount)
    } catch {
      throw .calibration(error)
    }
    let masks = RealMasks(options, graph, chosen)
    try learn(masks, task, context: context)
    return try masks.final(in: graph)
  }

  private func check() throws(PassError) {
    func require(
      _ name: String, _ value: Double, _ expected: String, _ isRight: Bool
    ) throws(PassError) {
      guard !isRight || !value.isFinite else { return }
      throw .option(name: name, expected: expected, found: "\(value)")
    }
    try require("steps", Double(options.steps ?? 1), "positive", (options.steps ?? 1) > 0)
    try require("minutes", options.minutes ?? 1, "positive", (options.minutes ?? 1) > 0)
    try require("batch", Double(options.batch), "positive", options.batch > 0)
    try require("rate", options.rate, "positive", options.rate > 0)
    try require(
      "initial", options.initial, "above the threshold", options.initial > options.threshold)
    try require("prior", options.prior, "not negative", options.prior >= 0)
    try require(
      "dropout", options.dropout, "from 0 to 1", (0.0...1.0).contains(options.dropout))
    if let sparsity = options.sparsity {
      try require("sparsity", sparsity, "at least 0 and below 1", sparsity >= 0 && sparsity < 1)
    }
  }

  // MARK: Learning

  private func learn(
    _ masks: RealMasks, _ task: MaskTuningTask, context: borrowing PassContext
  ) throws(PassError) {
    let batch = min(options.batch, task.imageCount)
    let perEpoch = max(1, task.imageCount / batch)
    var total = options.steps ?? 30 * perEpoch
    var isMeasured = options.steps == nil && options.minutes != nil
    if isMeasured { total = .max }
    var random = SplitMix64(seed: context.seed)
    var order: [Int] = []
    let start = ContinuousClock.now
    var step = 0
    while step < total {
      if order.count < batch { order = Array(0..<task.imageCount).shuffled(using: &random) }
      let rows = Array(order.suffix(batch))
      order.removeLast(batch)
      masks.write(to: task.used, atStep: step, of: isMeasured ? 1000 : total)
      let loss: Double
      do throws(ExecutionError) { loss = try task.gradients(ofRows: rows) } catch {
        throw .calibration(error)
      }
      guard loss.isFinite else {
        throw .unsuitable(
          pass: Self.name, "step \(step): the loss is not finite any more; try a lower rate")
      }
      let length = isMeasured ? Int.max : total
      let rate = options.rate * Self.cosine(step, of: length)
      masks.update(task.taskGradients, task.divergenceGradients, rate: rate, random: &random)
      step += 1
      if isMeasured, step == 5, let minutes = options.minutes {
        let each = (ContinuousClock.now - start) / .seconds(5)
        total = max(step + 1, Int(min(minutes * 60 * 0.95 / max(each, 1e-6), 1e6)))
        isMeasured = false
      }
      context.report(
        .progress(stage: "tune masks", done: step, total: isMeasured ? 0 : total))
    }
  }

  private static func cosine(_ step: Int, of total: Int) -> Double {
    LearningRateSchedule(.cosine, peak: 1).rate(at: step, of: total)
  }
}
