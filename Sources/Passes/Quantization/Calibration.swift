import Execution
import GraphIR
import Operators
import TensorCore

/// What a value of a graph was like on calibration data.
package struct ActivationStatistics: Equatable, Sendable {
  /// How often values fell where.
  package var histogram = ActivationHistogram()
  /// Rows of the value, where those were asked for.
  package var rows: RowSample?

  /// Statistics of nothing yet; with rows of `width` channels unless that is nil.
  package init(width: Int? = nil) { rows = width.map { RowSample(width: $0) } }
}

/// Statistics of a graph's values over calibration data.
package enum Calibration {
  /// Statistics of each of `points` over all batches of the context, in one pass over them; with
  /// sampled rows for those of `sampled`.
  ///
  /// A batch may lack inputs: it then counts for the values that its inputs reach.
  ///
  /// - Throws: ``PassError`` when a run fails or a value is not finite.
  package static func statistics(
    of points: Set<Value>, sampling sampled: Set<Value> = [], in graph: Graph,
    context: borrowing PassContext
  ) throws(PassError) -> [Value: ActivationStatistics] {
    guard let source = context.calibration else { throw .needsData(pass: Quantize.name) }
    let all = points.union(sampled)
    guard !all.isEmpty else { return [:] }
    let key = Self.key(all, sampled, in: graph)
    do {
      if let kept = try context.statistics?.tensors(for: key),
        let known = Self.statistics(of: all, sampled, in: graph, from: kept)
      {
        return known
      }
    } catch {
      throw .calibration(error)
    }
    let collector = Collector(
      graph, all, sampled, threadCount: context.threadCount)
    let report = context.report
    do {
      try source.forEachBatch { batch in
        try collector.add(batch)
        report(.progress(stage: "calibration", done: collector.batchCount, total: 0))
      }
    } catch let error as PassError {
      throw error
    } catch {
      throw .calibration(error)
    }
    guard collector.batchCount > 0 else {
      throw .unsuitable(pass: Quantize.name, "the calibration data hold no sample")
    }
    let found = try collector.statistics()
    do {
      try context.statistics?.keep(Self.tensors(found, in: graph), for: key)
    } catch {
      throw .calibration(error)
    }
    return found
  }

  /// What tells these statistics from others of the same model and data.
  private static func key(_ all: Set<Value>, _ sampled: Set<Value>, in graph: Graph) -> String {
    func names(_ values: Set<Value>) -> String {
      graph.values.filter(values.contains).map { graph.name(of: $0) }.joined(separator: " ")
    }
    return "activations \(names(all)); rows of \(names(sampled))"
  }

  private static func tensors(
    _ statistics: [Value: ActivationStatistics], in graph: Graph
  ) -> [String: Tensor] {
    var tensors: [String: Tensor] = [:]
    for (value, one) in statistics {
      let name = graph.name(of: value)
      tensors["\(name).histogram"] = one.histogram.tensor
      guard let rows = one.rows else { continue }
      tensors["\(name).rows"] = Tensor(shape: [rows.count, rows.width], rows.elements)
      tensors["\(name).ranges"] = Tensor(
        shape: [2, rows.width], rows.minima + rows.maxima)
    }
    return tensors
  }

  /// The statistics in `tensors`; nil unless all are there and make sense.
  private static func statistics(
    of all: Set<Value>, _ sampled: Set<Value>, in graph: Graph, from tensors: [String: Tensor]
  ) -> [Value: ActivationStatistics]? {
    var result: [Value: ActivationStatistics] = [:]
    for value in all {
      let name = graph.name(of: value)
      // No calibration input may have reached it.
      guard let stored = tensors["\(name).histogram"] else { continue }
      guard let histogram = ActivationHistogram(stored) else { return nil }
      var one = ActivationStatistics()
      one.histogram = histogram
      if sampled.contains(value) {
        guard let rows = tensors["\(name).rows"], let ranges = tensors["\(name).ranges"],
          rows.dtype == .float32, ranges.dtype == .float32, rows.shape.count == 2,
          rows.shape[1] == graph.tensorType(of: value).extents.last?.fixedCount, rows.shape[1] > 0,
          ranges.shape == [2, rows.shape[1]]
        else { return nil }
        let ends = ranges.elements(of: Float.self)
        let elements = rows.elements(of: Float.self)
        guard (ends + elements).allSatisfy(\.isFinite) else { return nil }
        one.rows = RowSample(
          elements: elements, minima: Array(ends[..<rows.shape[1]]),
          maxima: Array(ends[rows.shape[1]...]))
      }
      result[value] = one
    }
    return result
  }
}

/// Runs batches and counts what passes the points.
private final class Collector {
  private let graph: Graph
  private let points: Set<Value>
  private let sampled: Set<Value>
  private let threadCount: Int
  private(set) var batchCount = 0
  private var parts: [Value: [ActivationHistogram]] = [:]
  private var samples: [Value: RowSample] = [:]
  private var executors: [[String]: Executor] = [:]

  init(_ graph: Graph, _ points: Set<Value>, _ sampled: Set<Value>, threadCount: Int) {
    self.graph = graph
    self.points = points
    self.sampled = sampled
    self.threadCount = max(1, threadCount)
  }

  func add(_ batch: Batch) throws {
    let outputs = computable(from: Set(batch.inputs.keys))
    guard !outputs.isEmpty else {
      throw PassError.unsuitable(
        pass: Quantize.name,
        "a batch has the inputs \(batch.inputs.keys.sorted().joined(separator: ", ")), "
          + "from which no output of the model follows")
    }
    let executor: Executor
    if let known = executors[outputs] {
      executor = known
    } else {
      executor = try Executor(graph, outputs: outputs, threadCount: threadCount)
      executors[outputs] = executor
    }
    var originals: [Value: Value] = [:]
    for point in points {
      if let value = executor.graph.value(named: graph.name(of: point)) { originals[value] = point }
    }
    let inputs = batch.inputs.filter { executor.graph.value(named: $0.key) != nil }
    _ = try executor.run(inputs, observing: Set(originals.keys)) { value, elements in
      guard let point = originals[value] else { return }
      self.count(elements, at: point)
      if self.sampled.contains(point) { self.sample(elements, at: point) }
    }
    batchCount += 1
  }

  /// The outputs for which all inputs are there.
  private func computable(from names: Set<String>) -> [String] {
    graph.outputs.map(\.name).filter { name in
      guard let part = try? graph.extracting(outputs: [name]) else { return false }
      return part.inputs.allSatisfy { names.contains(part.name(of: $0)) }
    }
  }

  /// Each thread has its own histogram; what they hold together does not depend on the division.
  private func count(_ elements: UnsafeBufferPointer<Float>, at point: Value) {
    var histograms =
      parts.removeValue(forKey: point)
      ?? [ActivationHistogram](repeating: ActivationHistogram(), count: threadCount)
    let size = elements.count
    let share = size < 1 << 14 ? size : (size + threadCount - 1) / threadCount
    histograms.withUnsafeMutableBufferPointer { histograms in
      forEachRange(of: histograms.count, threadCount: threadCount) { range in
        for part in range {
          let slice = min(part * share, size)..<min((part + 1) * share, size)
          histograms[part].add(UnsafeBufferPointer(rebasing: elements[slice]))
        }
      }
    }
    parts[point] = histograms
  }

  private func sample(_ elements: UnsafeBufferPointer<Float>, at point: Value) {
    let width = graph.tensorType(of: point).extents.last?.fixedCount ?? 1
    var sample = samples.removeValue(forKey: point) ?? RowSample(width: width)
    sample.add(elements)
    samples[point] = sample
  }

  func statistics() throws(PassError) -> [Value: ActivationStatistics] {
    var result: [Value: ActivationStatistics] = [:]
    for (point, histograms) in parts {
      var statistics = ActivationStatistics()
      for part in histograms { statistics.histogram.merge(part) }
      guard statistics.histogram.unusableCount == 0 else {
        throw .parameter(
          name: graph.name(of: point),
          "takes infinite values or none at all on the calibration data")
      }
      statistics.rows = samples[point]
      result[point] = statistics
    }
    return result
  }
}
