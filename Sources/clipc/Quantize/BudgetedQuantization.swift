import Checkpoints
import ClipRuntime
import Foundation
import GraphIR
import ModelFormat
import Passes

/// Quantizes one model with the bits of each weight chosen under a budget.
struct BudgetedQuantization {
  let opened: OpenedModel
  let source: CLIPModel
  let data: CalibrationData
  let common: CommonOptions
  let statistics: StatisticsFile?
  let records: RecordFile

  private func result(
    _ options: Quantize.Options, _ limit: BitAllocation.Limit
  ) throws -> PassResult {
    var options = options
    options.allocation = limit
    return try PassRunner(common).run(
      [Quantize(options: options)], on: source, opened, calibration: data.batches,
      pairs: data.pairs, records: records, statistics: statistics)
  }

  /// The best model whose runtime file has at most `target` bytes.
  func result(_ options: Quantize.Options, bytes target: Int) throws -> PassResult {
    // What the file holds beside weights is known once there is one.
    var limit = target
    var best: (result: PassResult, size: Int)?
    for _ in 0..<6 {
      let result: PassResult
      do { result = try self.result(options, .bytes(max(limit, 1))) } catch PassError.option(
        "target-bytes", let expected, let found)
      {
        guard best == nil else { break }
        throw PassError.option(name: "target-bytes", expected: expected, found: found)
      }
      let size = try OpenedModel(result.model, name: "the quantized model").runtimeBytes().bytes
        .count
      Terminal.say("weights of at most \(limit) bytes make a file of \(size)")
      if size <= target, size > best?.size ?? 0 { best = (result, size) }
      guard size > target || target - size > target / 500 else { break }
      limit += target - size
      guard limit > 0 else { break }
    }
    guard let best else {
      throw Failure(.usage, "--target-bytes \(target) is met by no choice of bits")
    }
    return best.result
  }

  /// The smallest model that loses at most `points` of accuracy on the data.
  func result(_ options: Quantize.Options, drop points: Double) throws -> PassResult {
    guard let pairs = data.pairs else {
      throw Failure(.usage, "--max-drop needs --data to measure on")
    }
    let scorer = try PairScorer(try pairs(), of: source.graph, threadCount: common.threads)
    let whole = try scorer.score(of: source.graph).quality
    var best: PassResult?
    // The sum of the weights' losses, on a scale of powers.
    var (low, high) = (-5.0, 2.0)
    for _ in 0..<8 {
      let middle = (low + high) / 2
      let tried: PassResult
      do { tried = try result(options, .loss(pow(10, middle))) } catch PassError.option(
        "max-drop", _, _)
      {
        low = middle
        continue
      }
      let drop = 100 * (whole - (try scorer.score(of: tried.model.graph).quality))
      Terminal.say(
        String(format: "a loss of %.3g costs %.2f points on the data", pow(10, middle), drop))
      if drop <= points {
        best = tried
        low = middle
      } else {
        high = middle
      }
    }
    guard let best else {
      throw Failure(.usage, "--max-drop \(points) is met by no choice of bits")
    }
    return best
  }

  /// The best model that takes at most `target` milliseconds, by what each product takes at each
  /// number of bits.
  func result(_ options: Quantize.Options, milliseconds target: Double) throws -> PassResult {
    var prices: [String: [Int: Double]] = [:]
    var rest: [Double] = []
    for bits in options.allowedBits {
      var tried = options
      tried.allocation = nil
      tried.rounding = nil
      tried.biasTuning = nil
      guard let format = NumberFormat(bitCount: bits) else { continue }
      tried.weights = format
      tried.outerWeights = format
      tried.tables = format
      let model = try PassRunner(common).run(
        [Quantize(options: tried)], on: source, opened, calibration: data.batches,
        statistics: statistics
      ).model
      let nodes = try nodes(of: model)
      var left = nodes.reduce(0) { $0 + $1.milliseconds }
      for name in try Quantize.weightNames(of: source.graph, options: tried) {
        let layer = name.hasSuffix(".weight") ? String(name.dropLast(7)) : name
        // Layers that share an input are one product: each has its part by the number of layers.
        guard let node = nodes.first(where: { $0.layers.contains(layer) }) else {
          prices[name, default: [:]][bits] = 0
          continue
        }
        let own = node.milliseconds / Double(node.layers.count)
        prices[name, default: [:]][bits] = own
        left -= own
      }
      rest.append(left)
      Terminal.say(
        String(
          format: "%d bits: %.3f ms", bits, nodes.reduce(0) { $0 + $1.milliseconds }))
    }
    let fixed = rest.min() ?? 0
    guard target > fixed else {
      throw Failure(
        .usage, String(format: "--target-ms must be above %.3f, which all but products take", fixed)
      )
    }
    var options = options
    options.prices = prices
    return try result(options, .price(target - fixed))
  }

  /// The layers of each instruction of both towers and the milliseconds it takes for one item.
  private func nodes(
    of model: CLIPModel
  ) throws -> [(layers: [String], milliseconds: Double)] {
    let file = try OpenedModel(model, name: "the quantized model").runtimeBytes()
    defer { withExtendedLifetime(file) {} }
    let reader = try ModelReader(file.bytes)
    var nodes: [(layers: [String], milliseconds: Double)] = []
    for tower in [ModelFormat.Tower.image, .text] where reader.program(tower) != nil {
      let isImage = tower == .image
      let tokenCount = isImage ? 1 : reader.info.contextLength
      let interpreter = try Interpreter(
        ClipRuntime.Model(reader),
        limits: Limits(
          imageCount: isImage ? 1 : 0, textCount: isImage ? 0 : 1, tokenCount: tokenCount),
        threadCount: min(common.threads, 64))
      var run = BenchRun(
        interpreter, tower: tower, batch: 1, tokenCount: tokenCount, info: reader.info)
      _ = try run.measure(seconds: 0.2)
      nodes += try run.profile(seconds: 0.6, reader).map { node in
        (node.name.split(separator: "+").map(String.init), node.milliseconds)
      }
    }
    return nodes
  }
}
