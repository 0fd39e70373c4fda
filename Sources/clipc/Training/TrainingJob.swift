import GraphIR
import Passes
import Training

/// Training that a command asks for: what is trained, phase by phase, and towards what.
protocol TrainingJob {
  /// The name of the work in provenance, in progress and in messages.
  static var name: String { get }

  /// The losses where none are named.
  static var defaultLoss: String { get }
  /// The learning rate where none is given.
  static var defaultRate: Double { get }

  /// The trained clipc model.
  var output: String { get }
  /// What the run learns from.
  var dataPath: String { get }
  /// How the data are read and varied.
  var data: TrainingDataOptions { get }
  /// How weights are trained.
  var training: TrainingOptions { get }
  /// Bits of the gradients that linears pass on; nil for float32.
  var gradientBits: Int? { get }
  /// Threads and seed.
  var common: CommonOptions { get }
  /// Whether the run goes on from a saved state.
  var resume: Bool { get }
  /// Seconds between two states that are saved.
  var saveEvery: Double { get }

  /// Throws where `student` cannot be trained as asked, before anything is computed.
  func check(_ student: Graph, _ run: TrainingRun) throws

  /// The phases of a run of `steps` steps.
  func phases(steps: Int, _ run: TrainingRun) throws -> [TrainingPhase]

  /// The fewest steps that have every phase.
  var leastStepCount: Int { get }

  /// The phase whose steps say how long a step takes.
  var timedPhase: Int { get }

  /// What decides the bits of the result beside data, training and models, by name in words.
  var texts: [String: String] { get }
}

/// A part of a run with a graph of one shape and a schedule of its own.
struct TrainingPhase {
  /// Steps of training.
  let steps: Int
  /// Makes of the graph that the phase before left the one that this begins with.
  var start: ((Graph) throws -> Graph)?
  /// How the graph is trained.
  let form: (Graph) throws -> any TrainedForm
  /// The group of each sample where batches are of one group each, -1 for samples that are left
  /// out, decided from the graph with which the phase begins; nil where all samples mix.
  var groups: ((Graph) throws -> [Int])?
  /// Whether the learning rate rises over the whole of it, as while masks are learned.
  var isWarmUp = false
  /// What the run's learning rate is multiplied by.
  var rateFactor = 1.0
  /// Whether the factor from cosine to logit stays as it is, whatever the losses.
  var freezesScale = false
}

extension TrainingJob {
  var timedPhase: Int { 0 }

  /// The losses in words.
  var loss: String { training.loss ?? Self.defaultLoss }
}
