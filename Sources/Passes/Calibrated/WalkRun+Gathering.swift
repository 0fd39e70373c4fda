import Execution
import GraphIR
import Operators
import TensorCore

/// What layers read on the calibration data, as a walk gathers it.
extension WalkRun {
  /// What is known of what some layers read over all batches.
  struct Gathered {
    let statistics: InputStatistics
    let rows: InputRows?
  }

  /// What is asked for of `wanted` over all batches of `stream`, which stand at `start`.
  func collect(
    _ wanted: [LayerRows], from start: Value?, _ stream: CalibrationStream
  ) throws(PassError) -> [LayerRows: Gathered] {
    var gathered: [LayerRows: Gathered] = [:]
    // Rows are those before a rounding, moments those behind it.
    var momentPlaces: [String: LayerRows] = [:]
    var rowPlaces: [String: [LayerRows]] = [:]
    for place in wanted {
      let value = place.input
      let width = form.tensorType(of: value).extents.last?.fixedCount ?? 0
      gathered[place] = Gathered(
        statistics: InputStatistics(width: gathering.moments ? width : 0),
        rows: gathering.rowCount > 0
          ? InputRows(width: width, capacity: gathering.rowCount, seed: gathering.seed) : nil)
      // What an expert reads is known when all has run.
      guard place.expert == nil else { continue }
      if gathering.moments { momentPlaces[form.name(of: value)] = place }
      if gathering.rowCount > 0 {
        rowPlaces[form.name(of: unrounded(value)), default: []] += [place]
      }
    }
    let chosen = wanted.filter { $0.expert != nil }
    let values = wanted.map(\.input)
    let assignments = form.distinct(chosen.compactMap { $0.expert?.assignment })
    let plain = form.distinct(values.map(unrounded))
    let current = try executor(form, form.distinct(values + plain) + assignments, from: start)
    let before =
      followsOriginal
      ? try executor(
        original, try (plain + assignments).map(originalValue),
        from: try start.map(originalValue)) : nil
    let names = Set(momentPlaces.keys).union(rowPlaces.keys)
    let images = Set(names.compactMap { current.graph.value(named: $0) })
    do {
      for (index, batch) in stream.batches.enumerated() {
        let originals = try before?.run(stream.originals[index])
        let made = try current.run(batch, observing: images) { image, elements in
          let name = current.graph.name(of: image)
          if let place = momentPlaces[name], let moments = gathered[place]?.statistics {
            let plain = self.form.name(of: self.unrounded(place.input))
            let original = self.options.followsOriginal ? originals?[plain] : nil
            Self.lend(original) {
              moments.add(elements, original: $0, threadCount: self.threadCount)
            }
          }
          for place in rowPlaces[name] ?? [] {
            Self.lend(originals?[name]) {
              gathered[place]?.rows?.add(elements, original: $0 ?? elements)
            }
          }
        }
        for place in chosen {
          gather(place, made, originals, into: gathered[place])
        }
      }
    } catch {
      throw .calibration(error)
    }
    for (place, own) in gathered where !own.statistics.isFinite || own.rows?.isFinite == false {
      throw .parameter(
        name: form.name(of: place.input),
        "takes infinite values or none at all on the calibration data")
    }
    return gathered
  }

  /// Takes in what an expert read in a run that left `made`, and `originals` of the original model.
  private func gather(
    _ place: LayerRows, _ made: [String: Tensor], _ originals: [String: Tensor]?,
    into gathered: Gathered?
  ) {
    guard let expert = place.expert, let gathered,
      let slots = made[form.name(of: expert.assignment)]?.elements(of: Int32.self)
    else { return }
    let plain = form.name(of: unrounded(place.input))
    // The original may send a token elsewhere: only what both have can be compared.
    let other = originals?[form.name(of: expert.assignment)]?.elements(of: Int32.self) ?? slots
    let own = slots.indices.filter {
      slots[$0] == Int32(expert.index) && other[$0] == slots[$0]
    }
    func rows(_ tensor: Tensor?) -> [Float] { tensor?.rows(ofSlots: own, slots.count) ?? [] }
    let original = originals.map { rows($0[plain]) }
    if gathering.moments {
      rows(made[form.name(of: place.input)]).withUnsafeBufferPointer { elements in
        guard options.followsOriginal, let original else {
          return gathered.statistics.add(elements, threadCount: threadCount)
        }
        original.withUnsafeBufferPointer {
          gathered.statistics.add(elements, original: $0, threadCount: threadCount)
        }
      }
    }
    guard let sample = gathered.rows else { return }
    let elements = rows(made[plain])
    elements.withUnsafeBufferPointer { elements in
      (original ?? Array(elements)).withUnsafeBufferPointer {
        sample.add(elements, original: $0)
      }
    }
  }

  /// Calls `body` with the elements of `tensor`, nil where there is none.
  private static func lend(_ tensor: Tensor?, _ body: (UnsafeBufferPointer<Float>?) -> Void) {
    guard let tensor else { return body(nil) }
    tensor.withElements(of: Float.self) { body($0) }
  }
}

/// The rows that some layers read: those of a value, or of it those that an expert takes.
struct LayerRows: Hashable {
  let input: Value
  let expert: LinearLayer.Expert?

  init(_ layer: LinearLayer) {
    input = layer.input
    expert = layer.expert
  }
}

extension Tensor {
  /// The rows along the last axis that `slots` read, of `slotCount` slots in order: each a row of its
  /// own, or as many as a token has the token's.
  fileprivate func rows(ofSlots slots: [Int], _ slotCount: Int) -> [Float] {
    let width = shape.last ?? 1
    let sharing = max(slotCount / max(count / max(width, 1), 1), 1)
    return withElements(of: Float.self) { elements in
      slots.flatMap { elements[($0 / sharing * width)..<(($0 / sharing + 1) * width)] }
    }
  }
}
