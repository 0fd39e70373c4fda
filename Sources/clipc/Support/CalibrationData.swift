import Foundation
import GraphIR
import Passes

/// The data that passes measure a model on.
struct CalibrationData {
  /// Batches of inputs; nil without data.
  let batches: CalibrationBatches?
  /// Reads the pairs, once; nil without data.
  let pairs: (() throws -> PairSet)?

  /// Prepares to read what `options` name.
  init(
    _ options: CalibrationOptions, _ opened: OpenedModel, _ graph: Graph, _ common: CommonOptions
  ) throws {
    batches = try CalibrationBatches(options, opened, graph, common)
    guard let dataset = batches?.dataset else {
      pairs = nil
      return
    }
    var known: PairSet?
    pairs = {
      if let known { return known }
      let made = try PairSet(
        dataset, prompts: try options.prompts(), for: opened, threadCount: common.threads)
      known = made
      return made
    }
  }

  /// What tells this work from other work: the model, the options, the data, seed and threads.
  func work(
    _ opened: OpenedModel, _ options: some Encodable, _ common: CommonOptions
  ) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let choices = String(decoding: try encoder.encode(options), as: UTF8.self)
    let data = try batches?.identity() ?? ""
    return printable(
      "clipc \(try opened.sha256()) \(choices) \(data) \(common.seed) \(common.threads)")
  }
}
