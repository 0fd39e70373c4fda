import Foundation
import GraphIR
import Passes
import TensorCore

/// How `clipc merge` makes one model of several.
enum MergeMethod: String, Codable, CaseIterable {
  /// The mean.
  case uniform
  /// The mean of the models that do not lower held-out accuracy.
  case greedy
  /// A mean with given weights.
  case weights
  /// The mean of models whose units are put in one order first.
  case weightMatching = "weight-matching"
  /// Units that are alike averaged, the others side by side.
  case pleas
}

/// What `clipc merge` did, for people and programs.
struct MergeReport: Encodable {
  /// One of the models that were merged.
  struct Ingredient: Encodable {
    let model: String
    let sha256: String
    /// On `--validation`.
    var accuracy: Double?
  }

  /// The units of one model in the order of the first one's.
  struct Matching: Encodable {
    let model: String
    let rounds: Int
    let groups: [WeightMatching.Row]
  }

  let method: MergeMethod
  var models: [Ingredient]
  var parameters = 0
  /// What greedy soups were measured by.
  var task: String?
  var steps: [GreedySoup.Step]?
  var matchings: [Matching]?
  var groups: [PartialMerge.Row]?
  var layers: [LayerFit.Row]?
  /// Of the merged model, on `--validation` or on what greedy was measured on.
  var accuracy: Double?

  /// The report for people, a line each.
  var lines: [String] {
    var lines: [String] = []
    for step in steps ?? [] {
      lines.append(
        String(
          format: "%@: alone %.4f, soup with it %.4f, %@", models[step.model].model, step.alone,
          step.withIt, step.isTaken ? "taken" : "left out"))
    }
    for matching in matchings ?? [] {
      lines.append("\(matching.model), \(matching.rounds) rounds")
      let rows = matching.groups.map { row in
        [
          row.group, row.kind, "\(row.moved)", "\(row.units)",
          String(format: "%.4f", row.cosineBefore), String(format: "%.4f", row.cosineAfter),
        ]
      }
      lines.append(table([["group", "units", "moved", "of", "cosine", "matched"]] + rows))
    }
    if let groups {
      let rows = groups.map { row in
        [
          row.group, row.kind, "\(row.units)", "\(row.shared)", "\(row.merged)",
          String(format: "%.4f", row.correlation),
        ]
      }
      lines.append(table([["group", "units", "each", "shared", "merged", "correlation"]] + rows))
    }
    if let layers {
      let rows = layers.map { row in
        [
          row.layer, String(format: "%.4f", row.errorBefore),
          String(format: "%.4f", row.errorAfter),
        ]
      }
      lines.append(table([["layer", "error", "solved"]] + rows))
    }
    for model in models {
      if let accuracy = model.accuracy {
        lines.append(String(format: "%@: %@ %.4f", model.model, task ?? "accuracy", accuracy))
      }
    }
    if let accuracy {
      lines.append(String(format: "merged: %@ %.4f", task ?? "accuracy", accuracy))
    }
    return lines + ["\(parameters) parameters"]
  }
}

/// Merges the models of one command.
struct MergeRun {
  private let opened: [OpenedModel]
  private let models: [CLIPModel]
  private let common: CommonOptions
  private var graphs: [Graph] { models.map(\.graph) }

  /// Opens the models at `paths`, which must be of one architecture.
  ///
  /// - Throws: ``Failure`` or an error of a library when they are not.
  init(_ paths: [String], _ method: MergeMethod, _ common: CommonOptions) throws {
    self.common = common
    guard paths.count > 1 else {
      throw Failure(.usage, "merge needs two models or more, found \(paths.count)")
    }
    guard method != .pleas || paths.count == 2 else {
      throw Failure(.usage, "--method pleas merges two models, found \(paths.count)")
    }
    opened = try paths.map { try OpenedModel(path: $0) }
    models = try opened.map { try $0.graphModel(for: "merge") }
    try Merging.check(
      zip(paths, models).map { MergeIngredient(name: $0, graph: $1.graph) },
      allowsMasks: method == .uniform || method == .greedy || method == .weights)
    for (path, model) in zip(paths, models).dropFirst() {
      guard model.imageTransform == models[0].imageTransform else {
        throw Failure(
          .malformedInput,
          "\(path) differs from \(paths[0]): expected the same image preprocessing, found another")
      }
      guard model.tokenizer == nil || model.tokenizer == tokenizer else {
        throw Failure(
          .malformedInput,
          "\(path) differs from \(paths[0]): expected the same tokenizer, found another")
      }
    }
  }

  private var tokenizer: [UInt8]? { models.lazy.compactMap(\.tokenizer).first }

  /// The merged model and what there is to say of it.
  ///
  /// - Parameters:
  ///   - method: how it is made.
  ///   - weights: of ``MergeMethod/weights`` and, where given, of weight matching.
  ///   - partial: the choices of ``MergeMethod/pleas``.
  ///   - calibration: the data.
  ///   - validation: measures every model and the merged one; nil to measure none.
  /// - Returns: The merged model with its provenance, and the report.
  /// - Throws: ``Failure`` or an error of a library when the work cannot be done.
  func result(
    _ method: MergeMethod, weights: [Double]?, _ partial: PartialMerge.Options,
    _ calibration: CalibrationOptions, validation: AccuracyMeasure?
  ) throws -> (model: CLIPModel, report: MergeReport) {
    let hashes = try opened.map { try $0.sha256() }
    var report = MergeReport(
      method: method,
      models: zip(opened, hashes).map { MergeReport.Ingredient(model: $0.path, sha256: $1) })
    var options = ["method": method.rawValue]
    var used = Array(graphs.indices)
    let merged: Graph
    switch method {
    case .uniform, .weights: merged = try Merging.average(graphs, weights: weights)
    case .greedy:
      let soup = try greedySoup(calibration, &report)
      used = soup.steps.filter(\.isTaken).map(\.model)
      merged = soup.graph
    case .weightMatching:
      merged = try Merging.average(try matched(&report), weights: weights)
    case .pleas: merged = try partialMerge(partial, calibration, &report, &options)
    }
    if let weights { options["weights"] = weights.map { "\($0)" }.joined(separator: ",") }
    options["models"] = used.map { hashes[$0] }.joined(separator: ",")
    var model = models[used[0]]
    model.graph = merged
    model.tokenizer = tokenizer
    try model.graph.verify()
    model.graph.provenance.append(
      ProvenanceStep(
        pass: Merging.name, options: options, seed: common.seed, inputSHA256: hashes[used[0]]))
    report.parameters = merged.parameterValues.reduce(0) {
      $0 + (merged.parameter($1)?.tensor.count ?? 0)
    }
    if let validation {
      report.task = validation.task
      for (index, one) in opened.enumerated() {
        report.models[index].accuracy = try validation.accuracy(of: one)
      }
      report.accuracy = try validation.accuracy(of: OpenedModel(model, name: "the merged model"))
    }
    return (model, report)
  }

  private func greedySoup(
    _ calibration: CalibrationOptions, _ report: inout MergeReport
  ) throws -> GreedySoup {
    guard let data = calibration.data else {
      throw Failure(.usage, "--method greedy needs --data: held-out data to measure soups on")
    }
    let measure = try AccuracyMeasure(calibration, validation: data, common)
    let soup = try GreedySoup(graphs) { step in
      Terminal.say(
        String(
          format: "%@: alone %.4f, soup with it %.4f, %@", opened[step.model].path, step.alone,
          step.withIt, step.isTaken ? "taken" : "left out"))
    } accuracy: { graph in
      var model = models[0]
      model.graph = graph
      model.tokenizer = tokenizer
      return try measure.accuracy(of: OpenedModel(model, name: "the soup"))
    }
    report.task = measure.task
    report.steps = soup.steps
    report.accuracy = soup.accuracy
    return soup
  }

  private func matched(_ report: inout MergeReport) throws -> [Graph] {
    var result = [graphs[0]]
    var matchings: [MergeReport.Matching] = []
    let progress = Progress("matching groups", total: nil)
    let context = PassContext(
      seed: common.seed, threadCount: common.threads,
      report: { event in
        if case .progress(_, let done, _) = event { progress.update(done) }
      })
    for (one, graph) in zip(opened, graphs).dropFirst() {
      let matching = try WeightMatching(graph, to: graphs[0], in: context)
      result.append(matching.graph)
      matchings.append(
        MergeReport.Matching(
          model: one.path, rounds: matching.sweepCount, groups: matching.rows))
    }
    progress.finish()
    report.matchings = matchings
    return result
  }

  private func partialMerge(
    _ partial: PartialMerge.Options, _ calibration: CalibrationOptions,
    _ report: inout MergeReport, _ options: inout [String: String]
  ) throws -> Graph {
    let data = try CalibrationData(calibration, opened[0], graphs[0], common)
    guard let batches = data.batches else {
      throw Failure(
        .usage, "--method pleas needs --data: what both models' features are taken from")
    }
    let progress = Progress("merging", total: nil)
    let context = PassContext(
      seed: common.seed, threadCount: common.threads, calibration: batches,
      report: { event in
        if case .progress(_, let done, _) = event { progress.update(done) }
      })
    let merge = try PartialMerge(graphs[0], graphs[1], options: partial, in: context)
    progress.finish()
    report.groups = merge.rows
    report.layers = merge.layers
    options["budget"] = "\(partial.budget)"
    options["ridge"] = "\(partial.ridge)"
    return merge.graph
  }
}
