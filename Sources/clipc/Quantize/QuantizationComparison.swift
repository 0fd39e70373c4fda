import Charts
import Foundation
import GraphIR
import Passes

/// Several ways to quantize at several bit widths, each measured: one table, JSON and a picture.
struct QuantizationComparison {
  /// What is varied beside formats: how ranges are chosen, or how codes are.
  struct Method {
    let name: String
    let clipping: ClippingRule?
    let rounding: LayerRounding.Method?

    /// The method called `name`.
    init?(name: String) {
      self.name = name
      clipping = ClippingRule(rawValue: name)
      rounding = LayerRounding.Method(rawValue: name)
      if clipping == nil, rounding == nil { return nil }
    }

    /// What methods are called.
    static var names: [String] {
      ClippingRule.allCases.map(\.rawValue) + LayerRounding.Method.allCases.map(\.rawValue)
    }
  }

  /// One quantized model.
  struct Row: Codable {
    let method: String
    let weights: String
    let activations: String
    /// Zero-shot top-1, or the mean of both recalls at 1 where the data have captions.
    let accuracy: Double
    /// The mean cosine of image embeddings to the float model's on calibration data.
    let imageCosine: Double?
    /// The same for texts.
    let textCosine: Double?
    /// Of the runtime file.
    let fileBytes: Int
    let seconds: Double
    /// Signal over error in decibels of each weight and activation.
    let layers: [String: Double]
    /// The relative error of what each layer answers to calibration data, by its weight, where codes
    /// were chosen by that.
    let outputErrors: [String: Double]
  }

  /// The whole comparison.
  struct Report: Codable {
    let model: String
    let task: String
    let samples: Int
    let float: Row
    let rows: [Row]
  }

  private let opened: OpenedModel
  private let source: CLIPModel
  private let data: CalibrationData
  /// What one run found out about the model and the data, for the others.
  private let statistics = KeptStatistics()
  private let common: CommonOptions
  private let measure: AccuracyMeasure

  /// Prepares to measure on `validation`, or on the calibration data where that is nil.
  init(
    path: String, _ calibration: CalibrationOptions, _ common: CommonOptions, validation: String?
  ) throws {
    opened = try OpenedModel(path: path)
    source = try opened.graphModel(for: "quantize")
    data = try CalibrationData(calibration, opened, source.graph, common)
    self.common = common
    measure = try AccuracyMeasure(calibration, validation: validation, common)
  }

  /// Runs every method with every pair of formats.
  func report(_ methods: [Method], _ choices: [Quantize.Options]) throws -> Report {
    let float = try row("float", source, seconds: 0) { _ in "float32" }
    var rows: [Row] = []
    for choice in choices {
      for method in methods {
        var options = choice
        if let clipping = method.clipping { options.clipping = clipping }
        if let rounding = method.rounding, rounding != .nearest || options.rounding != nil {
          var own = options.rounding ?? LayerRounding.Options()
          own.method = rounding
          options.rounding = own
        }
        let start = ContinuousClock.now
        let result = try PassRunner(common).run(
          [Quantize(options: options)], on: source, opened, calibration: data.batches,
          pairs: data.pairs, statistics: statistics)
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        let figures = result.figures.lazy.compactMap { $0 as? QuantizationReport }.first
        let made = try row(
          method.name, result.model, seconds: seconds, figures
        ) { $0 == "weights" ? options.weights.rawValue : options.activations.rawValue }
        rows.append(made)
        Terminal.say(
          "\(made.method), \(made.weights) x \(made.activations): \(measure.task) "
            + String(format: "%.4f", made.accuracy))
      }
    }
    return Report(
      model: opened.path, task: measure.task, samples: measure.sampleCount, float: float,
      rows: rows)
  }

  private func row(
    _ method: String, _ model: CLIPModel, seconds: Double, _ report: QuantizationReport? = nil,
    _ format: (String) -> String
  ) throws -> Row {
    let opened = OpenedModel(model, name: "the quantized model")
    func cosine(_ tower: Tower) -> Double? {
      report?.towers.first { $0.tower == tower }?.meanCosine
    }
    var (layers, outputErrors): ([String: Double], [String: Double]) = ([:], [:])
    for row in report?.rows ?? [] { layers[row.name] = row.signalToNoise }
    for error in report?.layers ?? [] { outputErrors[error.layer] = error.after }
    return Row(
      method: method, weights: format("weights"), activations: format("activations"),
      accuracy: try measure.accuracy(of: opened), imageCosine: cosine(.image),
      textCosine: cosine(.text),
      fileBytes: try opened.runtimeBytes().bytes.count, seconds: seconds, layers: layers,
      outputErrors: outputErrors)
  }
}

extension QuantizationComparison.Report {
  /// The comparison as tables for people: the models, then the layers, then what is known of the
  /// layers' outputs.
  var text: String {
    func cosine(_ value: Double?) -> String {
      value.map { String(format: "%.5f", $0) } ?? "-"
    }
    let head = [
      "method", "weights", "activations", task, "image cosine", "text cosine", "file bytes",
      "seconds",
    ]
    let models = ([float] + rows).map { row in
      [
        row.method, row.weights, row.activations, String(format: "%.4f", row.accuracy),
        cosine(row.imageCosine), cosine(row.textCosine), "\(row.fileBytes)",
        String(format: "%.1f", row.seconds),
      ]
    }
    let tables = [
      table([head] + models), layerTable("signal over error, dB", "%.1f", \.layers),
      layerTable("relative error of the output", "%.4f", \.outputErrors),
    ]
    return tables.compactMap { $0 }.joined(separator: "\n")
  }

  /// A figure of each layer, the models side by side; nil where no model has it.
  private func layerTable(
    _ title: String, _ format: String,
    _ figures: (QuantizationComparison.Row) -> [String: Double]
  ) -> String? {
    let names = Set(rows.flatMap { figures($0).keys }).sorted()
    guard !names.isEmpty else { return nil }
    let head = [title] + rows.map { "\($0.method) \($0.weights)x\($0.activations)" }
    return table(
      [head]
        + names.map { name in
          [name] + rows.map { figures($0)[name].map { String(format: format, $0) } ?? "-" }
        })
  }

  /// The comparison as a JSON object.
  var json: JSON { get throws { try .encoding(self) } }

  /// Accuracy over the bytes of the runtime file.
  func draw(to path: String) throws {
    func point(_ row: QuantizationComparison.Row) -> TradeOff.Point {
      TradeOff.Point(size: Double(row.fileBytes) / 1e6, accuracy: row.accuracy)
    }
    let names = rows.reduce(into: [String]()) { names, row in
      if !names.contains(row.method) { names.append(row.method) }
    }
    let picture = TradeOff(
      title: "Quantization", sizeLabel: "bytes of the runtime file, millions",
      accuracyLabel: task,
      series: names.map { name in
        TradeOff.Series(name: name, points: rows.filter { $0.method == name }.map(point))
      }, origin: point(float))
    try write(picture.svg, to: path)
  }
}
