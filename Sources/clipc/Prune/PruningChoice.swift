import ArgumentParser
import Passes

/// What goes and how much of it.
struct PruningChoice: ParsableArguments {
  @Option(help: "The fraction to remove, from 0 to below 1; a list with --compare.")
  var sparsity: String?
  @Option(help: "The parameters that the pruned towers are left with, embeddings aside.")
  var targetParameters: Int?
  @Option(help: "The multiply-accumulates that an image and a full text together are left with.")
  var targetMacs: Int?
  @Option(
    help: """
      The milliseconds that the interpreter takes on this machine for one image, one full text, or \
      both, as --tower says.
      """)
  var targetMs: Double?
  @Option(help: "The fraction to remove from the image tower.") var imageSparsity: Double?
  @Option(help: "The fraction to remove from the text tower.") var textSparsity: Double?
  @Option(help: "What goes: a list of \(PruningStructure.choices).")
  var structure = "weights"
  @Option(help: "Compare over the whole model or within each layer: global or layer.")
  var scope: PruningScope?
  @Option(help: "image, text or both.") var tower: TowerSelection = .both
  @Option(
    help: "How towers share what goes: none, as importances have it, or auto, measured on --data.")
  var towerSplit: TowerSplit.Rule = .none
  @Option(help: "In how many steps units go, importances measured anew before each.")
  var rounds: Int?
  @Option(
    help: "With layers beside units: the share of what goes that whole layers make up.")
  var depthShare = 1.0 / 3

  func validate() throws {
    let targets = [sparsity != nil, targetParameters != nil, targetMacs != nil, targetMs != nil]
    guard targets.count(where: { $0 }) <= 1 else {
      throw ValidationError("one of --sparsity and the --target options at a time")
    }
    if let targetMs, !(targetMs > 0 && targetMs.isFinite) {
      throw ValidationError("--target-ms must be positive, found \(targetMs)")
    }
    let hasOwnShares = imageSparsity != nil || textSparsity != nil
    guard towerSplit == .none || (sparsity != nil && tower == .both && !hasOwnShares) else {
      throw ValidationError("--tower-split auto shares a --sparsity between both towers")
    }
    if let rounds, !(1...100).contains(rounds) {
      throw ValidationError("--rounds must lie in 1...100, found \(rounds)")
    }
    guard depthShare >= 0, depthShare <= 1 else {
      throw ValidationError("--depth-share must lie in 0...1, found \(depthShare)")
    }
    for (name, count) in [("parameters", targetParameters), ("macs", targetMacs)] {
      if let count, count <= 0 {
        throw ValidationError("--target-\(name) must be positive, found \(count)")
      }
    }
  }

  /// Whether something says how much goes, or a structure other than the standard one what.
  var isGiven: Bool {
    sparsity != nil || targetParameters != nil || targetMacs != nil || targetMs != nil
      || imageSparsity != nil || textSparsity != nil || structure != "weights"
  }

  /// The shares that --sparsity lists; none where it is left out.
  func sparsities() throws -> [Double] {
    try (sparsity ?? "").split(separator: ",", omittingEmptySubsequences: false).compactMap {
      word in
      if sparsity == nil { return nil }
      guard let share = Double(String(word)), share >= 0, share < 1 else {
        throw Failure(.usage, "--sparsity must be at least 0 and below 1, found \(word)")
      }
      return share
    }
  }

  /// The options of the pass, for a single share.
  func options(_ method: PruningMethod, _ details: MethodOptions) throws -> Prune.Options {
    let shares = try sparsities()
    guard shares.count <= 1 else {
      throw Failure(.usage, "--sparsity lists \(shares.count) shares, which only --compare takes")
    }
    return try options(method, details, sparsity: shares.first)
  }

  /// The options of the pass for `share`.
  func options(
    _ method: PruningMethod, _ details: MethodOptions, sparsity share: Double?
  ) throws -> Prune.Options {
    var options = Prune.Options()
    details.apply(to: &options)
    options.method = method
    options.structure = try structures()
    options.scope = scope
    options.tower = tower
    options.rounds = rounds
    options.depthShare = depthShare
    options.targetParameters = targetParameters
    options.targetMacs = targetMacs
    options.imageSparsity = imageSparsity
    options.textSparsity = textSparsity
    for case let share? in [imageSparsity, textSparsity] {
      guard share >= 0, share < 1 else {
        throw Failure(.usage, "--sparsity must be at least 0 and below 1, found \(share)")
      }
    }
    let isPattern = options.structure.allSatisfy { if case .pattern = $0 { true } else { false } }
    guard isPattern || isGiven || method == .maskTuning else {
      throw Failure(.usage, "--sparsity is missing")
    }
    options.sparsity = share ?? 0
    return options
  }

  private func structures() throws -> [PruningStructure] {
    try structure.split(separator: ",", omittingEmptySubsequences: false).map { word in
      guard let structure = PruningStructure(String(word)) else {
        throw Failure(
          .usage,
          "--structure must list \(PruningStructure.choices) with N < M, found \(word)")
      }
      return structure
    }
  }
}
