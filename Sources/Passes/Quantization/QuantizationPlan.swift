import GraphIR
import Operators
import TensorCore

/// Which weights of a graph get which codes, and which activations are rounded where.
struct QuantizationPlan {
  /// The weights and tables that get codes, in order of the graph.
  let weights: [Value]
  /// What makes their codes.
  let quantizers: [Value: WeightQuantizer]
  /// The weights and tables that stay floats, and which.
  let floats: [(value: Value, format: NumberFormat)]
  /// The activations that are rounded.
  let points: Set<Value>
  /// For each node that reads rounded values the inputs where it does.
  let reads: [String: [Int]]
  /// Where scales can move.
  let sites: [MigrationSite]
  /// How activations are rounded.
  let activationCodes: ActivationCodes
  /// What the user should know.
  let notes: [String]

  /// Plans what `options` say for `graph`.
  init(_ options: Quantize.Options, for graph: Graph) throws(PassError) {
    let wanted = graph.values(of: options.tower.towers)
    guard graph.outputs.isEmpty || !wanted.isEmpty else {
      throw .unsuitable(
        pass: Quantize.name, "the model has no \(options.tower.rawValue) tower")
    }
    func isExcluded(_ name: String) -> Bool {
      options.exclude.contains { matches(name, pattern: $0) }
    }
    let tables = Set(graph.gatheredTables)
    let outer = graph.outerWeights
    let routers = Set(graph.routerWeights)
    var notes: [String] = []
    var weights: [Value] = []
    var floats: [(value: Value, format: NumberFormat)] = []
    var quantizers: [Value: WeightQuantizer] = [:]
    var hasCodes = false
    for value in graph.multipliedWeights + graph.gatheredTables where wanted.contains(value) {
      let name = graph.name(of: value)
      guard let parameter = graph.parameter(value) else { continue }
      guard parameter.quantization == nil else {
        notes.append("\(name) holds integer codes already and stays as it is")
        hasCodes = true
        continue
      }
      // Routers are small, and what they choose would change with their rounding.
      guard !routers.contains(value) else {
        floats.append((value, .float32))
        continue
      }
      var format = options.weights
      if tables.contains(value) {
        format = options.tables ?? (format.bitCount.map { $0 < 4 } ?? false ? .int4 : format)
      } else if outer.contains(value) {
        format = options.outerWeights ?? (format.bitCount == nil ? format : .int8)
      }
      let bitCount = options.bitCounts[name] ?? format.bitCount
      guard let bitCount, !isExcluded(name) else {
        let isLeft = isExcluded(name) || format.bitCount != nil
        floats.append((value, isLeft ? options.excluded : format))
        continue
      }
      weights.append(value)
      quantizers[value] = options.quantizer(bitCount: bitCount)
    }
    guard !weights.isEmpty || hasCodes || floats.contains(where: { $0.format != .float32 }) else {
      throw .unsuitable(pass: Quantize.name, "no weight is left to quantize")
    }
    self.weights = weights
    self.quantizers = quantizers
    self.floats = floats
    if options.quantizesAttention, graph.nodes.contains(where: { $0.op is ProportionalAttention }) {
      notes.append("attention over merged tokens stays float32")
    }
    self.notes = notes
    activationCodes = ActivationCodes(
      bitCount: options.activations.bitCount, isPerToken: options.isPerToken,
      clipping: options.clipping, percentile: options.percentile)
    sites = MigrationSite.sites(in: graph, wanted).filter { site in
      // The ranges of values that are codes themselves are those of values that stay as they are.
      !isExcluded(graph.name(of: site.activation))
        && site.readers.contains { quantizers[$0] != nil }
        && !(options.quantizesAttention && graph.isMixed(site.activation))
    }
    var points = Set<Value>()
    var reads: [String: [Int]] = [:]
    let planned = Set(weights)
    let short = Set(floats.lazy.filter { $0.format == .bfloat16 }.map(\.value))
    for node in graph.nodes where options.activations != .float32 {
      guard node.outputs.contains(where: wanted.contains), !isExcluded(node.name) else { continue }
      var inputs =
        options.activations == .bfloat16
        ? graph.activationInputs(of: node) { short.contains($0) }
        : graph.integerInputs(of: node, planned: planned)
      if options.quantizesAttention, node.op is Attention { inputs = [0, 1, 2] }
      inputs.removeAll { graph.isRounded(node.inputs[$0]) }
      guard !inputs.isEmpty else { continue }
      reads[node.name] = inputs
      points.formUnion(inputs.map { node.inputs[$0] })
    }
    self.points = points
    self.reads = reads
  }

  /// Statistics of all that has to be known of the float model, in one pass over the data of the
  /// context; none without data.
  func statistics(
    of graph: Graph, in context: borrowing PassContext
  ) throws(PassError) -> [Value: ActivationStatistics] {
    guard context.calibration != nil else { return [:] }
    let needsRanges = activationCodes.bitCount != nil && !activationCodes.isPerToken
    return try Calibration.statistics(
      of: needsRanges ? points : [], sampling: Set(sites.map(\.activation)),
      in: graph, context: context)
  }
}

extension Graph {
  /// Whether `value` is what an attention makes.
  fileprivate func isMixed(_ value: Value) -> Bool {
    guard case .node(let index) = origin(of: value) else { return false }
    return nodes[index].op is Attention
  }

  /// Whether `value` is what a rounding node makes.
  fileprivate func isRounded(_ value: Value) -> Bool {
    guard case .node(let index) = origin(of: value) else { return false }
    let op = nodes[index].op
    return op is FakeQuantize || op is FakeQuantizeTokens || op is RoundToBFloat16
  }

  /// The weights at the ends of towers: of what reads the patches of an image, and of what the
  /// embedding is made by.
  fileprivate var outerWeights: Set<Value> {
    var found = Set<Value>()
    func isMade(_ value: Value, by isWanted: (any Op) -> Bool) -> Bool {
      guard case .node(let index) = origin(of: value) else { return false }
      return isWanted(nodes[index].op)
    }
    for node in nodes {
      if node.op is Linear, isMade(node.inputs[0], by: { $0 is UnfoldPatches }) {
        found.insert(node.inputs[1])
      }
      if node.op is L2Normalize, case .node(let index) = origin(of: node.inputs[0]),
        nodes[index].op is Linear
      {
        found.insert(nodes[index].inputs[1])
      }
    }
    return found
  }
}
