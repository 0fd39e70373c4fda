import Execution
import GraphIR
import Operators
import TensorCore

/// One walk under way: the graph that changes and how far it is.
final class WalkRun {
  let pass: String
  let options: SequentialWalk.Options
  let gathering: SequentialWalk.Gathering
  /// The caller's graph with the changes so far.
  private(set) var result: Graph
  /// The form that runs, with the changes so far where the walk is sequential.
  private(set) var form: Graph
  /// What layers are compared with, with values of the names that ``form`` has.
  let original: Graph
  private let hasOriginal: Bool
  /// The roundings of activations that change, by the name of what they make.
  private(set) var codes: [String: ActivationQuantization] = [:]
  let threadCount: Int
  private let report: (PassEvent) -> Void
  private let total: Int
  private var done = 0

  init(
    pass: String, options: SequentialWalk.Options, gathering: SequentialWalk.Gathering,
    result: Graph, form: Graph, original: Graph?, total: Int, threadCount: Int,
    report: @escaping (PassEvent) -> Void
  ) {
    self.pass = pass
    self.options = options
    self.gathering = gathering
    self.result = result
    self.form = form
    self.original = original ?? form
    hasOriginal = original != nil
    self.total = total
    self.threadCount = threadCount
    self.report = report
  }

  /// Whether the original values are kept beside those of the changed form.
  var followsOriginal: Bool {
    options.isSequential && (options.followsOriginal || gathering.rowCount > 0)
  }

  /// A stream for each output that needs some of `layers`.
  func streams(of layers: [LinearLayer]) throws(PassError) -> [CalibrationStream] {
    var left = layers
    var streams: [CalibrationStream] = []
    for output in form.outputs.map(\.value) {
      let needed = form.values(feeding: output)
      let own = left.filter { needed.contains($0.weight) }
      left.removeAll { needed.contains($0.weight) }
      guard !own.isEmpty else { continue }
      var parts: [CalibrationStream.Part] = []
      var start: Value?
      var first = 0
      for cut in form.bottlenecks(before: output) + [output] {
        guard case .node(let place) = form.origin(of: cut) else { continue }
        // A rounding stays with the layers that read it, and the original has none.
        guard cut == output || unrounded(cut) == cut else { continue }
        let inside = own.filter { $0.node >= first && $0.node <= place }
        if !inside.isEmpty { parts.append(.init(start: start, layers: inside)) }
        start = cut
        first = place + 1
      }
      streams.append(CalibrationStream(output: output, parts: parts))
    }
    if let lost = left.first {
      throw .unsuitable(pass: pass, "no output needs weight \(form.name(of: lost.weight))")
    }
    return streams
  }

  /// Brings every batch of `source` to the first cut of the streams that it feeds.
  func start(
    _ streams: inout [CalibrationStream], from source: any BatchSource
  ) throws(PassError) {
    let heads = try streams.map { stream throws(PassError) in
      try WalkHead(stream.output, start: stream.parts.first?.start, of: form, threadCount, pass)
    }
    let originalHeads =
      followsOriginal && hasOriginal
      ? try streams.map { stream throws(PassError) in
        try WalkHead(
          try originalValue(stream.output), start: try stream.parts.first?.start.map(originalValue),
          of: original, threadCount, pass)
      } : []
    var batches = [[[String: Tensor]]](repeating: [], count: streams.count)
    var originals = batches
    var count = 0
    do {
      try source.forEachBatch { batch in
        for (index, head) in heads.enumerated() where head.isFed(by: batch) {
          batches[index].append(try head.state(of: batch))
          if !originalHeads.isEmpty {
            originals[index].append(try originalHeads[index].state(of: batch))
          }
        }
        count += 1
        report(.progress(stage: "calibration", done: count, total: 0))
      }
    } catch let error as PassError {
      throw error
    } catch {
      throw .calibration(error)
    }
    for index in streams.indices {
      guard !batches[index].isEmpty else {
        throw .unsuitable(
          pass: pass,
          "the calibration data hold nothing for "
            + heads[index].inputNames.sorted().joined(separator: ", "))
      }
      streams[index].batches = batches[index]
      if followsOriginal {
        streams[index].originals = originalHeads.isEmpty ? batches[index] : originals[index]
      }
    }
  }

  /// Visits the layers of all parts of `stream`, whose batches stand at the first.
  func go(
    through stream: inout CalibrationStream, _ visitor: SequentialWalk.GroupVisitor
  ) throws(PassError) {
    for (index, part) in stream.parts.enumerated() {
      var groups: [(rows: LayerRows, layers: [LinearLayer])] = []
      for layer in part.layers {
        let rows = LayerRows(layer)
        if let known = groups.firstIndex(where: { $0.rows == rows }) {
          groups[known].layers.append(layer)
        } else {
          groups.append((rows, [layer]))
        }
      }
      for round in rounds(of: groups) {
        let gathered = try collect(round.map(\.rows), from: part.start, stream)
        for group in round {
          guard let own = gathered[group.rows] else { continue }
          try visit(group.layers, own, visitor)
        }
      }
      guard index + 1 < stream.parts.count, let next = stream.parts[index + 1].start else {
        continue
      }
      stream.batches = try advance(stream.batches, form, from: part.start, to: next)
      if followsOriginal {
        stream.originals = try advance(
          stream.originals, original, from: try part.start.map(originalValue),
          to: try originalValue(next))
      }
    }
  }

  /// The groups that are visited on one run over the data: those of one input where changes are seen
  /// at once, otherwise all.
  private func rounds(
    of groups: [(rows: LayerRows, layers: [LinearLayer])]
  ) -> [[(rows: LayerRows, layers: [LinearLayer])]] {
    guard options.refreshesWithinBlock, options.isSequential else { return [groups] }
    var rounds: [[(rows: LayerRows, layers: [LinearLayer])]] = []
    for group in groups {
      // Experts of one layer do not see each other's results.
      if let last = rounds.last?.last, last.rows.input == group.rows.input {
        rounds[rounds.count - 1].append(group)
      } else {
        rounds.append([group])
      }
    }
    return rounds
  }

  private func visit(
    _ layers: [LinearLayer], _ gathered: Gathered, _ visitor: SequentialWalk.GroupVisitor
  ) throws(PassError) {
    var group: [CalibratedLayer] = []
    for layer in layers {
      let weightName = form.name(of: layer.weight)
      guard let weight = result.parameter(named: weightName) else { continue }
      group.append(
        CalibratedLayer(
          name: layer.name, weightName: weightName, weight: weight,
          bias: layer.bias.flatMap { result.parameter(named: form.name(of: $0)) },
          statistics: gathered.statistics))
    }
    guard let first = layers.first, group.count == layers.count else { return }
    let input = form.name(of: first.input)
    let rounding = rounding(making: first.input)
    let change = try visitor(
      LayerGroup(
        layers: group, input: input, codes: rounding.map { codes[input] ?? $0.codes },
        fixesCodes: first.expert != nil, rows: gathered.rows))
    for (layer, change) in zip(layers, change.layers) {
      guard let change else { continue }
      try set(form.name(of: layer.weight), change.weight)
      if let bias = change.bias, let value = layer.bias { try set(form.name(of: value), bias) }
    }
    if let changed = change.codes, rounding != nil, first.expert == nil { codes[input] = changed }
    done += layers.count
    report(.progress(stage: "layers", done: done, total: total))
  }

  /// The codes of the rounding that makes `value`, and what it rounds; nil where none does.
  private func rounding(making value: Value) -> (codes: ActivationQuantization, input: Value)? {
    guard case .node(let place) = form.origin(of: value),
      let op = form.nodes[place].op as? FakeQuantize
    else { return nil }
    return (op.parameters, form.nodes[place].inputs[0])
  }

  private func set(_ name: String, _ parameter: Parameter) throws(PassError) {
    do {
      if let value = result.value(named: name) { try result.setParameter(value, parameter) }
      if options.isSequential, let value = form.value(named: name) {
        try form.setParameter(value, parameter)
      }
    } catch {
      throw .graph(pass: pass, error)
    }
  }

  /// What a rounding that makes `value` rounds; `value` itself where none does.
  func unrounded(_ value: Value) -> Value {
    guard case .node(let place) = form.origin(of: value) else { return value }
    let op = form.nodes[place].op
    let isRounding = op is FakeQuantize || op is FakeQuantizeTokens || op is RoundToBFloat16
    return isRounding ? form.nodes[place].inputs[0] : value
  }

  /// What the original has in place of `value`.
  func originalValue(_ value: Value) throws(PassError) -> Value {
    let name = form.name(of: unrounded(value))
    guard let found = original.value(named: name) else {
      throw .unsuitable(pass: pass, "the model that layers are compared with lacks \(name)")
    }
    return found
  }

  /// Takes every batch on from the cut `start` to the cut `next` of `graph`.
  private func advance(
    _ batches: [[String: Tensor]], _ graph: Graph, from start: Value?, to next: Value
  ) throws(PassError) -> [[String: Tensor]] {
    let executor = try executor(graph, [next], from: start)
    let inputs = Set(graph.inputs.map { graph.name(of: $0) })
    do {
      return try batches.map { batch in
        let made = try executor.run(batch)
        return batch.filter { inputs.contains($0.key) }.merging(made) { $1 }
      }
    } catch {
      throw .calibration(error)
    }
  }

  func executor(
    _ graph: Graph, _ values: [Value], from start: Value?
  ) throws(PassError) -> Executor {
    do {
      let part: Graph
      do {
        part = try graph.segment(computing: values, from: start.map { [$0] } ?? []).changing(
          codes: options.isSequential ? codes : [:])
      } catch {
        throw PassError.graph(pass: pass, error)
      }
      return try Executor(part, threadCount: threadCount)
    } catch let error as PassError {
      throw error
    } catch {
      throw .calibration(error)
    }
  }
}

extension Graph {
  /// `values` without those that occur before.
  func distinct(_ values: [Value]) -> [Value] {
    var seen = Set<Value>()
    return values.filter { seen.insert($0).inserted }
  }

  /// The values that `output` needs, itself included.
  func values(feeding output: Value) -> Set<Value> {
    var needed: Set<Value> = [output]
    for node in nodes.reversed() where node.outputs.contains(where: needed.contains) {
      needed.formUnion(node.inputs)
    }
    return needed
  }
}
