import ArgumentParser
import Checkpoints
import Datasets
import Foundation
import GraphIR
import Passes
import Training

/// `clipc distill`: trains a small model to do what a large one does.
struct Distill: Command {
  static let configuration = CommandConfiguration(
    abstract: "Train a small model to do what a large one does.",
    discussion: """
      The student is a model of its own (--student), as pruned or quantized as it may be, or it
      inherits part of the teacher (--inherit): by choice of layers, heads, neurons and widths
      (manual), or by masks that are learned while the student is trained (automatic). With --prune
      its weights become sparse while it is trained; OUT holds the masks. A quantized student is trained
      as what its codes compute, and OUT holds codes again. Beside OUT
      stand the log (.log.jsonl), the curve (.svg) and, until the run is complete, the state from
      which --resume goes on (.state).
      """)

  /// How the student inherits.
  enum Inheritance: String, ExpressibleByArgument, CaseIterable {
    case manual
    case automatic
  }

  @Option(help: "The model to learn from.") var teacher: String
  @Option(help: "The model to train.") var student: String?
  @Option(help: "manual or automatic: make the student of the teacher.")
  var inherit: Inheritance?
  @Option(help: "The fraction of the teacher's tower parameters that the student has.")
  var keep: Double?
  @OptionGroup var dimensions: StudentDimensions
  @Option(help: "Compress in stages, such as 0.75,0.5: the last is --keep.")
  var stages: String?
  @Option(name: .shortAndLong, help: "The trained clipc model (.h5).") var output: String
  @Option(
    name: .customLong("data"),
    help: "Images with captions or classes: a folder, a CSV file or shards.")
  var dataPath: String
  @OptionGroup var data: TrainingDataOptions
  @OptionGroup var training: TrainingOptions
  @OptionGroup var pruning: DistillPruning
  @OptionGroup var quantization: DistillQuantization
  @Flag(help: "Go on from the state saved for the same OUT.") var resume = false
  @Option(help: "Seconds between two states that are saved.") var saveEvery = 60.0
  @OptionGroup var common: CommonOptions

  func execute() throws {
    guard (student == nil) != (inherit == nil) else {
      throw Failure(.usage, "give either --student MODEL or --inherit manual|automatic")
    }
    let fractions = try keptFractions()
    if try pruning.options() != nil, inherit == .automatic {
      throw Failure(
        .usage,
        "--prune goes with --student or --inherit manual; make the result sparse in a run of its "
          + "own")
    }
    if try pruning.options() != nil, quantization.asksForCodes {
      throw Failure(.usage, "--clip-update and --estimator do not go with --prune")
    }
    let run = try TrainingRun(
      DistillJob(command: self, fractions: fractions), teacher: teacher, student: student)
    try Interruption.deferred { try run.execute() }.show(asJSON: common.json, output: output)
  }

  /// The fraction that each stage ends with; empty where a student is given.
  private func keptFractions() throws -> [Double] {
    guard inherit != nil else {
      guard keep == nil, stages == nil, dimensions.isEmpty else {
        throw Failure(.usage, "--keep, --stages and dimensions go with --inherit")
      }
      return []
    }
    if inherit == .automatic, !dimensions.isEmpty {
      throw Failure(.usage, "dimensions go with --inherit manual; automatic takes --keep")
    }
    if inherit == .automatic, training.tower != .both {
      throw Failure(.usage, "--tower goes with --student or --inherit manual")
    }
    var fractions: [Double] = []
    for part in stages?.split(separator: ",", omittingEmptySubsequences: false) ?? [] {
      guard let fraction = Double(String(part)), fraction > 0, fraction < (fractions.last ?? 1)
      else {
        throw Failure(
          .usage, "--stages must list falling fractions below 1, such as 0.75,0.5, found \(part)")
      }
      fractions.append(fraction)
    }
    if let keep {
      guard keep > 0, keep <= 1 else {
        throw Failure(.usage, "--keep must lie above 0 and at most be 1, found \(keep)")
      }
      if fractions.last.map({ $0 > keep }) ?? true { fractions.append(keep) }
      guard fractions.last == keep else {
        throw Failure(.usage, "--stages must not go below --keep")
      }
    }
    guard !fractions.isEmpty || !dimensions.isEmpty else {
      throw Failure(.usage, "--inherit needs --keep, --stages or dimensions")
    }
    guard dimensions.isEmpty || fractions.isEmpty else {
      throw Failure(.usage, "give either --keep or dimensions")
    }
    return fractions
  }
}

/// Dimensions of a student, each that of the teacher where it is not given.
struct StudentDimensions: ParsableArguments {
  @Option(help: "Blocks of the image tower.") var imageLayers: Int?
  @Option(help: "Attention heads of an image block.") var imageHeads: Int?
  @Option(help: "MLP neurons of an image block.") var imageNeurons: Int?
  @Option(help: "Channels between image blocks.") var imageWidth: Int?
  @Option(help: "Blocks of the text tower.") var textLayers: Int?
  @Option(help: "Attention heads of a text block.") var textHeads: Int?
  @Option(help: "MLP neurons of a text block.") var textNeurons: Int?
  @Option(help: "Channels between text blocks.") var textWidth: Int?
  @Option(help: "inherited, or random: fresh weights in the inherited shape.")
  var initialization: InheritManual.Initialization = .inherited
  @Option(help: "importance, or front: which units a smaller block keeps.")
  var ranking: InheritManual.Ranking = .importance

  /// Whether no dimension is given.
  var isEmpty: Bool { image == InheritDimensions() && text == InheritDimensions() }

  var image: InheritDimensions {
    InheritDimensions(
      layers: imageLayers, heads: imageHeads, neurons: imageNeurons, width: imageWidth)
  }

  var text: InheritDimensions {
    InheritDimensions(
      layers: textLayers, heads: textHeads, neurons: textNeurons, width: textWidth)
  }
}

extension InheritManual.Initialization: ExpressibleByArgument {}
extension InheritManual.Ranking: ExpressibleByArgument {}
