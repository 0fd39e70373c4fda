import GraphIR
import TensorCore

/// Replaces what matters moderately by something of low rank instead of taking it out.
///
/// Units go in the order of their sensitivity until the budget is met, the last of them in a band
/// that leaves a path of low rank behind: for neurons a linear map of their layer's input through a
/// few dimensions, for heads narrower heads. One budget decides: what the paths cost goes by taking
/// out more.
///
/// - Source: Yu et al., "Hessian-Aware Pruning and Optimal Neural Implant", WACV 2022,
///   arXiv:2101.08940. Differs: paths of low rank for the linear layers of a transformer instead of
///   1 x 1 convolutions, and a least-squares start.
package struct NeuralImplant: Sendable {
  /// What a path starts from.
  package enum Start: String, Codable, Sendable, CaseIterable {
    /// What makes up best, on calibration data and in the pruned model, for what went.
    case leastSquares = "least-squares"
    /// Nothing: the model computes what plain pruning leaves until it is trained.
    case zero
  }

  /// The user's choices.
  package struct Options: Codable, Sendable {
    /// The share of what goes that leaves a path behind.
    package var bandShare = 0.25
    /// Dimensions of a path for each of the neurons it stands for.
    package var neuronRank = 0.05
    /// The width of a narrower head, as a share of the whole one's; 0 to leave heads out.
    package var headRank = 0.25
    /// What a path starts from.
    package var start = Start.leastSquares
    /// Images and texts, each at most, that least squares are taken over.
    package var sampleCount = 256
    /// What is added to the diagonal of the inputs' second moments, as a share of its mean.
    package var damping = 0.01

    /// The usual choices.
    package init() {}
  }

  /// The choices.
  package let options: Options

  /// Makes the method.
  package init(_ options: Options = Options()) { self.options = options }

  /// The graph without the units of lowest `importance` and with paths for the last of them, at no
  /// more than the target of `plan`.
  ///
  /// - Parameters:
  ///   - graph: the model.
  ///   - plan: how much goes, and of what.
  ///   - importance: what decides the order.
  ///   - compensation: what lets the units that stay make up for those that go before paths are
  ///     fitted.
  ///   - context: lends the pairs.
  /// - Returns: the smaller graph.
  /// - Throws: ``PassError`` when the target cannot be met with at least one unit left in every
  ///   group, or the context lends no pairs.
  package func apply(
    to graph: Graph, plan: StructuredPruning, by importance: any UnitImportance,
    compensation: (any UnitCompensation)? = nil, in context: borrowing PassContext
  ) throws(PassError) -> Graph {
    try check()
    let before = plan.cost.total(of: graph, towers: plan.towers)
    let most = options.bandShare * max(options.neuronRank, options.headRank)
    let extra = 1.2 * most / (1 - min(most, 0.9))
    let lowest = before - Int(Double(before - plan.target) * (1 + extra))
    let order = try ImplantOrder(
      graph, plan: plan, lowest: lowest, by: importance, in: context)
    let choice = try choice(graph, order, plan)
    report(choice.sites, context)
    var result = choice.graph
    if let compensation {
      // What stays makes up for what it can; the paths are fitted to what is then missing.
      let base = try compensation.compensated(graph, removing: choice.removals, in: context)
      do { result = try base.implanting(choice.sites, removing: choice.removals) } catch {
        throw .graph(pass: plan.pass, error)
      }
    }
    if options.start == .leastSquares {
      let fit = try ImplantFit(dense: graph, options: options, context: context)
      for site in choice.sites { result = try fit.fitted(site, in: result) }
    }
    return try FoldEmptyBranches().run(on: result, in: context)
  }

  private func check() throws(PassError) {
    for (name, share) in [
      ("implant band", options.bandShare), ("implant rank of neurons", options.neuronRank),
      ("implant rank of heads", options.headRank),
    ] where !(share >= 0 && share <= 1) {
      throw .option(name: name, expected: "from 0 to 1", found: "\(share)")
    }
  }

  /// A model within the budget: its paths, not fitted yet, and what went.
  private typealias Choice = (graph: Graph, sites: [ImplantSite], removals: [UnitRemoval])

  /// The fewest units that meet the target with the paths that their band leaves.
  private func choice(
    _ graph: Graph, _ order: ImplantOrder, _ plan: StructuredPruning
  ) throws(PassError) -> Choice {
    let costs: [Int]
    do { costs = try plan.cost.perUnit(of: order.groups, in: graph, towers: plan.towers) } catch {
      throw .graph(pass: plan.pass, error)
    }
    func made(_ count: Int) throws(PassError) -> Choice {
      let sites = bands(order, count, costs).compactMap { ImplantSite($0, in: graph) }
      let removals = order.groups.indices.map { number in
        let units = order.places.prefix(count).filter { $0.group == number }.map(\.unit)
        return UnitRemoval(group: order.groups[number], units: Set(units))
      }
      do {
        return (try graph.implanting(sites, removing: removals), sites, removals)
      } catch {
        throw .graph(pass: plan.pass, error)
      }
    }
    var (low, high) = (0, order.places.count)
    while low < high {
      let middle = (low + high) / 2
      let total = plan.cost.total(of: try made(middle).graph, towers: plan.towers)
      if total <= plan.target { high = middle } else { low = middle + 1 }
    }
    let found = try made(low)
    guard plan.cost.total(of: found.graph, towers: plan.towers) <= plan.target else {
      throw .option(
        name: "sparsity", expected: "a target that leaves every layer a unit beside its implant",
        found: "\(plan.target) of \(plan.cost.total(of: graph, towers: plan.towers))")
    }
    return found
  }

  /// What the last of the first `count` units of the order leave behind.
  private func bands(_ order: ImplantOrder, _ count: Int, _ costs: [Int]) -> [ImplantSite.Band] {
    let gone = order.places.prefix(count)
    let whole = gone.reduce(0) { $0 + costs[$1.group] }
    var units: [Int: [Int]] = [:]
    var taken = 0
    for place in gone.reversed() {
      guard Double(taken) < options.bandShare * Double(whole) else { break }
      taken += costs[place.group]
      units[place.group, default: []].append(place.unit)
    }
    return order.groups.indices.compactMap { number in
      guard let units = units[number]?.sorted() else { return nil }
      let group = order.groups[number]
      let rank: Int
      switch group.kind {
      case .neurons: rank = Int((options.neuronRank * Double(units.count)).rounded())
      case .heads: rank = Int((options.headRank * Double(group.unit)).rounded())
      case .width: return nil
      }
      return rank > 0 ? ImplantSite.Band(group: group, units: units, rank: rank) : nil
    }
  }

  private func report(_ sites: [ImplantSite], _ context: borrowing PassContext) {
    for site in sites {
      let what = site.band.group.kind == .heads ? "heads of width" : "neurons by rank"
      context.report(
        .note("\(site.name): \(site.band.units.count) \(what) \(site.band.rank)"))
    }
  }
}
