import ArgumentParser
import GraphIR
import Passes

/// `clipc quantize`: turns weights, and on request activations, into integer codes.
struct QuantizeCommand: Command {
  static let configuration = CommandConfiguration(
    commandName: "quantize",
    abstract: "Turn weights, and on request activations, into codes of 2 to 8 bits.",
    discussion: """
      Weights get a scale for each output channel, or with --group-size for each group of \
      neighbouring weights; the token embedding for each row or group. Activations need --data to \
      find their ranges, and with --data scales move between layers where that lowers the error. \
      The result simulates in float what `export` turns into integer kernels.
      """)

  @Argument(help: "A checkpoint folder or clipc model.") var model: String
  @Option(name: .shortAndLong, help: "The quantized clipc model (.h5).") var output: String
  @Option(
    help: ArgumentHelp(
      "Ways to run side by side, with commas between: of \(QuantizationComparison.Method.names.joined(separator: ", ")).",
      valueName: "names"))
  var compare: String?
  @Option(help: "What --compare measures accuracy on; classes or captions.")
  var validation: String?
  @Option(
    help: """
      Statistics of the calibration: read where the file holds those of this model and these \
      samples, written otherwise.
      """)
  var statistics: String?
  @OptionGroup(title: "Formats") var choice: QuantizationChoice
  @OptionGroup(title: "Bits under a budget") var budget: BitBudget
  @OptionGroup(title: "Calibration") var calibration: CalibrationOptions
  @OptionGroup var common: CommonOptions

  func execute() throws {
    let options = try choice.options()
    for one in options where calibration.data == nil {
      let ranges = one.activations.bitCount != nil && !one.isPerToken
      guard !ranges, one.rounding == nil, one.biasTuning == nil else {
        let what =
          ranges
          ? "--activations \(one.activations.rawValue)"
          : one.rounding == nil ? "--tune-biases" : "choosing codes or biases"
        throw Failure(.usage, "\(what) needs --data to calibrate on")
      }
    }
    if let compare {
      guard !budget.isGiven, statistics == nil, budget.sensitivities == nil else {
        throw Failure(.usage, "--compare takes no budget and keeps no statistics")
      }
      return try execute(comparing: compare, options)
    }
    guard validation == nil else {
      throw Failure(.usage, "--validation is what --compare measures on")
    }
    guard options.count == 1, var only = options.first else {
      throw Failure(.usage, "several formats are for --compare")
    }
    only.allowedBits = try budget.bitCounts()
    only.allocationMethod = budget.allocation
    let opened = try OpenedModel(path: model)
    let source = try opened.graphModel(for: "quantize")
    let data = try CalibrationData(calibration, opened, source.graph, common)
    let statistics = try file(opened, data.batches)
    let result: PassResult
    if budget.isGiven {
      result = try budgeted(only, opened, source, data, statistics)
    } else {
      result = try PassRunner(common).run(
        [Quantize(options: only)], on: source, opened, calibration: data.batches,
        pairs: data.pairs, statistics: statistics)
    }
    try result.write(to: output)
    try result.show([], asJSON: common.json, output: output)
  }

  private func budgeted(
    _ options: Quantize.Options, _ opened: OpenedModel, _ source: CLIPModel,
    _ data: CalibrationData, _ statistics: StatisticsFile?
  ) throws -> PassResult {
    guard data.pairs != nil else {
      throw Failure(.usage, "a budget of bits needs --data to measure on")
    }
    let records = RecordFile(
      path: budget.sensitivities ?? output + ".state",
      work: try data.work(opened, "sensitivities of weights", common))
    guard !records.isForeign else {
      throw Failure(
        .malformedInput,
        "\(budget.sensitivities ?? output + ".state"): expected sensitivities of clipc, found "
          + "another file")
    }
    let run = BudgetedQuantization(
      opened: opened, source: source, data: data, common: common, statistics: statistics,
      records: records)
    let result =
      if let target = budget.targetBytes {
        try run.result(options, bytes: target)
      } else if let drop = budget.maxDrop {
        try run.result(options, drop: drop)
      } else {
        try run.result(options, milliseconds: budget.targetMs ?? 0)
      }
    if budget.sensitivities == nil { records.finish() }
    return result
  }

  private func file(
    _ opened: OpenedModel, _ batches: CalibrationBatches?
  ) throws -> StatisticsFile? {
    guard let statistics else { return nil }
    guard let batches else { throw Failure(.usage, "--statistics are those of --data") }
    return try StatisticsFile(path: statistics, opened, batches)
  }

  private func execute(comparing list: String, _ options: [Quantize.Options]) throws {
    let methods = try list.split(separator: ",", omittingEmptySubsequences: false).map { word in
      guard let method = QuantizationComparison.Method(name: String(word)) else {
        let names = QuantizationComparison.Method.names.joined(separator: ", ")
        throw Failure(.usage, "--compare must list names of \(names), found \(word)")
      }
      return method
    }
    let comparison = try QuantizationComparison(
      path: model, calibration, common, validation: validation)
    let base = output.hasSuffix(".json") ? String(output.dropLast(5)) : output
    let report = try comparison.report(methods, options)
    try write(try report.json.text + "\n", to: output)
    try report.draw(to: base + ".svg")
    Terminal.print(common.json ? try report.json.text : report.text)
  }
}
