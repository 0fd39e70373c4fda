import ArgumentParser
import GraphIR
import Passes

/// `clipc prune`: takes out of a model what matters least to it.
struct PruneCommand: Command {
  static let configuration = CommandConfiguration(
    commandName: "prune",
    abstract: "Take weights, heads, neurons, channels or layers out of a model.",
    discussion: """
      --sparsity is the fraction removed of what --structure names, over the pruned towers without
      embeddings: weights for `weights` and patterns, all parameters for `heads`, `neurons`,
      `width` and `layers`, whose tensors become physically smaller. A pattern such as `2:4` keeps
      2 of every 4 weights; `4x4` takes out tiles. All methods but magnitude and random measure the
      model on --data. Work of more than a moment leaves OUT.state when it is interrupted, and the
      same command goes on from there. --merge-tokens and --drop-tokens take tokens of the image
      tower out of the computation, after or instead of pruning. With --compare, OUT is the report (.json), beside which
      stand pictures (.svg): accuracy over size, and for each method what it found sensitive.
      """)

  @Argument(help: "A checkpoint folder or clipc model.") var model: String
  @Option(name: .shortAndLong, help: "The pruned clipc model (.h5).") var output: String
  @Option(
    help: ArgumentHelp(
      "What decides: \(PruningMethod.allCases.map(\.rawValue).joined(separator: ", ")).",
      valueName: "name"))
  var method: PruningMethod = .magnitude
  @Option(help: "Methods to run side by side, with commas between.") var compare: String?
  @Option(help: "What --compare measures accuracy on; classes or captions.")
  var validation: String?
  @Option(help: "A picture to draw of what the method found sensitive (.svg).")
  var sensitivity: String?
  @OptionGroup var choice: PruningChoice
  @OptionGroup var methods: MethodOptions
  @OptionGroup var tokens: TokenOptions
  @OptionGroup var calibration: CalibrationOptions
  @OptionGroup var common: CommonOptions

  func execute() throws {
    if let compare { return try execute(comparing: compare) }
    var options = Prune.Options()
    let prunes = choice.isGiven || method == .maskTuning || !tokens.isGiven
    if prunes { options = try choice.options(method, methods) }
    let run = try PruningRun(path: model, calibration, common, tokens: try tokens.passes())
    let records = RecordFile(
      path: output + ".state",
      work: try run.data.work(run.opened, options, common))
    let result: PassResult
    if !prunes {
      result = try run.resultOfTokens()
    } else if let target = choice.targetMs {
      result = try run.result(options, milliseconds: target, records: records)
    } else if choice.towerSplit == .auto {
      result = try run.resultOfBestSplit(options, records: records)
    } else {
      result = try run.result(options, records: records)
    }
    if tokens.isGiven { try run.sayWhatTokensBring(result) }
    try result.write(to: output)
    if let sensitivity {
      guard let scores = result.scores else {
        throw Failure(.usage, "--sensitivity shows units, of which \(choice.structure) has none")
      }
      try scores.draw(method, to: sensitivity)
    }
    records.finish()
    try result.show([("method", .text(method.rawValue))], asJSON: common.json, output: output)
  }

  private func execute(comparing list: String) throws {
    let compared = try list.split(separator: ",", omittingEmptySubsequences: false).map { word in
      guard let method = PruningMethod(rawValue: String(word)) else {
        let names = PruningMethod.allCases.map(\.rawValue).joined(separator: ", ")
        throw Failure(.usage, "--compare must list methods of \(names), found \(word)")
      }
      return method
    }
    let run = try PruningRun(path: model, calibration, common, tokens: try tokens.passes())
    let comparison = try PruningComparison(
      run, choice, methods, calibration, validation: validation)
    let base = output.hasSuffix(".json") ? String(output.dropLast(5)) : output
    let report = try comparison.report(compared, base: base)
    try write(try report.json.text + "\n", to: output)
    try report.draw(to: base + ".svg")
    Terminal.print(common.json ? try report.json.text : report.text)
  }
}

extension PruningMethod: ExpressibleByArgument {}
extension PruningScope: ExpressibleByArgument {}
extension TowerSelection: ExpressibleByArgument {}
extension TowerSplit.Rule: ExpressibleByArgument {}
