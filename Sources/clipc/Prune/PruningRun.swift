import Checkpoints
import ClipRuntime
import GraphIR
import ModelFormat
import Operators
import Passes
import TensorCore

/// Prunes one model, by whatever its budget is counted in.
struct PruningRun {
  let opened: OpenedModel
  let source: CLIPModel
  let data: CalibrationData
  let common: CommonOptions
  /// What takes tokens out of the computation behind pruning.
  let tokens: [any Pass]

  /// Prepares to prune the model at `path`.
  init(
    path: String, _ calibration: CalibrationOptions, _ common: CommonOptions, tokens: [any Pass]
  ) throws {
    opened = try OpenedModel(path: path)
    source = try opened.graphModel(for: "prune")
    data = try CalibrationData(calibration, opened, source.graph, common)
    self.common = common
    self.tokens = tokens
  }

  /// Runs the pass, and those for tokens behind it.
  func result(_ options: Prune.Options, records: RecordFile?) throws -> PassResult {
    try PassRunner(common).run(
      [Prune(options: options)] + tokens, on: source, opened, calibration: data.batches,
      pairs: data.pairs, records: records)
  }

  /// Runs the passes for tokens alone.
  func resultOfTokens() throws -> PassResult {
    try PassRunner(common).run(tokens, on: source, opened)
  }

  /// Tells, from a measurement, whether computing with fewer tokens pays on this machine.
  func sayWhatTokensBring(_ result: PassResult) throws {
    guard let report = result.figures.lazy.compactMap({ $0 as? TokenReductionReport }).first
    else { return }
    var without = result.model
    without.graph = source.graph
    let before = try milliseconds(without, [.image])
    let after = try milliseconds(result.model, [.image])
    let speedup = before / max(after, 1e-9)
    let line =
      "image tower, one image: \(rounded(before)) ms before, \(rounded(after)) ms after, "
      + "\(rounded(speedup)) times as fast; its arithmetic promises \(rounded(report.promisedSpeedup))"
    if speedup < 1.02 {
      Terminal.warn("computing with fewer tokens does not pay for this model here: \(line)")
    } else {
      Terminal.say(line)
    }
  }

  /// The model whose towers share the sparsity in the way that costs a cross-modal task least.
  func resultOfBestSplit(_ options: Prune.Options, records: RecordFile?) throws -> PassResult {
    guard let pairs = data.pairs else {
      throw Failure(.usage, "--tower-split auto needs --data to measure on")
    }
    let scorer = try PairScorer(try pairs(), of: source.graph, threadCount: common.threads)
    func size(_ tower: Passes.Tower) -> Int {
      guard options.structure.allSatisfy(\.masksWeights) else {
        return source.graph.parameterCount(of: [tower])
      }
      return source.graph.prunableWeights(of: [tower]).reduce(0) {
        $0 + (source.graph.parameter($1)?.tensor.count ?? 0)
      }
    }
    var results: [TowerSplit.Shares: PassResult] = [:]
    let best = try TowerSplit.best(
      sparsity: options.sparsity, sizes: (size(.image), size(.text))
    ) { shares in
      var tried = options
      tried.imageSparsity = shares.image
      tried.textSparsity = shares.text
      let result: PassResult
      do {
        result = try self.result(tried, records: records)
      } catch PassError.option {
        // One tower cannot lose that much of what the structure names.
        return .infinity
      }
      // Models are large: none but the last is kept.
      results = [shares: result]
      let score = try scorer.score(of: result.model.graph)
      Terminal.say(
        "image \(rounded(shares.image)), text \(rounded(shares.text)): loss "
          + "\(rounded(score.loss)), quality \(rounded(score.quality))")
      return score.loss
    }
    if let last = results[best] { return last }
    var chosen = options
    chosen.imageSparsity = best.image
    chosen.textSparsity = best.text
    return try result(chosen, records: records)
  }

  // MARK: Time

  /// The largest of the models tried whose time is at most `target` milliseconds.
  ///
  /// Time is nearly linear in multiply-accumulates, so each try draws a line through the two nearest
  /// to the target and asks for a little less than it promises.
  func result(
    _ options: Prune.Options, milliseconds target: Double, records: RecordFile?
  ) throws -> PassResult {
    let towers = options.tower.towers
    func macs(_ model: CLIPModel) -> Int {
      towers.reduce(0) { $0 + model.graph.multiplyAccumulateCount(output: $1.outputName) }
    }
    let whole = macs(source)
    var above = (macs: Double(whole), ms: try milliseconds(source, towers))
    say(whole, above.ms)
    guard above.ms > target else {
      throw Failure(
        .usage,
        "--target-ms must be below the \(rounded(above.ms)) ms of the model as it is, "
          + "found \(rounded(target))")
    }
    var below: (macs: Double, ms: Double)?
    var best: PassResult?
    for _ in 0..<8 {
      let low = below ?? (0, 0)
      let slope = (above.ms - low.ms) / max(above.macs - low.macs, 1)
      let wanted = low.macs + (0.99 * target - low.ms) / max(slope, 1e-12)
      let next = min(max(wanted, low.macs * 1.002), above.macs * 0.998)
      var tried = options
      tried.targetMacs = Int(next)
      let result = try self.result(tried, records: records)
      let point = (macs: Double(macs(result.model)), ms: try milliseconds(result.model, towers))
      say(Int(point.macs), point.ms)
      if point.ms <= target {
        if best == nil || point.macs > below?.macs ?? 0 { (below, best) = (point, result) }
        if point.ms > 0.96 * target { break }
      } else {
        above = point
      }
    }
    guard let best else {
      throw Failure(.usage, "--target-ms \(rounded(target)) is met by no model tried")
    }
    return best
  }

  /// The median milliseconds of one item on each of `towers`, added up.
  private func milliseconds(_ model: CLIPModel, _ towers: [Passes.Tower]) throws -> Double {
    // The interpreter reads the bytes where they lie: they must outlive it.
    let file = try OpenedModel(model, name: "the pruned model").runtimeBytes()
    defer { withExtendedLifetime(file) {} }
    let reader = try ModelReader(file.bytes)
    var sum = 0.0
    for tower in towers {
      let isImage = tower == .image
      guard model.graph.output(named: tower.outputName) != nil else { continue }
      let tokenCount = isImage ? 1 : reader.info.contextLength
      let limits = Limits(
        imageCount: isImage ? 1 : 0, textCount: isImage ? 0 : 1, tokenCount: tokenCount)
      let interpreter = try Interpreter(
        ClipRuntime.Model(reader), limits: limits, threadCount: min(common.threads, 64))
      var run = BenchRun(
        interpreter, tower: isImage ? .image : .text, batch: 1, tokenCount: tokenCount,
        info: reader.info)
      let times = try run.measure(seconds: 0.7).sorted()
      sum += times[times.count / 2]
    }
    return sum
  }

  private func say(_ macs: Int, _ milliseconds: Double) {
    Terminal.say("\(macs) multiply-accumulates take \(rounded(milliseconds)) ms")
  }

  private func rounded(_ value: Double) -> Double { (value * 1000).rounded() / 1000 }
}
