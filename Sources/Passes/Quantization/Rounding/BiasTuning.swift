import Execution
import GraphIR
import Operators
import TensorCore
import Training

/// Tunes what stays in float beside codes, biases and normalization parameters, so that a quantized
/// model relates images and texts as the original one does.
///
/// Each tower by itself minimizes the Kullback-Leibler divergence of the distributions of images over
/// texts from the original model's, next to the original embeddings of the other tower: images over
/// the candidates, and given images over the texts of a step. Items that were held out decide which
/// step is kept, if any.
///
/// - Source: Hubara et al., "Accurate Post Training Quantization With Small Calibration Sets", ICML
///   2021, arXiv:2006.10518, section 5. Differs: normalization parameters take the place of those of
///   batch normalization.
package struct BiasTuning: Sendable {
  /// The name in errors.
  package static let name = "bias-tuning"

  /// The user's choices.
  package struct Options: Codable, Sendable, Equatable {
    /// Steps for each tower.
    package var steps = 200
    /// Items of a step.
    package var batch = 64
    /// The learning rate, which falls along a cosine.
    package var rate = 5e-4
    /// The share of the items that decides which step is kept.
    package var heldOut = 0.2

    /// The defaults.
    package init() {}
  }

  /// What became of a tower.
  package struct Row: Codable, Sendable, Equatable {
    /// The tower.
    package let tower: Tower
    /// The divergence on the items that were held out, in nats, before tuning.
    package let before: Double
    /// The same of what was kept.
    package let after: Double
  }

  /// The user's choices.
  package let options: Options

  /// Prepares the method.
  package init(options: Options = Options()) { self.options = options }

  /// `graph` with biases and normalization parameters tuned, and what that did to each tower.
  ///
  /// - Parameters:
  ///   - graph: the quantized model.
  ///   - float: the model that it shall be like.
  ///   - context: lends images with texts, a seed and threads.
  /// - Returns: The graph, and a row for each tower that has eight items or more to hold out.
  /// - Throws: ``PassError`` without data, for choices out of range and when a run fails.
  package func run(
    on graph: Graph, like float: Graph, in context: borrowing PassContext
  ) throws(PassError) -> (graph: Graph, rows: [Row]) {
    guard options.steps > 0, options.batch > 0, options.rate > 0, options.rate.isFinite else {
      throw .option(
        name: "steps, batch and rate", expected: "positive",
        found: "\(options.steps), \(options.batch) and \(options.rate)")
    }
    guard let lend = context.pairs else { throw .needsData(pass: Self.name) }
    let pairs: PairSet
    do { pairs = try lend() } catch { throw .calibration(error) }
    let scorer = try PairScorer(pairs, of: float, threadCount: context.threadCount)
    var result = graph
    var rows: [Row] = []
    for tower in Tower.allCases {
      do {
        guard
          let task = try BiasTuningTask(
            tower, graph, scorer, heldOut: options.heldOut, threadCount: context.threadCount)
        else { continue }
        rows.append(try learn(task, tower, context))
        for entry in task.values.entries {
          guard let value = result.value(named: entry.name) else { continue }
          try result.setParameter(
            value,
            Parameter(task.values.tensor(of: entry), mask: result.parameter(value)?.mask))
        }
      } catch let error as PassError {
        throw error
      } catch {
        throw .calibration(error)
      }
    }
    return (result, rows)
  }

  private func learn(
    _ task: BiasTuningTask, _ tower: Tower, _ context: borrowing PassContext
  ) throws -> Row {
    let optimizer = AdamW(
      layout: task.values.layout,
      options: AdamW.Options(beta1: 0.9, beta2: 0.99, epsilon: 1e-10, weightDecay: 0)
    ) { _ in EntryRule(isDecayed: false) }
    let best = ParameterBlock(like: task.values)
    best.copyElements(of: task.values)
    let before = try task.divergence()
    var lowest = before
    var random = SplitMix64(seed: context.seed)
    var order: [Int] = []
    let batch = min(options.batch, task.learning.count)
    let interval = max(1, options.steps / 8)
    for step in 0..<options.steps {
      if order.count < batch { order = task.learning.shuffled(using: &random) }
      let items = Array(order.suffix(batch))
      order.removeLast(batch)
      try task.leaveGradients(of: items)
      optimizer.step(
        parameters: task.values, gradients: task.gradients,
        learningRate: LearningRateSchedule(.cosine, peak: options.rate).rate(
          at: step, of: options.steps), gradientFactor: 1)
      context.report(
        .progress(stage: "tune biases, \(tower.rawValue)", done: step + 1, total: options.steps))
      guard (step + 1) % interval == 0 || step + 1 == options.steps else { continue }
      let divergence = try task.divergence()
      if divergence < lowest {
        lowest = divergence
        best.copyElements(of: task.values)
      }
    }
    task.values.copyElements(of: best)
    return Row(tower: tower, before: before, after: lowest)
  }
}
