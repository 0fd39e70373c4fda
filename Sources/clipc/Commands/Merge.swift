import ArgumentParser
import Checkpoints
import GraphIR
import Passes

/// `clipc merge`: makes one model of several of the same architecture.
struct MergeCommand: Command {
  static let configuration = CommandConfiguration(
    commandName: "merge",
    abstract: "Make one model of several.",
    discussion: """
      The models have one architecture and float weights. uniform is their mean; greedy takes them \
      in one by one, best first, as long as accuracy on --data does not fall; weights is the mean \
      with --weights. weight-matching first puts heads, neurons and channels of the other models \
      into the order of the first one's, by their weights. pleas merges two models by what they \
      compute on --data: what is alike is averaged, the rest stands side by side as far as --budget \
      allows, and every layer is solved for the features of both.
      Pruned weights are averaged under the same mask only; codes are not averaged at all.
      With --experts one model of experts is taken, whose layers are left with so many: those that are
      alike merge, or those used least on --data go.
      """)

  @Argument(help: "Checkpoint folders or clipc models.") var models: [String]
  @Option(name: .shortAndLong, help: "The merged clipc model (.h5).") var output: String
  @Option(
    help: ArgumentHelp(
      """
      What becomes of the models: \(MergeMethod.allCases.map(\.rawValue).joined(separator: ", ")); \
      uniform by default, weights where --weights are given.
      """, valueName: "name"))
  var method: MergeMethod?
  @Option(
    help: ArgumentHelp(
      "How much each model counts, with commas between; also for weight-matching.",
      valueName: "a,b,..."))
  var weights: String?
  @Option(
    help: ArgumentHelp(
      "pleas: heads and neurons of the merged model relative to one of the two, 1 to 2; 1.2 by "
        + "default.", valueName: "x"))
  var budget: Double?
  @Option(
    help: ArgumentHelp(
      "pleas: how much layers stay with the weights they start with, as a share of their inputs' "
        + "mean square; 1e-4 by default.", valueName: "x"))
  var ridge: Double?
  @Option(help: "Leave each layer of a model of experts so many.") var experts: Int?
  @Option(
    help: "With --experts: merge, those that are alike become one; prune, those used least go.")
  var expertMethod = MergeExperts.Options().method
  @Option(help: "Data to measure every model and the merged one on; classes or captions.")
  var validation: String?
  @OptionGroup(title: "Data") var calibration: CalibrationOptions
  @OptionGroup var common: CommonOptions

  func execute() throws {
    if let experts { return try mergeExperts(leaving: experts) }
    let method = method ?? (weights == nil ? .uniform : .weights)
    try checkOptions(method)
    let shares = try weights.map { try Self.numbers(in: $0) }
    var partial = PartialMerge.Options()
    partial.budget = budget ?? partial.budget
    partial.ridge = ridge ?? partial.ridge
    let run = try MergeRun(models, method, common)
    let measure = try validation.map {
      try AccuracyMeasure(calibration, validation: $0, common)
    }
    let (model, report) = try run.result(
      method, weights: shares, partial, calibration, validation: measure)
    try ModelFile.write(model, to: output)
    guard common.json else {
      for line in report.lines { Terminal.print(line) }
      return Terminal.print("wrote \(printable(output))")
    }
    Terminal.print(
      JSON.object([("output", .text(output)), ("report", try .encoding(report))]).text)
  }

  private func mergeExperts(leaving count: Int) throws {
    guard models.count == 1, method == nil, weights == nil else {
      throw Failure(.usage, "--experts takes one model, and neither --method nor --weights")
    }
    let opened = try OpenedModel(path: models[0])
    let model = try opened.graphModel(for: "merge")
    var options = MergeExperts.Options()
    options.experts = count
    options.method = expertMethod
    let data = try CalibrationData(calibration, opened, model.graph, common)
    let result = try PassRunner(common).run(
      [MergeExperts(options: options)], on: model, opened, calibration: data.batches)
    try result.write(to: output)
    try result.show(
      [("method", .text(expertMethod.rawValue))], asJSON: common.json, output: output)
  }

  /// Options that the method would silently leave aside are refused.
  private func checkOptions(_ method: MergeMethod) throws {
    let takesData = method == .greedy || method == .pleas
    let misplaced: [(String, Bool, String)] = [
      (
        "--weights", weights != nil && method != .weights && method != .weightMatching,
        "weights and weight-matching"
      ),
      ("--budget", budget != nil && method != .pleas, "pleas"),
      ("--ridge", ridge != nil && method != .pleas, "pleas"),
      ("--calibration-samples", calibration.calibrationSamples != nil && method != .pleas, "pleas"),
      ("--select", calibration.select != .random && method != .pleas, "pleas"),
      ("--data", calibration.data != nil && !takesData, "greedy and pleas"),
    ]
    for (option, isMisplaced, place) in misplaced where isMisplaced {
      throw Failure(.usage, "\(option) is for --method \(place), found \(method.rawValue)")
    }
    if takesData, calibration.data == nil {
      throw Failure(.usage, "--method \(method.rawValue) needs --data")
    }
    if method == .weights, weights == nil {
      throw Failure(.usage, "--method weights needs --weights, a number for each model")
    }
  }

  private static func numbers(in list: String) throws -> [Double] {
    try list.split(separator: ",", omittingEmptySubsequences: false).map { word in
      guard let number = Double(word), number.isFinite else {
        throw Failure(.usage, "--weights must list numbers with commas between, found \(list)")
      }
      return number
    }
  }
}

extension MergeMethod: ExpressibleByArgument {}
extension MergeExperts.Method: ExpressibleByArgument {}
