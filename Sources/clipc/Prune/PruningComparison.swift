import Charts
import Checkpoints
import Evaluation
import Foundation
import GraphIR
import Passes

/// Several methods at several shares, each measured: one table, JSON and pictures.
struct PruningComparison {
  /// One pruned model.
  struct Row: Codable {
    let method: String
    let sparsity: Double
    /// Zero-shot top-1, or the mean of both recalls at 1 where the data have captions.
    let accuracy: Double
    let parameters: Int
    let nonzero: Int
    let macs: Int
    /// Of the runtime file.
    let fileBytes: Int
    let seconds: Double
  }

  /// The whole comparison.
  struct Report: Codable {
    let model: String
    let structure: String
    let task: String
    let samples: String
    let dense: Row
    let rows: [Row]
  }

  private let run: PruningRun
  private let choice: PruningChoice
  private let details: MethodOptions
  private let measure: AccuracyMeasure

  /// Prepares to measure on `validation`, or on the calibration data where that is nil.
  init(
    _ run: PruningRun, _ choice: PruningChoice, _ details: MethodOptions,
    _ calibration: CalibrationOptions,
    validation: String?
  ) throws {
    self.run = run
    self.choice = choice
    self.details = details
    measure = try AccuracyMeasure(calibration, validation: validation, run.common)
  }

  /// Runs every method at every share; pictures of what each found sensitive are named after `base`.
  func report(_ methods: [PruningMethod], base: String) throws -> Report {
    let shares = try choice.sparsities()
    guard !shares.isEmpty else {
      throw Failure(.usage, "--compare needs --sparsity, such as 0.3,0.5,0.7")
    }
    let dense = try row("dense", 0, run.source, seconds: 0)
    var rows: [Row] = []
    for method in methods {
      for (index, share) in shares.enumerated() {
        let options = try choice.options(method, details, sparsity: share)
        let records = RecordFile(
          path: "\(base).\(method.rawValue)-\(share).state",
          work: try run.data.work(run.opened, options, run.common))
        let start = ContinuousClock.now
        let result = try run.result(options, records: records)
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        records.finish()
        rows.append(try row(method.rawValue, share, result.model, seconds: seconds))
        if index == 0, let scores = result.scores {
          try scores.draw(method, to: "\(base).\(method.rawValue).svg")
        }
        if let row = rows.last {
          Terminal.say(
            "\(row.method) \(row.sparsity): \(measure.task) \(String(format: "%.4f", row.accuracy))"
          )
        }
      }
    }
    return Report(
      model: run.opened.path, structure: choice.structure, task: measure.task,
      samples: "\(measure.sampleCount)", dense: dense, rows: rows)
  }

  private func row(
    _ method: String, _ share: Double, _ model: CLIPModel, seconds: Double
  ) throws -> Row {
    let opened = OpenedModel(model, name: "the pruned model")
    let summary = ModelSummary(model.graph)
    return Row(
      method: method, sparsity: share, accuracy: try measure.accuracy(of: opened),
      parameters: summary.parameters.imageTower + summary.parameters.textTower,
      nonzero: summary.parameters.nonzero, macs: summary.macs.image + summary.macs.text,
      fileBytes: try opened.runtimeBytes().bytes.count, seconds: seconds)
  }
}

extension PruningComparison.Report {
  /// The comparison as a table for people.
  var text: String {
    let head = ["method", "sparsity", task, "parameters", "MMACs", "file bytes", "seconds"]
    return table(
      [head]
        + ([dense] + rows).map { row in
          [
            row.method, String(format: "%.3f", row.sparsity), String(format: "%.4f", row.accuracy),
            "\(row.parameters)", String(format: "%.1f", Double(row.macs) / 1e6),
            "\(row.fileBytes)", String(format: "%.1f", row.seconds),
          ]
        })
  }

  /// The comparison as a JSON object.
  var json: JSON { get throws { try .encoding(self) } }

  /// Accuracy over the size of what tells the models apart.
  func draw(to path: String) throws {
    let isPhysical = rows.contains { $0.parameters != dense.parameters }
    func size(_ row: PruningComparison.Row) -> Double {
      isPhysical ? Double(row.parameters) / 1e6 : Double(row.fileBytes) / 1e6
    }
    func point(_ row: PruningComparison.Row) -> TradeOff.Point {
      TradeOff.Point(size: size(row), accuracy: row.accuracy)
    }
    let methods = rows.reduce(into: [String]()) { names, row in
      if !names.contains(row.method) { names.append(row.method) }
    }
    let picture = TradeOff(
      title: "Pruning \(structure)",
      sizeLabel: isPhysical
        ? "parameters of both towers, millions" : "bytes of the runtime file, millions",
      accuracyLabel: task,
      series: methods.map { name in
        TradeOff.Series(name: name, points: rows.filter { $0.method == name }.map(point))
      }, origin: point(dense))
    try write(picture.svg, to: path)
  }
}

extension UnitScores {
  /// A picture of what is sensitive, heads and neurons each on a scale of their own.
  func draw(_ method: PruningMethod, to path: String) throws {
    let kinds = rows.reduce(into: [String]()) { kinds, row in
      if !kinds.contains(row.kind) { kinds.append(row.kind) }
    }
    let sections = kinds.map { kind in
      HeatMap.Section(
        name: kind,
        rows: rows.filter { $0.kind == kind }.map { row in
          let isSorted = row.importances.count > 64
          // Neurons are too many to tell apart by place; by rank they show how a layer is made.
          return HeatMap.Row(
            name: row.layer, values: isSorted ? row.importances.sorted(by: >) : row.importances)
        })
    }
    try write(
      HeatMap(title: "What matters, by \(method.rawValue)", sections: sections).svg, to: path)
  }
}

/// Writes `text` to `path`, whole or not at all.
func write(_ text: String, to path: String) throws {
  try FileReplacement.write(to: path) { sink in
    try Array(text.utf8).withUnsafeBytes { try sink($0) }
  }
}
