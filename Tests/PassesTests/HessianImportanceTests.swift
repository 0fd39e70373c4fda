import Execution
import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport
import Testing

/// Traces and sensitivities of a model's units.
@Suite struct HessianImportanceTests {
  private let extents = smallCLIP()

  private func options(
    _ probe: HessianTraces.Probe, targets: PairLoss.Targets = .distillation, probes: Int
  ) -> HessianTraces.Options {
    var options = HessianTraces.Options()
    options.probe = probe
    options.targets = targets
    options.maximumProbeCount = probes
    options.minimumProbeCount = probes
    options.partImageCount = 6
    options.shrinks = false
    return options
  }

  /// The exact traces, by a product with every unit vector.
  private func exactTraces(
    _ graph: Graph, _ pairs: PairSet, _ targets: PairLoss.Targets
  ) throws -> [[Double]] {
    let loss = try PairLoss(graph, task: pairs.task)
    var batch = PairBatch(
      pairs, part: 0, of: 1, imageCount: pairs.imageCount, textLimit: 99, turn: 0)
    if targets == .distillation {
      let name = loss.graph.name(of: loss.logits)
      batch.distill(
        try #require(try Executor(loss.graph, outputs: [name]).run(batch.inputs)[name]))
    }
    let groups = unitGroups(graph)
    let parameters = Set(groups.flatMap(\.members).map(\.parameter)).sorted { $0.index < $1.index }
    let values = try parameters.map { try #require(loss.graph.value(named: graph.name(of: $0))) }
    let product = try HessianProduct(
      of: loss.loss, in: loss.graph, withRespectTo: values, threadCount: 2)
    let shapes = try parameters.map { try #require(graph.parameter($0)).tensor.shape }
    var traces = groups.map { [Double](repeating: 0, count: $0.unitCount) }
    for (index, parameter) in parameters.enumerated() {
      for place in 0..<shapes[index].reduce(1, *) {
        let directions = shapes.enumerated().map { other, shape in
          Tensor(shape: shape, of: Float.self) { if other == index { $0[place] = 1 } }
        }
        let diagonal = try product(directions, batch.inputs)[index].elements(of: Float.self)[place]
        for (number, group) in groups.enumerated() {
          for member in group.members where member.parameter == parameter {
            let inner = shapes[index][(member.axis + 1)...].reduce(1, *) * group.unit
            traces[number][place / inner % group.unitCount] += Double(diagonal)
          }
        }
      }
    }
    return traces
  }

  @Test(arguments: HessianTraces.Probe.allCases)
  func probesEstimateTheExactTraces(_ probe: HessianTraces.Probe) throws {
    let graph = try extents.graph(seed: 6)
    let pairs = hessianPairs(extents)
    let exact = try exactTraces(graph, pairs, .distillation)
    let groups = unitGroups(graph)
    let context = lendingContext(pairs)
    let estimator = try HessianEstimator(
      groups: groups, in: graph, pairs: pairs,
      options: options(probe, probes: probe == .factor ? 2400 : 3600), context: context)
    let traces = try estimator.run(in: context)
    let total = exact.joined().reduce(0, +)
    #expect(total > 0)
    #expect(abs(traces.total - total) <= 0.02 * total, "\(traces.total) of \(total)")
    for (group, units) in exact.enumerated() {
      for (unit, trace) in units.enumerated() {
        let error = traces.standardErrors[group][unit]
        #expect(abs(traces.means[group][unit] - trace) <= 4.5 * error + 1e-6 * total)
      }
    }
  }

  @Test func productsServeLabelsToo() throws {
    let graph = try extents.graph(seed: 6)
    let pairs = hessianPairs(extents, images: 6)
    let exact = try exactTraces(graph, pairs, .labels).joined().reduce(0, +)
    let context = lendingContext(pairs)
    let traces = try HessianEstimator(
      groups: unitGroups(graph), in: graph, pairs: pairs,
      options: options(.product, targets: .labels, probes: 600), context: context
    ).run(in: context)
    #expect(abs(traces.total - exact) <= 0.1 * abs(exact), "\(traces.total) of \(exact)")
  }

  @Test func sensitivityIsTheRelativeTraceTimesTheSquare() throws {
    let graph = try extents.graph(seed: 7)
    let pairs = hessianPairs(extents)
    let groups = unitGroups(graph)
    var options = HessianImportance.Options()
    options.traces = self.options(.factor, probes: 4)
    let context = lendingContext(pairs)
    let found = try HessianImportance(options).sensitivities(
      of: groups, in: graph, context: context)
    let traces = try HessianEstimator(
      groups: groups, in: graph, pairs: pairs, options: options.traces, context: context
    ).run(in: context)
    let plain = try HessianImportance(options).importances(
      of: groups, in: graph, context: context)
    for (index, group) in groups.enumerated() {
      for unit in 0..<group.unitCount {
        var (square, count) = (0.0, 0.0)
        for member in group.members {
          let tensor = try #require(graph.parameter(member.parameter)).tensor
          let slice = tensor.selecting(group.indices(of: [unit]), onAxis: member.axis)
          for element in slice.elements(of: Float.self) { square += Double(element * element) }
          count += Double(slice.count)
        }
        let expected = traces.means[index][unit] / count * square
        #expect(abs(found[index][unit] - expected) <= 1e-6 * expected)
        #expect(abs(plain[index][unit] - expected / count) <= 1e-6 * expected)
      }
    }
  }

  @Test func aDeadUnitGoesFirst() throws {
    var graph = try extents.graph(seed: 7)
    let groups = unitGroups(graph)
    let dead = try graph.masking([UnitRemoval(group: groups[1], units: [2])])
    for member in groups[1].members {
      let parameter = try #require(dead.parameter(member.parameter))
      try graph.setParameter(member.parameter, Parameter(parameter.materialized))
    }
    var options = HessianImportance.Options()
    options.traces = self.options(.factor, probes: 4)
    let found = try HessianImportance(options).importances(
      of: groups, in: graph, context: lendingContext(hessianPairs(extents)))
    #expect(found[1][2] == 0)
    #expect(found.joined().count { $0 == 0 } == 1)
  }

  @Test func negativeTracesCountAsZeroWithAWarningOrAsTheyAre() throws {
    let graph = try extents.graph(seed: 7)
    var options = HessianImportance.Options()
    options.traces = self.options(.product, targets: .labels, probes: 2)
    var warnings = 0
    let context = lendingContext(hessianPairs(extents)) { event in
      if case .warning = event { warnings += 1 }
    }
    let groups = unitGroups(graph)
    let clamped = try HessianImportance(options).importances(
      of: groups, in: graph, context: context)
    #expect(warnings == 1)
    #expect(clamped.joined().allSatisfy { $0 >= 0 })
    options.negativeTraces = .keep
    let kept = try HessianImportance(options).importances(of: groups, in: graph, context: context)
    #expect(warnings == 1)
    #expect(kept.joined().contains { $0 < 0 })
    #expect(zip(clamped.joined(), kept.joined()).allSatisfy { $0 == max($1, 0) })
  }

  @Test func theSeedDecidesAndRecordsResume() throws {
    let graph = try extents.graph(seed: 7)
    let groups = unitGroups(graph)
    var options = HessianImportance.Options()
    options.traces = self.options(.factor, probes: 6)
    let pairs = hessianPairs(extents)
    let records = ProbeRecords()
    let importance = HessianImportance(options)
    let first = try importance.importances(
      of: groups, in: graph, context: lendingContext(pairs, records: records))
    #expect(
      first == (try importance.importances(of: groups, in: graph, context: lendingContext(pairs))))
    #expect(
      first
        != (try importance.importances(
          of: groups, in: graph, context: lendingContext(pairs, seed: 2)))
    )
    #expect(records.known.count == 6)
    records.keepOnly(3)
    let resumed = try importance.importances(
      of: groups, in: graph, context: lendingContext(pairs, records: records))
    #expect(records.hitCount == 3)
    #expect(records.known.count == 6)
    #expect(first == resumed)
  }

  /// What chance alone spreads, the group's mean replaces.
  @Test func shrinkageRemovesNoiseAndKeepsDifferences() {
    var random = SplitMix64(seed: 31)
    var traces = HessianTraces(unitCounts: [400, 400])
    for _ in 0..<50 {
      traces.add([
        (0..<400).map { _ in 2 + random.nextNormal() },
        (0..<400).map { 10 * Double($0 % 5) + random.nextNormal() },
      ])
    }
    let shrunken = traces.shrunkenMeans
    let spread = shrunken[0].reduce(0) { max($0, abs($1 - 2)) }
    #expect(spread < 0.2)
    for (unit, mean) in shrunken[1].enumerated() {
      #expect(abs(mean - traces.means[1][unit]) < 0.02)
    }
  }

  @Test func refusals() throws {
    let graph = try extents.graph(seed: 7)
    let groups = unitGroups(graph)
    #expect(throws: PassError.self) {
      _ = try HessianImportance().importances(of: groups, in: graph, context: PassContext())
    }
    var options = HessianImportance.Options()
    options.traces.targets = .labels
    options.traces.probe = .factor
    let pairs = hessianPairs(extents)
    #expect(throws: PassError.self) {
      _ = try HessianImportance(options).importances(
        of: groups, in: graph, context: lendingContext(pairs))
    }
    options.traces = HessianTraces.Options()
    options.traces.partImageCount = 0
    #expect(throws: PassError.self) {
      _ = try HessianImportance(options).importances(
        of: groups, in: graph, context: lendingContext(pairs))
    }
  }

  @Test func whatIsTakenPhysicallyIsWhatAMaskHides() throws {
    let extents = RandomCLIP()
    let graph = try extents.graph(seed: 21)
    let groups = unitGroups(graph)
    var options = HessianImportance.Options()
    options.traces.maximumProbeCount = 4
    let importances = try HessianImportance(options).importances(
      of: groups, in: graph, context: lendingContext(hessianPairs(extents)))
    let selection = UnitSelection(
      importances: importances, costs: groups.map { $0.parameterCountPerUnit(in: graph) },
      scope: .global)
    let removals = zip(groups, selection.lowest(budget: 6000, keeping: groups.map { _ in 1 }))
      .map { UnitRemoval(group: $0, units: $1) }
    #expect(removals.contains { !$0.units.isEmpty })
    let inputs = extents.inputs(seed: 3)
    let masked = try outputs(try graph.masking(removals), inputs)
    let removed = try outputs(try graph.removing(removals), inputs)
    #expect(largestDifference(masked, removed) <= 1e-5)
  }
}
