import ArgumentParser
import CKernels
import ClipRuntime
import Export
import Foundation
import ModelFormat

/// `clipc bench`: times a tower in the interpreter.
struct Bench: Command {
  static let configuration = CommandConfiguration(
    abstract: "Time a tower in the interpreter.",
    discussion: """
      A model that is no runtime file is exported in memory first. Times are of whole calls after a
      warm-up; --profile adds the share of every instruction, measured in a run of its own, and how
      each product's weights are stored: panels as they lie in the file; bitmap or pattern, which
      became panels when the file was loaded; sparse, of which zeros are neither kept nor multiplied.
      --roofline measures what the processor can do at best, and tells which share of that each
      product reaches in its fastest call: of its rate of multiply-adds, and of the rate at which
      weights come from memory.
      """)

  /// The towers by name.
  enum TowerName: String, CaseIterable, ExpressibleByArgument {
    case image
    case text
  }

  @Argument(help: "Any model.") var model: String
  @Option(help: "image or text; the first that the model has by default.") var tower: TowerName?
  @Option(help: ArgumentHelp("Images or texts a call.", valueName: "n")) var batch = 1
  @Option(help: ArgumentHelp("Tokens a text; the context length by default.", valueName: "n"))
  var tokens: Int?
  @Option(help: ArgumentHelp("How long to measure.", valueName: "s")) var seconds = 5.0
  @Option(help: "The kernel set to use instead of the best.") var kernels: String?
  @Flag(help: "Time every instruction.") var profile = false
  @Flag(help: "As --profile, and hold products against what the processor can do at best.")
  var roofline = false
  @OptionGroup var common: CommonOptions

  func validate() throws {
    guard (1...4096).contains(batch) else {
      throw ValidationError("--batch must lie in 1...4096, found \(batch)")
    }
    guard seconds > 0, seconds <= 3600 else {
      throw ValidationError("--seconds must be above 0 and at most 3600, found \(seconds)")
    }
  }

  func execute() throws {
    let clock = ContinuousClock()
    let start = clock.now
    let opened = try OpenedModel(path: model)
    let content = try opened.runtimeBytes()
    let reader = try ModelReader(content.bytes)
    let tower = try chosenTower(reader)
    let tokenCount = try checkedTokens(reader, tower)
    let interpreter = try Interpreter(
      ClipRuntime.Model(reader),
      limits: Limits(
        imageCount: tower == .image ? batch : 0, textCount: tower == .text ? batch : 0,
        tokenCount: tokenCount),
      threadCount: min(common.threads, 64), kernelSet: try kernelSet())
    let load = clock.now - start
    var run = BenchRun(
      interpreter, tower: tower, batch: batch, tokenCount: tokenCount, info: reader.info)
    let first = try clock.measure { try run.call() }
    let times = try run.measure(seconds: seconds)
    let isProfiled = profile || roofline
    let nodes = isProfiled ? try run.profile(seconds: min(seconds, 2), reader) : nil
    let peak = roofline ? run.peak(threadCount: min(common.threads, 64)) : nil
    report(
      BenchReport(
        tower: tower == .image ? "image" : "text", batch: batch,
        tokens: tower == .text ? tokenCount : nil, threads: common.threads, times: times,
        load: load, first: first, arenaByteCount: run.arenaByteCount,
        fileByteCount: content.bytes.count, kernelSet: run.kernelSetName,
        nodes: nodes, peak: peak))
    withExtendedLifetime(content) {}
  }

  private func chosenTower(_ reader: ModelReader) throws -> Tower {
    let tower: Tower =
      switch self.tower {
      case .image: .image
      case .text: .text
      case nil: reader.imageProgram == nil ? .text : .image
      }
    guard reader.program(tower) != nil else {
      throw Failure(.malformedInput, "\(model): the file has no \(tower) tower")
    }
    return tower
  }

  private func checkedTokens(_ reader: ModelReader, _ tower: Tower) throws -> Int {
    guard tower == .text else { return 0 }
    let limit = reader.info.contextLength
    let count = tokens ?? limit
    guard count >= 1, count <= limit else {
      throw Failure(.usage, "--tokens must lie in 1...\(limit) for this model, found \(count)")
    }
    return count
  }

  private func kernelSet() throws -> Int? {
    guard let kernels else { return nil }
    for index in 0..<clip_kernel_sets_count()
    where String(cString: clip_kernel_sets_name(index)) == kernels
      && clip_kernel_sets_is_supported(index)
    {
      return index
    }
    throw Failure(.usage, "--kernels must name a set that this processor has, found \(kernels)")
  }

  private func report(_ report: BenchReport) {
    Terminal.print(common.json ? report.json.text : report.text)
  }
}
