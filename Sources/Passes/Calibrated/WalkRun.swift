import Execution
import GraphIR
import Operators
import TensorCore

/// One walk under way: the graph that changes and how far it is.
final class WalkRun {
  private let pass: String
  private let options: SequentialWalk.Options
  /// The caller's graph with the changes so far.
  private(set) var result: Graph
  /// The form that runs, with the changes so far where the walk is sequential.
  private var form: Graph
  private let original: Graph
  private let threadCount: Int
  private let report: (PassEvent) -> Void
  private let total: Int
  private var done = 0

  init(
    pass: String, options: SequentialWalk.Options, result: Graph, form: Graph, total: Int,
    threadCount: Int, report: @escaping (PassEvent) -> Void
  ) {
    self.pass = pass
    self.options = options
    self.result = result
    self.form = form
    original = form
    self.total = total
    self.threadCount = threadCount
    self.report = report
  }

  private var followsOriginal: Bool { options.followsOriginal && options.isSequential }

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
      try Head(stream, form, threadCount, pass)
    }
    var batches = [[[String: Tensor]]](repeating: [], count: streams.count)
    var count = 0
    do {
      try source.forEachBatch { batch in
        for (index, head) in heads.enumerated() where head.isFed(by: batch) {
          batches[index].append(try head.state(of: batch))
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
      if followsOriginal { streams[index].originals = batches[index] }
    }
  }

  /// Visits the layers of all parts of `stream`, whose batches stand at the first.
  func go(
    through stream: inout CalibrationStream, _ visitor: SequentialWalk.Visitor
  ) throws(PassError) {
    for (index, part) in stream.parts.enumerated() {
      var groups: [(input: Value, layers: [LinearLayer])] = []
      for layer in part.layers {
        if let known = groups.firstIndex(where: { $0.input == layer.input }) {
          groups[known].layers.append(layer)
        } else {
          groups.append((layer.input, [layer]))
        }
      }
      let rounds =
        options.refreshesWithinBlock && options.isSequential ? groups.map { [$0] } : [groups]
      for round in rounds {
        let statistics = try collect(round.map(\.input), from: part.start, stream)
        for group in round {
          guard let moments = statistics[group.input] else { continue }
          for layer in group.layers { try visit(layer, moments, visitor) }
        }
      }
      guard index + 1 < stream.parts.count, let next = stream.parts[index + 1].start else {
        continue
      }
      stream.batches = try advance(stream.batches, form, from: part.start, to: next)
      if followsOriginal {
        stream.originals = try advance(stream.originals, original, from: part.start, to: next)
      }
    }
  }

  private func visit(
    _ layer: LinearLayer, _ statistics: InputStatistics, _ visitor: SequentialWalk.Visitor
  ) throws(PassError) {
    let weightName = form.name(of: layer.weight)
    guard let weight = result.parameter(named: weightName) else { return }
    let bias = layer.bias.flatMap { result.parameter(named: form.name(of: $0)) }
    let calibrated = CalibratedLayer(
      name: layer.name, weightName: weightName, weight: weight, bias: bias,
      statistics: statistics)
    if let change = try visitor(calibrated) {
      try set(weightName, change.weight)
      if let bias = change.bias, let value = layer.bias { try set(form.name(of: value), bias) }
    }
    done += 1
    report(.progress(stage: "layers", done: done, total: total))
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

  /// The moments of `values` over all batches of `stream`, which stand at `start`.
  private func collect(
    _ values: [Value], from start: Value?, _ stream: CalibrationStream
  ) throws(PassError) -> [Value: InputStatistics] {
    var statistics: [Value: InputStatistics] = [:]
    for value in values {
      let width = form.tensorType(of: value).extents.last?.fixedCount ?? 0
      statistics[value] = InputStatistics(width: width)
    }
    let current = try executor(form, values, from: start)
    let before = followsOriginal ? try executor(original, values, from: start) : nil
    var sources: [Value: Value] = [:]
    for value in values {
      if let image = current.graph.value(named: form.name(of: value)) { sources[image] = value }
    }
    do {
      for (index, batch) in stream.batches.enumerated() {
        let originals = try before?.run(stream.originals[index])
        _ = try current.run(batch, observing: Set(sources.keys)) { image, elements in
          guard let value = sources[image], let moments = statistics[value] else { return }
          if let original = originals?[self.form.name(of: value)] {
            original.withElements(of: Float.self) {
              moments.add(elements, original: $0, threadCount: self.threadCount)
            }
          } else {
            moments.add(elements, threadCount: self.threadCount)
          }
        }
      }
    } catch {
      throw .calibration(error)
    }
    for (value, moments) in statistics where !moments.isFinite {
      throw .parameter(
        name: form.name(of: value),
        "takes infinite values or none at all on the calibration data")
    }
    return statistics
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

  private func executor(
    _ graph: Graph, _ values: [Value], from start: Value?
  ) throws(PassError) -> Executor {
    do {
      let part: Graph
      do {
        part = try graph.segment(computing: values, from: start.map { [$0] } ?? [])
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

/// Brings batches from the inputs of the graph to a tower's first cut.
private struct Head {
  /// The inputs that the tower needs.
  let inputNames: Set<String>
  private let later: Set<String>
  private let executor: Executor?

  init(
    _ stream: CalibrationStream, _ form: Graph, _ threadCount: Int, _ pass: String
  ) throws(PassError) {
    do {
      let whole = try form.segment(computing: [stream.output], from: [])
      inputNames = Set(whole.inputs.map { whole.name(of: $0) })
      guard let start = stream.parts.first?.start else {
        later = inputNames
        executor = nil
        return
      }
      let rest = try form.segment(computing: [stream.output], from: [start])
      later = Set(rest.inputs.map { rest.name(of: $0) }).intersection(inputNames)
      executor = try Executor(
        try form.segment(computing: [start], from: []), threadCount: threadCount)
    } catch let error as GraphError {
      throw .graph(pass: pass, error)
    } catch {
      throw .calibration(error)
    }
  }

  func isFed(by batch: Batch) -> Bool { inputNames.allSatisfy { batch.inputs[$0] != nil } }

  func state(of batch: Batch) throws -> [String: Tensor] {
    let made = try executor?.run(batch.inputs) ?? [:]
    return batch.inputs.filter { later.contains($0.key) }.merging(made) { $1 }
  }
}

extension Graph {
  /// The values that `output` needs, itself included.
  func values(feeding output: Value) -> Set<Value> {
    var needed: Set<Value> = [output]
    for node in nodes.reversed() where node.outputs.contains(where: needed.contains) {
      needed.formUnion(node.inputs)
    }
    return needed
  }
}
