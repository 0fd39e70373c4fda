import GraphIR
import Operators
import TensorCore

/// Measures what a model loses when one weight at a time gets few bits.
///
/// The loss compares the model with one weight in codes to the model as it is, on pairs of images and
/// texts. What stands before the weight runs once for all bits. Each number is kept in the records of
/// the context as soon as it is known, so that another budget asks for none again and an interrupted
/// run goes on where it stopped.
///
/// - Source: Hubara et al., "Accurate Post Training Quantization With Small Calibration Sets", ICML
///   2021, arXiv:2006.10518, section 4. Differs: the loss is a distance to the unchanged model, which
///   has no noise of labels and no ties.
package struct Sensitivity: Sendable {
  /// What is measured.
  package enum Loss: String, Codable, Sendable, CaseIterable {
    /// The Kullback-Leibler divergence of the distributions over candidates, in nats.
    case divergence
    /// One less the mean cosine of embeddings to those of the unchanged model, times the factor from
    /// cosine to logit; of the tower that the weight belongs to.
    case embedding
    /// The sum of both.
    case both
  }

  /// The user's choices.
  package struct Options: Codable, Sendable, Equatable {
    /// The bits that a weight may have.
    package var bitCounts = [2, 3, 4, 5, 6, 8]
    /// What is measured.
    package var loss = Loss.embedding
    /// So many images at most, evenly taken from the pairs.
    package var imageLimit = 512

    /// The defaults.
    package init() {}
  }

  /// Losses are no smaller than this, so that bits are never a gain.
  package static let smallestLoss = 1e-6

  /// The user's choices.
  package let options: Options
  /// The pass in whose name errors speak.
  package let pass: String
  /// Bytes of activations that are kept; what does not fit is computed again.
  package var memoryBudget = 1 << 30

  /// Prepares a measurement.
  package init(options: Options = Options(), pass: String = "quantize") {
    self.options = options
    self.pass = pass
  }

  /// The sensitivities of `weights` of `graph`.
  ///
  /// - Parameters:
  ///   - weights: names of float parameters that one tower reads each.
  ///   - graph: the model at its base precision.
  ///   - quantizer: how weight `name` is turned into codes of so many bits.
  ///   - context: lends pairs, records and threads.
  /// - Returns: A row for each weight, in the order given.
  /// - Throws: ``PassError`` without pairs, for unknown names, and when a run fails.
  package func table(
    of weights: [String], in graph: Graph, quantizer: (_ name: String, Int) -> WeightQuantizer,
    context: borrowing PassContext
  ) throws(PassError) -> SensitivityTable {
    guard let lend = context.pairs else { throw .needsData(pass: pass) }
    let bitCounts = Set(options.bitCounts).sorted()
    guard !bitCounts.isEmpty, bitCounts.allSatisfy((2...8).contains) else {
      throw .option(
        name: "bits", expected: "one or more of 2 to 8",
        found: bitCounts.map(String.init).joined(separator: ", "))
    }
    let pairs: PairSet
    do { pairs = try lend().thinned(to: options.imageLimit) } catch { throw .calibration(error) }
    let key =
      "sensitivity \(graph.fingerprint) \(options.loss.rawValue) \(pairs.imageCount) "
      + "\(pairs.task.rawValue)"
    func record(_ name: String, _ bits: Int) -> String {
      let own = quantizer(name, bits)
      return "\(key) \(name) \(bits) \(own.grid.rawValue) \(own.groupSize ?? 0) "
        + "\(own.clipping.rawValue) \(own.percentile)"
    }
    let (records, report) = (context.records, context.report)
    var losses: [String: [Int: Double]] = [:]
    for name in weights {
      for bits in bitCounts {
        losses[name, default: [:]][bits] = records?.values(for: record(name, bits))?.first
      }
    }
    var done = losses.reduce(0) { $0 + $1.value.count }
    let total = weights.count * bitCounts.count
    if done < total {
      let scorer = try PairScorer(pairs, of: graph, threadCount: context.threadCount)
      try measure(
        weights.filter { (losses[$0]?.count ?? 0) < bitCounts.count }, scorer,
        threadCount: context.threadCount, bitCounts, isKnown: { losses[$0]?[$1] != nil }, quantizer
      ) { name, bits, loss in
        losses[name, default: [:]][bits] = loss
        try records?.keep([loss], for: record(name, bits))
        done += 1
        report(.progress(stage: "sensitivities", done: done, total: total))
      }
    }
    return try table(weights, graph, losses, bitCounts, quantizer)
  }

  private func measure(
    _ weights: [String], _ scorer: PairScorer, threadCount: Int, _ bitCounts: [Int],
    isKnown: (String, Int) -> Bool, _ quantizer: (String, Int) -> WeightQuantizer,
    _ body: (String, Int, Double) throws -> Void
  ) throws(PassError) {
    var left = Set(weights)
    do {
      for tower in Tower.allCases {
        let sweep = try SensitivitySweep(
          tower, scorer, memoryBudget: memoryBudget, threadCount: threadCount)
        let own = weights.compactMap { name in sweep.place(of: name).map { (name, $0) } }
        for (name, _) in own.sorted(by: { ($0.1, $0.0) < ($1.1, $1.0) })
        where left.remove(name) != nil {
          guard let parameter = scorer.graph.parameter(named: name) else { continue }
          for bits in bitCounts where !isKnown(name, bits) {
            let codes = try quantizer(name, bits).quantize(
              parameter, named: name, threadCount: threadCount)
            let rows = try sweep.embeddings(with: codes.materialized, for: name)
            try body(name, bits, scorer.loss(options.loss, of: tower, rows))
          }
        }
      }
    } catch let error as PassError {
      throw error
    } catch {
      throw .calibration(error)
    }
    if let lost = left.sorted().first {
      throw .unsuitable(pass: pass, "no output needs weight \(lost)")
    }
  }

  private func table(
    _ weights: [String], _ graph: Graph, _ losses: [String: [Int: Double]], _ bitCounts: [Int],
    _ quantizer: (String, Int) -> WeightQuantizer
  ) throws(PassError) -> SensitivityTable {
    var rows: [SensitivityTable.Row] = []
    for name in weights {
      guard let shape = graph.parameter(named: name)?.tensor.shape else {
        throw .unsuitable(pass: pass, "the model has no parameter \(name)")
      }
      var choices: [SensitivityTable.Choice] = []
      var least = Self.smallestLoss
      for bits in bitCounts.reversed() {
        guard let loss = losses[name]?[bits], loss.isFinite else {
          throw .parameter(name: name, "makes the loss at \(bits) bits infinite or no number")
        }
        least = max(least, loss)
        choices.append(
          .init(
            bitCount: bits, byteCount: quantizer(name, bits).storedByteCount(of: shape),
            loss: least))
      }
      rows.append(
        .init(weight: name, elementCount: shape.reduce(1, *), choices: choices.reversed()))
    }
    return SensitivityTable(rows: rows)
  }
}

extension PairScorer {
  /// How far embeddings `rows` of `tower` are from those of the model.
  fileprivate func loss(_ loss: Sensitivity.Loss, of tower: Tower, _ rows: [Float]) -> Double {
    var sum = 0.0
    if loss != .embedding {
      sum += (tower == .image ? score(images: rows) : score(texts: rows)).divergence
    }
    if loss != .divergence {
      sum += distance(of: rows, from: embeddings[tower] ?? []) * Double(graph.logitScale ?? 1)
    }
    return sum
  }

  /// The mean over the rows of one less their cosine.
  private func distance(of rows: [Float], from others: [Float]) -> Double {
    let count = rows.count / max(width, 1)
    var sum = 0.0
    for row in 0..<count {
      // Half the square of the difference of unit vectors is one less their cosine, and keeps the
      // digits where that is small.
      var (left, right) = (0.0, 0.0)
      for place in (row * width)..<((row + 1) * width) {
        left += Double(rows[place]) * Double(rows[place])
        right += Double(others[place]) * Double(others[place])
      }
      let (a, b) = (1 / max(left.squareRoot(), 1e-30), 1 / max(right.squareRoot(), 1e-30))
      for place in (row * width)..<((row + 1) * width) {
        let difference = Double(rows[place]) * a - Double(others[place]) * b
        sum += difference * difference / 2
      }
    }
    return sum / Double(max(count, 1))
  }
}

extension PairSet {
  /// The set with `limit` images at most, evenly taken, and the candidates that it had.
  fileprivate func thinned(to limit: Int) -> PairSet {
    guard limit > 0, imageCount > limit else { return self }
    let chosen = (0..<limit).map { $0 * imageCount / limit }
    return PairSet(
      task: task, pixels: pixels.selecting(chosen, onAxis: 0), texts: texts,
      candidates: candidates, targets: chosen.map { targets[$0] })
  }
}
