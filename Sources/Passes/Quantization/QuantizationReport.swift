import Foundation
import GraphIR
import Operators
import TensorCore

/// What quantization did to each tensor.
package struct QuantizationReport: Codable, Sendable {
  /// One tensor.
  package struct Row: Codable, Sendable {
    /// The parameter or value.
    package let name: String
    /// `weight` or `activation`.
    package let kind: String
    /// The mean over all elements of the squared rounding error.
    package let meanSquaredError: Double
    /// Signal over error in decibels; nil where the error or the signal is zero.
    package let signalToNoise: Double?
    /// Bits of a code.
    package let bitCount: Int
    /// The smallest step.
    package let smallestScale: Float
    /// The largest step.
    package let largestScale: Float
    /// The code of zero, for an activation.
    package let zeroPoint: Int?
  }

  /// How bits were shared between weights under a budget.
  package struct Allocation: Codable, Sendable {
    /// How they were chosen.
    package let method: BitAllocation.Method
    /// The sum of what the weights lose by ``QuantizationReport/sensitivities``.
    package let loss: Double
    /// Bytes of these weights.
    package let byteCount: Int
  }

  /// The tensors as they are in the end: weights, then activations, in the order of the model.
  package private(set) var rows: [Row] = []
  /// How scales moved between layers.
  package var migrations: [ScaleMigration.Choice] = []
  /// What each weight loses at each number of bits, where that was asked for.
  package var sensitivities: SensitivityTable?
  /// How bits were shared between weights; nil where there was no budget.
  package var allocation: Allocation?
  /// What choosing codes by calibration data did to each layer.
  package var layers: [LayerRounding.LayerError] = []
  /// What tuning biases did to each tower.
  package var tuning: [BiasTuning.Row] = []
  /// What the towers lost on calibration data.
  package var towers: [TowerError] = []
  /// Bytes of all parameters before.
  package let bytesBefore: Int
  /// Bytes of all parameters after.
  package var bytesAfter: Int

  /// An empty report of a model whose parameters have `bytesBefore` bytes.
  package init(bytesBefore: Int) {
    self.bytesBefore = bytesBefore
    bytesAfter = bytesBefore
  }

  /// Adds rows for what `graph` holds of the weights of `float` that `weights` names, then for its
  /// roundings of what `histograms`, by the name of the node, says.
  mutating func add(
    _ weights: [String], _ histograms: [String: ActivationHistogram], of graph: Graph,
    from float: Graph
  ) {
    for name in weights {
      guard let before = float.parameter(named: name), let after = graph.parameter(named: name)
      else { continue }
      add(weight: name, before: before, after: after)
    }
    for node in graph.nodes {
      guard let codes = (node.op as? FakeQuantize)?.parameters,
        let histogram = histograms[node.name]
      else { continue }
      add(activation: graph.name(of: node.inputs[0]), histogram, codes)
    }
  }

  private mutating func add(weight name: String, before: Parameter, after: Parameter) {
    guard let quantization = after.quantization else { return }
    let scales = quantization.scales.elements(of: Float.self).map(abs)
    let (error, signal) = Self.squares(before.materialized, after.materialized)
    add(
      name, "weight", error, signal, quantization.bitCount, scales.min() ?? 1, scales.max() ?? 1,
      nil)
  }

  private mutating func add(
    activation name: String, _ histogram: ActivationHistogram, _ grid: ActivationQuantization
  ) {
    add(
      name, "activation", histogram.meanSquaredError(of: grid), histogram.meanSquare,
      (Int(grid.highest) + 1).trailingZeroBitCount, grid.scale, grid.scale, Int(grid.zeroPoint))
  }

  private mutating func add(
    _ name: String, _ kind: String, _ error: Double, _ signal: Double, _ bitCount: Int,
    _ smallest: Float, _ largest: Float, _ zeroPoint: Int?
  ) {
    rows.append(
      Row(
        name: name, kind: kind, meanSquaredError: error,
        signalToNoise: error > 0 && signal > 0 ? 10 * log10(signal / error) : nil,
        bitCount: bitCount, smallestScale: smallest, largestScale: largest, zeroPoint: zeroPoint))
  }

  /// The mean squares of the rounding error and of the elements.
  private static func squares(_ before: Tensor, _ after: Tensor) -> (error: Double, signal: Double)
  {
    var (error, signal) = (0.0, 0.0)
    before.withElements(of: Float.self) { before in
      after.withElements(of: Float.self) { after in
        for start in stride(from: 0, to: before.count, by: 4096) {
          var (partError, partSignal): (Float, Float) = (0, 0)
          for index in start..<Swift.min(start + 4096, before.count) {
            let difference = before[index] - after[index]
            partError += difference * difference
            partSignal += before[index] * before[index]
          }
          error += Double(partError)
          signal += Double(partSignal)
        }
      }
    }
    let count = Double(Swift.max(before.count, 1))
    return (error / count, signal / count)
  }

  /// The report as a table for people, a line each.
  package var lines: [String] {
    var lines = [
      Self.line("tensor", "kind", "bits", "mean sq. error", "SQNR dB", "scale")
    ]
    for row in rows {
      let scale =
        row.smallestScale == row.largestScale
        ? Self.number(Double(row.smallestScale))
        : Self.number(Double(row.smallestScale)) + "..." + Self.number(Double(row.largestScale))
      lines.append(
        Self.line(
          row.name, row.kind, "\(row.bitCount)", Self.number(row.meanSquaredError),
          row.signalToNoise.map { String(format: "%.1f", $0) } ?? "-", scale))
    }
    lines.append("parameters: \(bytesBefore) bytes before, \(bytesAfter) after")
    if let allocation {
      lines.append(
        "bits of weights by \(allocation.method.rawValue): loss \(Self.number(allocation.loss)), "
          + "\(allocation.byteCount) bytes")
    }
    lines += migrations.compactMap { choice in
      guard let strength = choice.strength else { return nil }
      return "scales moved at \(choice.name): strength \(Self.number(strength)), relative error of "
        + "its layers \(Self.number(choice.errorBefore)) before, \(Self.number(choice.errorAfter)) after"
    }
    lines += layers.map { layer in
      "codes of \(layer.layer): relative error of its output \(Self.number(layer.before)) with the "
        + "nearest, \(Self.number(layer.after)) as chosen"
    }
    lines += tuning.map { row in
      "biases of the \(row.tower.rawValue) tower tuned: divergence \(Self.number(row.before)) before, "
        + "\(Self.number(row.after)) after, on pairs held out"
    }
    for tower in towers {
      lines.append(
        "\(tower.tower.rawValue) tower, \(tower.items) calibration items: cosine to before "
          + String(format: "%.5f", tower.meanCosine) + " on average, "
          + String(format: "%.5f", tower.leastCosine) + " at least; a logit is off by "
          + "\(tower.logitError.map(Self.number) ?? "any number"); relative error of tokens "
          + "\(Self.number(tower.tokenErrors.min() ?? 0))..."
          + "\(Self.number(tower.tokenErrors.max() ?? 0))")
    }
    return lines
  }

  private static func number(_ value: Double) -> String { String(format: "%.3g", value) }

  private static func line(_ cells: String...) -> String {
    let widths = [44, 10, 4, 14, 7, 0]
    let padded = zip(cells, widths).map { cell, width in
      cell.padding(toLength: Swift.max(cell.count, width), withPad: " ", startingAt: 0)
    }
    return padded.joined(separator: "  ")
  }
}
