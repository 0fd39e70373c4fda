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
    let run = try DistillRun(self, keeping: fractions)
    let summary = try Interruption.deferred { try run.execute() }
    if common.json {
      Terminal.print(summary.json(output: output).text)
    } else {
      for line in summary.lines { Terminal.print(printable(line)) }
      Terminal.print("wrote \(printable(output))")
    }
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

/// What a run learns from.
struct TrainingDataOptions: ParsableArguments {
  @Option(help: "Images with captions or classes: a folder, a CSV file or shards.")
  var data: String
  @Option(help: "Class names in order, a line each.") var classes: String?
  @Option(help: "Prompts for class names, a line each, for images without captions.")
  var templates: String?
  @Option(help: "The column of a table that holds image paths.")
  var imageColumn = "filepath"
  @Option(help: "The column of a table that holds captions.") var captionColumn = "title"
  @Option(
    help: "How images are varied, such as crop=0.6,pad=4,flip=0.5,brightness=0.2; or none.")
  var augment = "flip=0.5"
  @Option(help: "Stored teacher embeddings to replay, as `clipc reinforce` writes them.")
  var reinforced: String?
  @Option(help: "Images of classes to measure zero-shot accuracy on as the run goes on.")
  var validation: String?
  @Option(help: "Steps between two measurements of accuracy; a tenth of the run by default.")
  var validateEvery: Int?
}

/// How weights are trained.
struct TrainingOptions: ParsableArguments {
  @Option(help: "Losses with weights, such as affinity=1,feature=0.5.")
  var loss = "affinity"
  @Option(
    help: """
      The factor from cosine to logit of both models in the affinity loss, such as TinyCLIP's 50; \
      own: each its own.
      """)
  var affinityScale = "own"
  @Option(help: "Steps of the run.") var steps: Int?
  @Option(help: "Passes over the data.") var epochs: Double?
  @Option(help: "About how long the run takes.") var minutes: Double?
  @Option(help: "Pairs in a batch.") var batch = 256
  @Option(help: "Pairs that are run at a time; the gradient is that of the whole batch.")
  var microBatch: Int?
  @Flag(help: "Save memory: compute activations anew for the backward half.")
  var recompute = false
  @Option(help: "The highest learning rate; about 2e-4 suits a student of integer codes.")
  var lr = 1e-3
  @Option(help: "constant, linear or cosine.")
  var schedule: LearningRateSchedule.Shape = .cosine
  @Option(help: "Steps until the highest learning rate; a twentieth of the run by default.")
  var warmUp: Int?
  @Option(help: "adamw or sgd.") var optimizer: UpdateOptions.Method = .adamw
  @Option(help: "Weight decay of matrices.") var weightDecay = 0.05
  @Option(help: "none, norm, autoclip, zclip, adagc or stable-spam.")
  var clip: UpdateOptions.Clipping = .norm
  @Option(help: "The largest norm of the gradient, for --clip norm.") var clipNorm = 1.0
  @Option(help: "Decay of averaged weights, such as 0.999; they are what is written.")
  var average: Double?
  @Option(help: "image, text or both: which towers are trained.")
  var tower: TowerSelection = .both
  @Flag(help: "Train a map from the student's embeddings to a teacher's of another size.")
  var project = false
  @Option(help: "Steps of a stage in which masks are learned; a third of it by default.")
  var maskSteps: Int?

  func validate() throws {
    let lengths = [steps != nil, epochs != nil, minutes != nil].filter { $0 }.count
    guard lengths <= 1 else { throw ValidationError("give one of --steps, --epochs, --minutes") }
    guard (steps ?? 1) > 0, (epochs ?? 1) > 0, (minutes ?? 1) > 0 else {
      throw ValidationError("the length of a run must be positive")
    }
    guard batch >= 2, batch <= 1 << 20 else {
      throw ValidationError("--batch must lie in 2...1048576, found \(batch)")
    }
    guard (1...batch).contains(microBatch ?? batch) else {
      throw ValidationError("--micro-batch must lie in 1...\(batch)")
    }
    guard lr > 0, lr.isFinite, weightDecay >= 0, clipNorm > 0 else {
      throw ValidationError("--lr and --clip-norm must be positive, --weight-decay not negative")
    }
    guard (0.0..<1.0).contains(average ?? 0) else {
      throw ValidationError("--average must be at least 0 and below 1")
    }
    guard affinityScale == "own" || (Double(affinityScale) ?? 0) > 0 else {
      throw ValidationError("--affinity-scale must be a positive number or own")
    }
  }
}

extension LearningRateSchedule.Shape: ExpressibleByArgument {}
extension UpdateOptions.Method: ExpressibleByArgument {}
extension UpdateOptions.Clipping: ExpressibleByArgument {}
extension InheritManual.Initialization: ExpressibleByArgument {}
extension InheritManual.Ranking: ExpressibleByArgument {}
