import ArgumentParser
import Execution
import Passes
import Training

/// How the data of a run are read and varied.
struct TrainingDataOptions: ParsableArguments {
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

/// What linear layers multiply in a step.
enum TrainingPrecision: String, CaseIterable, ExpressibleByArgument {
  case float32
  case bfloat16

  var arithmetic: Arithmetic { self == .bfloat16 ? .mixed : .fast }
}

/// How weights are trained.
struct TrainingOptions: ParsableArguments {
  @Option(
    help: """
      Losses with weights, such as affinity=1,feature=0.5; distill takes affinity by default, upcycle \
      contrastive.
      """)
  var loss: String?
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
  @Option(
    help: """
      float32, or bfloat16: what linear layers multiply is rounded to it, which is faster on \
      processors with products of bfloat16. Weights and sums stay float32.
      """)
  var precision: TrainingPrecision = .float32
  @Option(
    help: """
      The highest learning rate; by default 1e-3 for distill, where about 2e-4 suits a student of \
      integer codes, and 1e-4 for upcycle.
      """)
  var lr: Double?
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
    guard lr ?? 1 > 0, (lr ?? 1).isFinite, weightDecay >= 0, clipNorm > 0 else {
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
