import Foundation
import GraphIR
import Operators
import TensorCore

/// Finds for each site the factors with which its layers lose least by quantization.
///
/// The factors of strength `α` are `max|x|^α / max|w|^(1-α)` for each channel. Strength is searched
/// by the error of the layers' output on sampled rows, since what suits one layer ruins another. Any
/// strength gives the same layers when channels had been scaled up beforehand and weights down.
///
/// - Source: Xiao et al., "SmoothQuant", ICML 2023, arXiv:2211.10438. Differs: strength is chosen by
///   layer, on the layer's own error; leaving the layer alone is among the choices.
package struct ScaleMigration {
  /// How strength is chosen.
  package enum Strength: Codable, Sendable, Hashable {
    /// Of several, or none, whichever gives the layer the least error.
    case searched
    /// The same for all, 0...1.
    case fixed(Double)
  }

  /// The strengths that are tried.
  static let strengths: [Double] = [0, 0.15, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1]
  /// Rows on which outputs are compared, and output channels of each layer that are: what suits
  /// some of them suits all, and a full comparison would take most of the time of the pass.
  static let comparedRows = 256
  static let comparedChannels = 384
  /// Rows whose distribution decides about ranges in a trial.
  static let trialRows = 512

  /// What was found for a site.
  package struct Choice: Codable, Sendable {
    /// The name of the activation.
    package let name: String
    /// The strength, nil where nothing moves.
    package let strength: Double?
    /// The root of the relative squared error of the layers' output without and with.
    package let errorBefore: Double
    package let errorAfter: Double
  }

  private let strength: Strength
  private let codes: ActivationCodes
  private let quantizer: (Value) -> WeightQuantizer?
  private let threadCount: Int

  /// Prepares a search for layers whose inputs get `codes`, and whose weights those of `quantizer`;
  /// nil stands for a weight that stays float.
  init(
    _ strength: Strength, _ codes: ActivationCodes, threadCount: Int,
    quantizer: @escaping (Value) -> WeightQuantizer?
  ) {
    self.strength = strength
    self.codes = codes
    self.threadCount = threadCount
    self.quantizer = quantizer
  }

  /// The factors for `site`, nil to leave it alone, and what they bring.
  func choose(
    for site: MigrationSite, _ sample: RowSample, in graph: Graph
  ) throws(PassError) -> (factors: [Float]?, choice: Choice) {
    var weights: [(elements: [Float], value: Value)] = []
    var peaks = [Float](repeating: 0, count: sample.width)
    for reader in site.readers {
      guard let parameter = graph.parameter(reader) else { continue }
      let elements = parameter.materialized.elements(of: Float.self)
      for index in elements.indices {
        peaks[index % sample.width] = max(peaks[index % sample.width], abs(elements[index]))
      }
      weights.append((Self.some(elements, width: sample.width), reader))
    }
    let rows = sample.rows(about: Self.comparedRows)
    let trial = Trial(
      rows: rows, sample: sample.thinned(to: Self.trialRows), weights: weights, codes: codes,
      graph: graph,
      threadCount: threadCount, quantizer: quantizer)
    let plain = try trial.error(with: nil)
    let name = graph.name(of: site.activation)
    var best: (strength: Double?, factors: [Float]?, error: Double) = (nil, nil, plain)
    var candidates = Self.strengths
    if case .fixed(let one) = strength {
      candidates = [one]
      best.error = .infinity
    }
    for strength in candidates {
      let factors = Self.factors(sample.magnitudes, peaks, strength: strength)
      let error = try trial.error(with: factors)
      if error < best.error { best = (strength, factors, error) }
    }
    let choice = Choice(
      name: name, strength: best.strength, errorBefore: plain, errorAfter: best.error)
    return (best.factors, choice)
  }

  /// Some of the rows of a weight, evenly taken.
  private static func some(_ elements: [Float], width: Int) -> [Float] {
    let count = elements.count / max(width, 1)
    guard count > comparedChannels else { return elements }
    return (0..<comparedChannels).flatMap { place in
      let start = place * count / comparedChannels * width
      return elements[start..<(start + width)]
    }
  }

  /// `max|x|^α / max|w|^(1-α)`, with geometric mean 1; 1 for a channel that is always zero.
  static func factors(_ inputs: [Float], _ weights: [Float], strength: Double) -> [Float] {
    var logarithms = zip(inputs, weights).map { input, weight -> Double? in
      guard input > 0, weight > 0 else { return nil }
      return strength * log(Double(input)) - (1 - strength) * log(Double(weight))
    }
    let known = logarithms.compactMap { $0 }
    guard !known.isEmpty else { return inputs.map { _ in 1 } }
    let mean = known.reduce(0, +) / Double(known.count)
    // Within what leaves the divided numbers far from the ends of float32.
    logarithms = logarithms.map { $0.map { min(max($0 - mean, -20), 20) } }
    return logarithms.map { $0.map { Float(exp($0)) } ?? 1 }
  }
}

/// The layers of a site, tried with factors.
private struct Trial {
  let rows: [Float]
  let sample: RowSample
  let weights: [(elements: [Float], value: Value)]
  let codes: ActivationCodes
  let graph: Graph
  let threadCount: Int
  let quantizer: (Value) -> WeightQuantizer?
  /// What the layers answer to the rows as they are.
  let answers: [[Float]]

  init(
    rows: [Float], sample: RowSample, weights: [(elements: [Float], value: Value)],
    codes: ActivationCodes, graph: Graph, threadCount: Int,
    quantizer: @escaping (Value) -> WeightQuantizer?
  ) {
    self.rows = rows
    self.sample = sample
    self.weights = weights
    self.codes = codes
    self.graph = graph
    self.threadCount = threadCount
    self.quantizer = quantizer
    answers = weights.map { weight in
      Matrix.productTransposed(
        m: rows.count / sample.width, n: weight.elements.count / sample.width, k: sample.width,
        rows, weight.elements, threadCount: threadCount)
    }
  }

  /// The root of the relative squared error of what the quantized layers answer to the rows.
  func error(with factors: [Float]?) throws(PassError) -> Double {
    let width = sample.width
    let scaled = factors.map { sample.dividing(by: $0) } ?? sample
    var inputs = rows
    if let factors {
      for index in inputs.indices { inputs[index] /= factors[index % width] }
    }
    codes.simulate(&inputs, like: scaled.histogram, width: width)
    var (error, whole) = (0.0, 0.0)
    for ((elements, value), exact) in zip(weights, answers) {
      let count = elements.count / width
      var moved = elements
      if let factors {
        for index in moved.indices { moved[index] *= factors[index % width] }
      }
      if let quantizer = quantizer(value) {
        let tensor = Tensor(shape: [count, width], moved)
        moved = try quantizer.quantize(
          Parameter(tensor), named: graph.name(of: value), threadCount: threadCount
        ).materialized.elements(of: Float.self)
      }
      let rounded = Matrix.productTransposed(
        m: rows.count / width, n: count, k: width, inputs, moved, threadCount: threadCount)
      for index in exact.indices {
        let difference = Double(exact[index] - rounded[index])
        error += difference * difference
        whole += Double(exact[index]) * Double(exact[index])
      }
    }
    return whole > 0 ? (error / whole).squareRoot() : 0
  }
}
