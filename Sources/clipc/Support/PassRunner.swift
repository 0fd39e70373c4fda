import Checkpoints
import GraphIR
import Passes

/// A model that passes made, ready to be written.
struct PassResult {
  let model: CLIPModel
  /// What the passes said, line by line.
  let notes: [String]
  /// What the passes measured.
  let figures: [any Encodable & Sendable]

  /// What the first round of a pruning method said of the units; nil where none were asked about.
  var scores: UnitScores? { figures.lazy.compactMap { $0 as? UnitScores }.first }

  /// Shows the notes, or `members` and the first figures as one JSON object.
  func show(_ members: [(String, JSON)], asJSON: Bool, output: String) throws {
    guard asJSON else {
      for line in notes { Terminal.print(printable(line)) }
      return Terminal.print("wrote \(printable(output))")
    }
    // What units scored is for pictures: it would bury the report.
    let reports = try figures.filter { !($0 is UnitScores) }.map { try JSON.encoding($0) }
    Terminal.print(
      JSON.object([("output", .text(output))] + members + [("report", reports.first ?? .null)]).text
    )
  }

  /// Writes the clipc model file.
  func write(to path: String) throws { try ModelFile.write(model, to: path) }
}

/// Runs passes with the common options and shows what they report.
struct PassRunner {
  private let common: CommonOptions

  init(_ common: CommonOptions) { self.common = common }

  /// Runs `passes` on `model`, with calibration data and records where there are some.
  func run(
    _ passes: [any Pass], on model: CLIPModel, _ opened: OpenedModel,
    calibration: (any BatchSource)? = nil, pairs: (() throws -> PairSet)? = nil,
    records: (any WorkRecords)? = nil, statistics: (any TensorRecords)? = nil
  ) throws -> PassResult {
    var notes: [String] = []
    var figures: [any Encodable & Sendable] = []
    var bar: (stage: String, progress: Progress)?
    let context = PassContext(
      seed: common.seed, threadCount: common.threads, calibration: calibration, pairs: pairs,
      records: records, statistics: statistics
    ) { event in
      switch event {
      case .note(let line): notes.append(line)
      case .result(let result): figures.append(result)
      case .warning(let text): Terminal.warn(text)
      case .progress(let stage, let done, let total):
        if bar?.stage != stage {
          bar?.progress.finish()
          bar = (stage, Progress(stage, total: total > 0 ? total : nil))
        }
        bar?.progress.update(done)
      }
    }
    var result = model
    result.graph = try PassPipeline(passes).run(
      on: model.graph, inputSHA256: try opened.sha256(), in: context)
    bar?.progress.finish()
    return PassResult(model: result, notes: notes, figures: figures)
  }
}
