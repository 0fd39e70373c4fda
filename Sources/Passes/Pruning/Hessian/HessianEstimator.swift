import Execution
import GraphIR
import Operators
import TensorCore

/// Runs the probes of ``HessianTraces`` for the units of a model.
package struct HessianEstimator {
  private let groups: [DependencyGroup]
  private let places: [Value: Int]
  private let pairs: PairSet
  private let options: HessianTraces.Options
  private let imageCount: Int
  private let partCount: Int
  private let probes: HessianProbes
  private let logits: (executor: Executor, name: String)?
  private let recordKey: String

  /// Prepares probes of the parameters of `groups`, all others being held.
  ///
  /// - Throws: ``PassError`` when an option has no meaning, a parameter is not finite or an operation
  ///   has no gradient.
  package init(
    groups: [DependencyGroup], in graph: Graph, pairs: PairSet, options: HessianTraces.Options,
    context: borrowing PassContext
  ) throws(PassError) {
    let kind = try Self.probe(options)
    self.groups = groups
    self.pairs = pairs
    self.options = options
    imageCount = min(options.imageCount, pairs.imageCount)
    guard imageCount > 0 else {
      throw .option(name: "data", expected: "at least one image", found: "none")
    }
    partCount = (imageCount + options.partImageCount - 1) / options.partImageCount
    let wanted = Set(groups.flatMap(\.members).map(\.parameter))
    let values = graph.parameterValues.filter(wanted.contains)
    places = Dictionary(uniqueKeysWithValues: values.enumerated().map { ($1, $0) })
    var parameters: [(name: String, tensor: Tensor)] = []
    for value in values {
      parameters.append((graph.name(of: value), try graph.finiteElements(of: value)))
    }
    let loss: PairLoss
    do throws(GraphError) { loss = try PairLoss(graph, task: pairs.task) } catch {
      throw .graph(pass: HessianImportance.passName, error)
    }
    probes = try HessianProbes(
      kind, of: loss, parameters: parameters, seed: context.seed, threadCount: context.threadCount)
    let name = loss.graph.name(of: loss.logits)
    do throws(ExecutionError) {
      logits =
        options.targets == .labels
        ? nil
        : (try Executor(loss.graph, outputs: [name], threadCount: context.threadCount), name)
    } catch {
      throw .calibration(error)
    }
    recordKey = Self.recordKey(parameters)
  }

  private static func probe(
    _ options: HessianTraces.Options
  ) throws(PassError) -> HessianTraces.Probe {
    for (name, number) in [
      ("probes", options.maximumProbeCount), ("images", options.imageCount),
      ("images of a part", options.partImageCount), ("texts of a part", options.textLimit),
    ] where number < 1 {
      throw .option(name: name, expected: "at least 1", found: "\(number)")
    }
    guard options.targets == .labels else { return options.probe ?? .factor }
    guard options.probe != .factor else {
      throw .option(
        name: "probe", expected: "product, since the Hessian for labels is no product of factors",
        found: "factor")
    }
    return .product
  }

  /// What tells this model's records from those of the same model with fewer units.
  private static func recordKey(_ parameters: [(name: String, tensor: Tensor)]) -> String {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for (name, tensor) in parameters {
      for byte in name.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
      tensor.withElements(of: Float.self) { elements in
        for element in elements {
          hash = (hash ^ UInt64(element.bitPattern)) &* 0x100_0000_01B3
        }
      }
    }
    return "hessian.\(String(hash, radix: 16))"
  }

  /// Probes until the estimates are precise enough or there were as many as may be.
  ///
  /// Every probe's traces are kept in the context's records and taken from there.
  package func run(in context: borrowing PassContext) throws(PassError) -> HessianTraces {
    var traces = HessianTraces(unitCounts: groups.map(\.unitCount))
    var known: [Int: Tensor] = [:]
    var lastTotal: Double?
    while traces.probeCount < options.maximumProbeCount {
      let index = traces.probeCount
      traces.add(try probe(index, &known, context))
      context.report(
        .progress(stage: "Hessian traces", done: index + 1, total: options.maximumProbeCount))
      guard (index + 1) % partCount == 0, index + 1 >= options.minimumProbeCount else { continue }
      if let share = options.share {
        if traces.isPrecise(atShare: share) { break }
      } else if let lastTotal, abs(traces.total - lastTotal) < 1e-3 * abs(traces.total) {
        break
      }
      lastTotal = traces.total
    }
    return traces
  }

  /// What probe `index` says of each group's units, from the records where they have it.
  private func probe(
    _ index: Int, _ known: inout [Int: Tensor], _ context: borrowing PassContext
  ) throws(PassError) -> [[Double]] {
    let key = "\(recordKey).\(index)"
    let unitCount = groups.reduce(0) { $0 + $1.unitCount }
    if let kept = context.records?.values(for: key), kept.count == unitCount {
      var rest = kept[...]
      return groups.map { group in
        defer { rest = rest.dropFirst(group.unitCount) }
        return Array(rest.prefix(group.unitCount))
      }
    }
    let sums = try measured(index, try batch(index, &known))
    guard sums.joined().allSatisfy(\.isFinite) else {
      throw .unsuitable(
        pass: HessianImportance.passName,
        "the second derivatives of the loss are not finite on these images and texts")
    }
    do { try context.records?.keep(Array(sums.joined()), for: key) } catch {
      throw .calibration(error)
    }
    return sums
  }

  private func measured(_ index: Int, _ batch: PairBatch) throws(PassError) -> [[Double]] {
    let pairs = try probes.pairs(index, on: batch)
    // Parts of unequal size weigh as much as their images.
    let weight = Double(batch.imageCount * partCount) / Double(imageCount)
    return groups.map { group in
      var sums = [Double](repeating: 0, count: group.unitCount)
      for member in group.members {
        guard let place = places[member.parameter] else { continue }
        HessianProbes.add(pairs[place], axis: member.axis, unit: group.unit, to: &sums)
      }
      return sums.map { $0 * weight }
    }
  }

  /// The part of the pairs that probe `index` runs on, with its targets.
  private func batch(
    _ index: Int, _ known: inout [Int: Tensor]
  ) throws(PassError) -> PairBatch {
    let (part, turn) = (index % partCount, index / partCount)
    var batch = PairBatch(
      pairs, part: part, of: partCount, imageCount: imageCount, textLimit: options.textLimit,
      turn: turn)
    guard let logits else { return batch }
    if known[part] == nil {
      do throws(ExecutionError) {
        known[part] = try logits.executor.run(batch.inputs)[logits.name]
      } catch {
        throw .calibration(error)
      }
    }
    if let made = known[part] { batch.distill(made) }
    // Where texts take turns, the next sweep has others.
    if pairs.texts.count > options.textLimit { known[part] = nil }
    return batch
  }
}
