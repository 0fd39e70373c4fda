import Foundation
import GraphIR
import Operators
import TensorCore

/// Turns feed-forward parts of blocks into mixtures of experts, each a copy of what was there.
///
/// Every token goes through the `topK` experts that a router, a small linear, finds most likely.
/// Their results are weighted by the router's shares, which add up to one: as long as the experts
/// are alike, the model computes what it did before, whatever the router says.
///
/// - Source: Komatsuzaki et al., "Sparse Upcycling: Training Mixture-of-Experts from Dense
///   Checkpoints", ICLR 2023, arXiv:2212.05055; Wang et al., "CLIP-UP: A Simple and Efficient
///   Mixture-of-Experts CLIP Training Recipe with Sparse Upcycling", 2025, arXiv:2502.00965; experts
///   of their own as in Zhang et al., "CLIP-MoE: Towards Building Mixture of Experts for CLIP with
///   Diversified Multiplet Upcycling", 2024, arXiv:2409.19291.
package struct Upcycle: Pass {
  package static let name = "upcycle"

  /// The most experts of a layer.
  package static let largestExpertCount = 256

  /// How a router's weights begin.
  package enum RouterStart: String, Codable, Sendable, CaseIterable {
    /// Normal, with ``Options/routerDeviation``.
    case normal
    /// Uniform within one over the square root of the width, as a linear begins.
    case uniform
  }

  /// Who chooses.
  package enum Choice: String, Codable, Sendable, CaseIterable {
    /// Every token its experts.
    case tokens
    /// Every expert its tokens of a sample.
    case experts
  }

  /// The user's choices.
  package struct Options: Codable, Sendable {
    /// Experts of a layer.
    package var experts = 4
    /// Experts that a token goes through; with ``choice`` of the experts, how many on average.
    package var topK = 2
    /// Tokens that an expert takes of an image or text, as a multiple of its even share.
    ///
    /// Nil for as many as come. What finds no place goes on by the residual connection alone.
    package var capacity: Double?
    /// Which blocks of each tower.
    package var layers = LayerChoice.everyOther
    /// Which towers.
    package var tower = TowerSelection.both
    /// Who chooses.
    package var choice = Choice.tokens
    /// Whether the weights of a token's experts add up to one.
    package var normalizesGates = true
    /// How routers begin.
    package var router = RouterStart.normal
    /// The standard deviation of a normal router's weights.
    package var routerDeviation = 0.02
    /// Gaussian noise on all experts but the first, as a share of the root mean square of each
    /// float32 weight; 0 leaves them copies.
    package var noise = 0.0

    /// The defaults of the command line.
    package init() {}
  }

  package let options: Options

  package init(options: Options = Options()) { self.options = options }

  package func run(
    on graph: consuming Graph, in context: borrowing PassContext
  ) throws(PassError) -> Graph {
    let source = graph
    try checkOptions()
    guard source.expertLayers.isEmpty else {
      throw .unsuitable(
        pass: Self.name,
        "\(source.expertLayers[0].name) is a mixture of experts already: upcycling starts from a "
          + "dense model")
    }
    var chosen: [(part: FeedForward, tower: Tower)] = []
    for tower in options.tower.towers { chosen += try parts(of: tower, in: source) }
    guard !chosen.isEmpty else {
      throw .option(
        name: "layers", expected: "at least one of a tower that the model has",
        found: "\(options.layers)")
    }
    try checkMemory(source, chosen.map(\.part))
    var upcycled = source
    do {
      upcycled = try replacing(chosen, in: source, seed: context.seed).removingUnread(since: source)
    } catch {
      throw .graph(pass: Self.name, error)
    }
    upcycled.facts += facts(chosen)
    let report = UpcycleReport(source, upcycled)
    for line in report.lines { context.report(.note(line)) }
    context.report(.result(report))
    return upcycled
  }

  private func checkOptions() throws(PassError) {
    guard (1...Self.largestExpertCount).contains(options.experts) else {
      throw .option(
        name: "experts", expected: "in 1...\(Self.largestExpertCount)", found: "\(options.experts)")
    }
    guard (1...options.experts).contains(options.topK) else {
      throw .option(
        name: "top-k", expected: "in 1...\(options.experts), the number of experts",
        found: "\(options.topK)")
    }
    if let capacity = options.capacity {
      guard capacity > 0, capacity.isFinite else {
        throw .option(
          name: "capacity", expected: "positive, since nothing passes through otherwise",
          found: "\(capacity)")
      }
    } else if options.choice == .experts {
      throw .option(
        name: "capacity", expected: "given where experts choose their tokens", found: "none")
    }
    guard options.noise >= 0, options.noise.isFinite, options.routerDeviation >= 0,
      options.routerDeviation.isFinite
    else {
      throw .option(
        name: "noise and router deviation", expected: "not negative",
        found: "\(options.noise), \(options.routerDeviation)")
    }
  }

  private func parts(
    of tower: Tower, in graph: Graph
  ) throws(PassError) -> [(part: FeedForward, tower: Tower)] {
    let parts = graph.feedForwards(of: tower)
    guard !parts.isEmpty else {
      guard options.tower != .both else { return [] }
      throw .unsuitable(
        pass: Self.name, "the \(tower.rawValue) tower has no feed-forward part to make experts of")
    }
    let layers = try options.layers.layers(of: tower, count: parts.count)
    if options.choice == .experts, !layers.isEmpty,
      graph.nodes.contains(where: {
        ($0.op as? Attention)?.isCausal == true
          && graph.values(of: tower).contains($0.outputs[0])
      })
    {
      throw .option(
        name: "choice",
        expected: "tokens for the causal \(tower.rawValue) tower, where experts "
          + "would choose by what comes later", found: "experts")
    }
    return layers.map { (parts[$0], tower) }
  }

  /// Refuses what could not even be held twice, as writing it asks for.
  private func checkMemory(_ graph: Graph, _ parts: [FeedForward]) throws(PassError) {
    let memory = Int(clamping: ProcessInfo.processInfo.physicalMemory)
    var total = 0
    for part in parts {
      let (bytes, overflow) = part.parameterCount(in: graph).multipliedReportingOverflow(
        by: 4 * (options.experts - 1))
      guard !overflow, total <= Int.max - bytes else { total = .max; break }
      total += bytes
    }
    guard total < memory / 2 else {
      throw .option(
        name: "experts",
        expected: "few enough for the \(memory >> 20) MiB of this machine",
        found: "\(options.experts), whose copies take \(total >> 20) MiB")
    }
  }

  // MARK: Graph

  private func replacing(
    _ chosen: [(part: FeedForward, tower: Tower)], in graph: Graph, seed: UInt64
  ) throws(GraphError) -> Graph {
    var ends: [Value: FeedForward] = [:]
    var inner = Set<Value>()
    for (part, _) in chosen {
      ends[part.down.outputs[0]] = part
      for node in part.nodes { inner.formUnion(node.outputs) }
    }
    return try graph.rewritten { node, rewriter throws(GraphError) in
      guard inner.contains(node.outputs[0]) else { return try rewriter.copy(node) }
      guard let part = ends[node.outputs[0]] else { return }
      let mixture = try addMixture(part, in: graph, seed: seed, &rewriter)
      rewriter.setImage(of: node.outputs[0], to: mixture)
    }
  }

  /// Adds the experts of `part`, their router, and the sum of what they say.
  private func addMixture(
    _ part: FeedForward, in graph: Graph, seed: UInt64, _ rewriter: inout Graph.Rewriter
  ) throws(GraphError) -> Value {
    let input = try rewriter.image(of: part.input)
    let router = try rewriter.result.addParameter(
      "\(part.name).router.weight",
      Parameter(routerWeight(part, width: part.width(in: graph), seed: seed)))
    let logits = try rewriter.result.add("\(part.name).router", Linear(), input, router)
    let capacity = try capacity(of: part, in: graph)
    let route =
      options.choice == .tokens
      ? RouteTokens(topK: options.topK, capacity: capacity)
      : RouteTokens(expertChoiceOf: capacity)
    let assignment = try rewriter.result.add("\(part.name).assignment", route, logits)
    let gates = try rewriter.result.add(
      "\(part.name).gates", ExpertGates(isNormalized: options.normalizesGates), logits, assignment)
    func experts(of linear: Node, _ x: Value) throws(GraphError) -> Value {
      let operands = try addParameters(of: linear, part, in: graph, seed, &rewriter)
      let op = GroupedLinear(
        experts: options.experts, hasBias: linear.inputs.count == 3,
        capacity: options.choice == .experts ? capacity : 0)
      return try rewriter.result.addNode(linear.name, op, [x, assignment] + operands)[0]
    }
    var value = try experts(of: part.up, input)
    for node in part.between {
      value = try rewriter.result.addNode(node.name, node.op, [value])[0]
    }
    value = try experts(of: part.down, value)
    return try rewriter.result.add("\(part.name).mixture", CombineExperts(), value, gates)
  }

  /// Adds the weights of `linear` for each expert, then their biases.
  private func addParameters(
    of linear: Node, _ part: FeedForward, in graph: Graph, _ seed: UInt64,
    _ rewriter: inout Graph.Rewriter
  ) throws(GraphError) -> [Value] {
    var operands: [Value] = []
    for input in linear.inputs.dropFirst() {
      let name = graph.name(of: input)
      guard name.hasPrefix(part.name + ".") else {
        throw .invariant(node: linear.name, "has the parameter \(name) of another part")
      }
      for expert in 0..<options.experts {
        guard var parameter = graph.parameter(input) else {
          throw .invariant(node: linear.name, "reads \(name), which is no parameter")
        }
        if expert > 0, options.noise > 0 {
          let stream = SplitMix64.mixed(seed, name, expert)
          parameter.tensor = parameter.tensor.noisy(options.noise, stream)
        }
        let own = ExpertLayer.parameterName(name, part: part.name, expert: expert)
        operands.append(try rewriter.result.addParameter(own, parameter))
      }
    }
    return operands
  }

  private func routerWeight(_ part: FeedForward, width: Int, seed: UInt64) -> Tensor {
    var random = SplitMix64.mixed(seed, part.name, -1)
    let bound = 1 / Double(max(width, 1)).squareRoot()
    return Tensor(
      shape: [options.experts, width],
      (0..<(options.experts * width)).map { _ in
        switch options.router {
        case .normal: Float(random.nextNormal() * options.routerDeviation)
        case .uniform: Float((2 * random.nextUniform() - 1) * bound)
        }
      })
  }

  /// How many tokens of a sample an expert takes; 0 for all that come.
  private func capacity(of part: FeedForward, in graph: Graph) throws(GraphError) -> Int {
    guard let factor = options.capacity else { return 0 }
    let extent = graph.tensorType(of: part.input).extents.dropFirst().first
    let tokens = extent?.fixedCount ?? graph.contextLength ?? 0
    let share = Double(options.topK * tokens) * factor / Double(options.experts)
    guard share >= 1 else {
      throw .invariant(
        node: part.name,
        "would let less than one of \(tokens) tokens into an expert at capacity \(factor): give "
          + "more")
    }
    let count = Int(min(share, Double(tokens)).rounded(.up))
    return options.choice == .tokens && count >= tokens ? 0 : min(count, tokens)
  }

  private func facts(_ chosen: [(part: FeedForward, tower: Tower)]) -> [Fact] {
    var facts: [Fact] = []
    for tower in Tower.allCases {
      let layers = chosen.filter { $0.tower == tower }.map { String($0.part.layer + 1) }
      guard !layers.isEmpty else { continue }
      for (name, value) in [
        ("experts", "\(options.experts)"), ("experts_per_token", "\(options.topK)"),
        ("expert_layers", layers.joined(separator: " ")),
      ] {
        facts.append(Fact(name: "\(tower.rawValue).\(name)", value: value, source: Self.name))
      }
    }
    return facts
  }
}

extension SplitMix64 {
  /// The sequence of `seed` for the thing called `name` with number `index`.
  fileprivate static func mixed(_ seed: UInt64, _ name: String, _ index: Int) -> SplitMix64 {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in name.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
    return SplitMix64(seed: seed ^ hash ^ (UInt64(bitPattern: Int64(index)) &* 0x9E37_79B9))
  }
}

extension Tensor {
  /// Float32 elements with Gaussian noise of `share` times their root mean square; codes as they are.
  fileprivate func noisy(_ share: Double, _ stream: SplitMix64) -> Tensor {
    guard dtype == .float32 else { return self }
    var random = stream
    var elements = elements(of: Float.self)
    let squares = elements.reduce(0.0) { $0 + Double($1) * Double($1) }
    let deviation = share * (squares / Double(max(elements.count, 1))).squareRoot()
    for index in elements.indices { elements[index] += Float(random.nextNormal() * deviation) }
    return Tensor(shape: shape, elements)
  }
}
