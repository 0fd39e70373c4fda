import ArgumentParser
import Checkpoints
import GraphIR
import Passes
import Training

/// `clipc upcycle`: makes a dense model one of experts.
struct UpcycleCommand: Command {
  static let configuration = CommandConfiguration(
    commandName: "upcycle",
    abstract: "Turn feed-forward layers into mixtures of experts, and train them.",
    discussion: """
      Every token goes through --top-k of a layer's --experts, which a router chooses. clip-up: experts
      begin as copies, and all is trained. clip-moe: each expert but the first is trained in turn, as
      a dense model's feed-forward layers, on batches of what the one before finds alike; then the
      routers, with the rest frozen; then, with --continue-share, all of it. Without --data and a
      length OUT is the model before training, which computes what MODEL does.
      """)

  /// How experts come to differ.
  enum Method: String, ExpressibleByArgument, CaseIterable {
    case clipUp = "clip-up"
    case clipMoE = "clip-moe"
  }

  @Argument(help: "A checkpoint folder or clipc model.") var model: String
  @Option(name: .shortAndLong, help: "The clipc model with experts (.h5).") var output: String
  @Option(help: "clip-up or clip-moe.") var method: Method
  @OptionGroup var experts: ExpertOptions
  @Option(
    name: .customLong("data"),
    help: "Images with captions or classes to train on: a folder, a CSV file or shards.")
  var dataPath: String?
  @OptionGroup var data: TrainingDataOptions
  @OptionGroup var training: TrainingOptions
  @Flag(help: "Go on from the state saved for the same OUT.") var resume = false
  @Option(help: "Seconds between two states that are saved.") var saveEvery = 60.0
  @OptionGroup var common: CommonOptions

  func execute() throws {
    let options = try experts.options(method, training.tower)
    let isTrained =
      training.steps != nil || training.epochs != nil || training.minutes != nil
    guard let dataPath, isTrained else {
      guard dataPath == nil, !isTrained else {
        throw Failure(
          .usage, "training takes --data and one of --steps, --epochs, --minutes; give both or none"
        )
      }
      let opened = try OpenedModel(path: model)
      let result = try PassRunner(common).run(
        [Upcycle(options: options)], on: try opened.graphModel(for: "upcycle"), opened)
      try result.write(to: output)
      return try result.show(
        [("method", .text(method.rawValue))], asJSON: common.json, output: output)
    }
    let job = UpcycleJob(command: self, dataPath: dataPath, options: options)
    let run = try TrainingRun(job, teacher: model, student: nil)
    let summary = try Interruption.deferred { try run.execute() }
    try ExpertLoads(log: run.files.log)?.draw(to: run.files.loads)
    summary.show(asJSON: common.json, output: output)
  }
}

/// What the mixtures are, and how they are trained.
struct ExpertOptions: ParsableArguments {
  @Option(help: "Experts of a layer.") var experts = Upcycle.Options().experts
  @Option(help: "Experts that a token goes through.") var topK = Upcycle.Options().topK
  @Option(
    help: """
      Tokens that an expert takes of an image or text, as a multiple of its even share; the others \
      skip it. By default as many as come.
      """)
  var capacity: Double?
  @Option(
    help: """
      every-other, last:N, all, or numbers from 1 such as 2,4,6, which can name a tower as in \
      image:5,text:2.
      """)
  var layers = Upcycle.Options().layers
  @Option(help: "tokens choose experts, or experts choose tokens (image tower, with --capacity).")
  var choice = Upcycle.Options().choice
  @Flag(
    inversion: .prefixedNo, help: "Whether the weights of a token's experts add up to one.")
  var normalizeGates = true
  @Option(
    help: "normal or uniform: how routers begin; by default normal for clip-up, else uniform.")
  var router: Upcycle.RouterStart?
  @Option(help: "The standard deviation of a normal router's weights.")
  var routerDeviation = Upcycle.Options().routerDeviation
  @Option(help: "Noise on all experts but the first, as a share of a weight's root mean square.")
  var noise = Upcycle.Options().noise
  @Option(help: "Weight of the load-balancing loss.") var balance = RoutingTraining().balance
  @Option(help: "Weight of the router z-loss.") var routerZ = RoutingTraining().routerZ
  @Option(
    help: """
      How probable it is that a number between the products of an expert is dropped in a step of \
      training; by default 0.1 for clip-moe, else 0.
      """)
  var expertDropout: Double?
  @Option(
    help: """
      clip-moe: clusters of images, and of texts, in each stage; with 1 experts differ by the order \
      of their batches alone.
      """)
  var clusters = 3
  @Option(help: "clip-moe: the share of the run in which only routers are trained.")
  var routerShare = 0.1
  @Option(help: "clip-moe: the share of the run, its end, in which all is trained.")
  var continueShare = 0.0

  func validate() throws {
    guard balance >= 0, balance.isFinite, routerZ >= 0, routerZ.isFinite else {
      throw ValidationError("--balance and --router-z must not be negative")
    }
    if let expertDropout, expertDropout != 0, !(0.001...0.9).contains(expertDropout) {
      throw ValidationError(
        "--expert-dropout must be 0 or lie in 0.001...0.9, found \(expertDropout)")
    }
    guard (1...64).contains(clusters) else {
      throw ValidationError("--clusters must lie in 1...64, found \(clusters)")
    }
    guard routerShare > 0, continueShare >= 0, routerShare + continueShare < 1 else {
      throw ValidationError(
        "--router-share must be positive, --continue-share not negative, both together below 1")
    }
  }

  /// The choices of the pass.
  func options(
    _ method: UpcycleCommand.Method, _ tower: TowerSelection
  ) throws -> Upcycle.Options {
    var options = Upcycle.Options()
    options.experts = experts
    options.topK = topK
    options.capacity = capacity
    options.layers = layers
    options.tower = tower
    options.choice = choice
    options.normalizesGates = normalizeGates
    options.router = router ?? (method == .clipUp ? .normal : .uniform)
    options.routerDeviation = routerDeviation
    options.noise = noise
    return options
  }

  /// What joins the losses.
  func routing(_ method: UpcycleCommand.Method) -> RoutingTraining {
    var routing = RoutingTraining()
    routing.balance = balance
    routing.routerZ = routerZ
    routing.dropout = expertDropout ?? (method == .clipMoE ? 0.1 : 0)
    return routing
  }
}

extension LayerChoice: ExpressibleByArgument {
  package init?(argument: String) { self.init(parsing: argument) }

  package var defaultValueDescription: String { description }
}

extension Upcycle.Choice: ExpressibleByArgument {}
extension Upcycle.RouterStart: ExpressibleByArgument {}
