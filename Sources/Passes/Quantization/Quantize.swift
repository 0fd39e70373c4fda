import GraphIR
import Operators
import TensorCore

/// Turns weights into integer codes and, on request, activations into codes of calibrated ranges.
///
/// Weights that meet an activation get a scale for each output channel or group of weights, tables
/// that are looked up for each row or group. Biases, normalization parameters, class and position
/// embeddings and the logit scale stay as they are. Every distinct activation that a quantized
/// weight meets passes through one node that rounds it. Calibration data are run through the float
/// model once: what scales are moved between layers, what ranges are chosen and what is reported
/// all come of that run.
///
/// - Source: Sakr et al., ICML 2022, arXiv:2206.06501, for the default choice of ranges.
package struct Quantize: Pass {
  package static let name = "quantize"

  /// The user's choices.
  package struct Options: Codable, Sendable {
    /// What weights become.
    package var weights = NumberFormat.int8
    /// What the weights of the first layer and of the projections become; nil for 8 bits where
    /// ``weights`` has fewer.
    package var outerWeights: NumberFormat?
    /// What tables that are looked up become; nil for what ``weights`` become, of at least 4 bits.
    package var tables: NumberFormat?
    /// Bits of the weights named, before all else.
    package var bitCounts: [String: Int] = [:]
    /// What bits are chosen under, weight by weight, by what the model loses; nil for not at all.
    package var allocation: BitAllocation.Limit?
    /// How they are chosen under that.
    package var allocationMethod = BitAllocation.Method.program
    /// The bits that such weights may get.
    package var allowedBits = [2, 3, 4, 5, 6, 8]
    /// For ``BitAllocation/Limit/price(_:)`` what a weight takes of it at each number of bits.
    package var prices: [String: [Int: Double]] = [:]
    /// Elements of a row that share a scale; nil for whole rows.
    package var groupSize: Int?
    /// Which integers codes are; nil for what has the lower error.
    package var grid: CodeGrid?
    /// What activations become: float32, bfloat16 where they meet bfloat16 weights, or codes of 2 to
    /// 8 bits, which need calibration data.
    package var activations = NumberFormat.float32
    /// Whether each token has a scale of its own, found as the model runs.
    package var isPerToken = false
    /// Whether the products of attention are of 8-bit codes too.
    package var quantizesAttention = false
    /// How ranges are chosen.
    package var clipping = ClippingRule.octav
    /// The share of magnitudes in percent that ``ClippingRule/percentile`` keeps.
    package var percentile = 99.99
    /// How scales move between normalization and linear, where there are calibration data; nil for
    /// not at all.
    package var migration: ScaleMigration.Strength? = .searched
    /// How codes are chosen with calibration data; nil for the nearest.
    package var rounding: LayerRounding.Options?
    /// How biases and normalization parameters are tuned behind all else; nil for not at all.
    package var biasTuning: BiasTuning.Options?
    /// Which towers change.
    package var tower = TowerSelection.both
    /// Names of weights or nodes to leave alone; `*` stands for any characters.
    package var exclude: [String] = []
    /// What weights and tables that are left alone become: float32, or a shorter float.
    package var excluded = NumberFormat.float32

    /// The defaults of the command line.
    package init() {}

    /// What makes codes of `bitCount` bits.
    func quantizer(bitCount: Int) -> WeightQuantizer {
      WeightQuantizer(
        bitCount: bitCount, grid: bitCount == 8 ? .symmetric : grid, groupSize: groupSize,
        clipping: clipping, percentile: percentile)
    }
  }

  package let options: Options

  package init(options: Options = Options()) { self.options = options }

  package func run(
    on graph: consuming Graph, in context: borrowing PassContext
  ) throws(PassError) -> Graph {
    let (quantized, report) = try measured(on: graph, in: context)
    for line in report.lines { context.report(.note(line)) }
    context.report(.result(report))
    return quantized
  }

  /// Quantizes and tells what each tensor lost.
  package func measured(
    on graph: consuming Graph, in context: borrowing PassContext
  ) throws(PassError) -> (graph: Graph, report: QuantizationReport) {
    try checkOptions(in: context)
    // With statistics at hand nothing else may have opened it yet.
    do { try Matrix.open() } catch { throw .calibration(error) }
    let float = graph
    let plan = try QuantizationPlan(options, for: float)
    for note in plan.notes { context.report(.note(note)) }
    var report = QuantizationReport(bytesBefore: float.storedByteCount)
    var moved = float
    let statistics = try plan.statistics(of: float, in: context)
    let factors = try migrate(&moved, plan, statistics, &report, in: context)
    let chosen = try allocate(moved, plan, &report, in: context)
    var quantized = moved
    try quantizeWeights(of: &quantized, chosen, in: context)
    try shorten(&quantized, chosen)
    let histograms = try quantizeActivations(
      of: &quantized, chosen, statistics, factors, in: context)
    if let rounding = options.rounding {
      let names = chosen.quantizers.map { (float.name(of: $0.key), $0.value) }
      let rounded = try LayerRounding(options: rounding, pass: Self.name).run(
        on: quantized, float: moved, quantizers: Dictionary(uniqueKeysWithValues: names),
        in: context)
      quantized = rounded.graph
      report.layers = rounded.errors
    }
    if let tuning = options.biasTuning {
      let tuned = try BiasTuning(options: tuning).run(on: quantized, like: float, in: context)
      quantized = tuned.graph
      report.tuning = tuned.rows
    }
    // Rounding layer by layer replaces codes, of activations too: only now are they known.
    report.add(
      chosen.weights.map { moved.name(of: $0) }, histograms, of: quantized, from: moved)
    report.bytesAfter = quantized.storedByteCount
    if context.calibration != nil {
      report.towers = try TowerError.errors(of: quantized, from: float, in: context)
    }
    return (quantized, report)
  }

  /// The names of the weights and tables of `graph` that get codes, in its order.
  ///
  /// - Throws: ``PassError`` when `options` cannot be met.
  package static func weightNames(
    of graph: Graph, options: Options
  ) throws(PassError) -> [String] {
    try QuantizationPlan(options, for: graph).weights.map { graph.name(of: $0) }
  }

  private func checkOptions(in context: borrowing PassContext) throws(PassError) {
    guard options.percentile > 0, options.percentile <= 100 else {
      throw .option(
        name: "percentile", expected: "above 0 and at most 100", found: "\(options.percentile)")
    }
    if let groupSize = options.groupSize, groupSize < 4 || groupSize % 4 != 0 {
      throw .option(
        name: "group-size", expected: "a positive multiple of 4", found: "\(groupSize)")
    }
    if options.grid == .full, options.weights.bitCount ?? 8 > 7 {
      throw .option(name: "grid", expected: "symmetric at 8 bits", found: "full")
    }
    if case .fixed(let strength)? = options.migration, !(0...1).contains(strength) {
      throw .option(name: "smooth", expected: "0 to 1", found: "\(strength)")
    }
    guard options.activations != .float16 else {
      throw .option(
        name: "activations", expected: "integers, bfloat16 or float32",
        found: options.activations.rawValue)
    }
    let needsRanges = options.activations.bitCount != nil && !options.isPerToken
    if needsRanges || options.rounding != nil, context.calibration == nil {
      throw .needsData(pass: Self.name)
    }
  }

  /// Moves scales between layers; the factors that each activation was divided by.
  private func migrate(
    _ graph: inout Graph, _ plan: QuantizationPlan, _ statistics: [Value: ActivationStatistics],
    _ report: inout QuantizationReport, in context: borrowing PassContext
  ) throws(PassError) -> [Value: [Float]] {
    guard let strength = options.migration else { return [:] }
    let search = ScaleMigration(
      strength, plan.activationCodes, threadCount: context.threadCount
    ) { plan.quantizers[$0] }
    var all: [Value: [Float]] = [:]
    for (done, site) in plan.sites.enumerated() {
      guard let sample = statistics[site.activation]?.rows, sample.count > 0 else { continue }
      let (factors, choice) = try search.choose(for: site, sample, in: graph)
      report.migrations.append(choice)
      context.report(.progress(stage: "scales", done: done + 1, total: plan.sites.count))
      guard let factors else { continue }
      do { try site.apply(factors, to: &graph) } catch { throw .graph(pass: Self.name, error) }
      all[site.activation] = factors
    }
    return all
  }

  /// The plan with the bits that lose least under the limit of the options.
  private func allocate(
    _ graph: Graph, _ plan: QuantizationPlan, _ report: inout QuantizationReport,
    in context: borrowing PassContext
  ) throws(PassError) -> QuantizationPlan {
    guard let limit = options.allocation else { return plan }
    var own = Sensitivity.Options()
    own.bitCounts = options.allowedBits
    let table = try Sensitivity(options: own, pass: Self.name).table(
      of: plan.weights.map { graph.name(of: $0) }, in: graph,
      quantizer: { options.quantizer(bitCount: $1) }, context: context)
    let prices = options.prices
    var allocation = BitAllocation(table)
    if case .price = limit {
      allocation.price = { row, choice in prices[row.weight]?[choice.bitCount] ?? 0 }
    }
    let bits = try allocation.allocate(within: limit, by: options.allocationMethod)
    report.sensitivities = table
    report.allocation = QuantizationReport.Allocation(
      method: options.allocationMethod, loss: table.loss(bits) ?? 0,
      byteCount: table.byteCount(bits) ?? 0)
    var chosen = options
    chosen.bitCounts = bits
    return try QuantizationPlan(chosen, for: graph)
  }

  private func quantizeWeights(
    of graph: inout Graph, _ plan: QuantizationPlan, in context: borrowing PassContext
  ) throws(PassError) {
    for (done, value) in plan.weights.enumerated() {
      guard let quantizer = plan.quantizers[value], let parameter = graph.parameter(value) else {
        continue
      }
      let name = graph.name(of: value)
      let quantized = try quantizer.quantize(
        parameter, named: name, threadCount: context.threadCount)
      do { try graph.setParameter(value, quantized) } catch {
        throw .graph(pass: Self.name, error)
      }
      context.report(.progress(stage: "weights", done: done + 1, total: plan.weights.count))
    }
  }

  /// Rounds what stays float to shorter floats where these were asked for.
  private func shorten(_ graph: inout Graph, _ plan: QuantizationPlan) throws(PassError) {
    for (value, format) in plan.floats where format != .float32 {
      guard var parameter = graph.parameter(value) else { continue }
      parameter.tensor = parameter.tensor.mapping { format.rounded($1) }
      do { try graph.setParameter(value, parameter) } catch {
        throw .graph(pass: Self.name, error)
      }
    }
  }

  /// Rounds activations; what was known of each, by the name of the node that rounds it.
  private func quantizeActivations(
    of graph: inout Graph, _ plan: QuantizationPlan, _ statistics: [Value: ActivationStatistics],
    _ factors: [Value: [Float]], in context: borrowing PassContext
  ) throws(PassError) -> [String: ActivationHistogram] {
    guard options.activations != .float32 else { return [:] }
    guard !plan.points.isEmpty else {
      let isBFloat16 = options.activations == .bfloat16
      let isDone = graph.nodes.contains {
        isBFloat16 ? $0.op is RoundToBFloat16 : $0.op is FakeQuantize
      }
      guard isDone else {
        let what = isBFloat16 ? "bfloat16" : "integers"
        throw .unsuitable(
          pass: Self.name, "activations become \(what) only where weights are \(what)")
      }
      context.report(
        .note("the activations hold \(isBFloat16 ? "bfloat16" : "integer codes") already"))
      return [:]
    }
    var histograms: [String: ActivationHistogram] = [:]
    var rounding: [Value: any Op] = [:]
    for value in graph.values where plan.points.contains(value) {
      if options.activations == .bfloat16 {
        rounding[value] = RoundToBFloat16()
        continue
      }
      if options.isPerToken, let bitCount = options.activations.bitCount {
        rounding[value] = FakeQuantizeTokens(bitCount: bitCount)
        continue
      }
      let name = graph.name(of: value)
      guard var histogram = statistics[value]?.histogram, histogram.count > 0 else {
        context.report(.warning("no calibration input reaches \(name): it stays float32"))
        continue
      }
      if let divisors = factors[value], let rows = statistics[value]?.rows {
        histogram = rows.dividing(by: divisors).histogram
      }
      guard let grid = plan.activationCodes.quantization(of: histogram) else { continue }
      rounding[value] = FakeQuantize(parameters: grid)
      histograms[name] = histogram
    }
    let former = Set(graph.nodes.map(\.name))
    do { graph = try graph.rounding(plan.reads, by: rounding) } catch {
      throw .graph(pass: Self.name, error)
    }
    var found: [String: ActivationHistogram] = [:]
    for node in graph.nodes where node.op is FakeQuantize && !former.contains(node.name) {
      found[node.name] = histograms[graph.name(of: node.inputs[0])]
    }
    return found
  }
}
