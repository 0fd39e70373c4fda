import Foundation
import GraphIR
import Operators
import TensorCore

/// Turns the weights of linear layers into codes, each layer by what it reads on calibration data.
///
/// Layers are visited in the order of the model. Unless ``Options/isSequential`` is off, each reads
/// what the rounded layers before it make and shall answer as the original model does.
package struct LayerRounding: Sendable {
  /// How codes are chosen.
  package enum Method: String, Codable, Sendable, CaseIterable {
    /// The nearest.
    case nearest
    /// ``GPTQ``.
    case gptq
    /// ``AdaQuant``.
    case adaquant
  }

  /// The user's choices.
  package struct Options: Codable, Sendable, Equatable {
    /// How codes are chosen.
    package var method = Method.gptq
    /// Whether layers see what the rounded layers before them make, or the original inputs.
    package var isSequential = true
    /// Whether biases make up for the mean error of each channel.
    package var correctsBias = true
    /// What is added to the diagonal of the Hessian, as a share of its mean.
    package var damping = 0.01
    /// What GPTQ does.
    package var gptq = GPTQ.Options()
    /// What AdaQuant does.
    package var adaquant = AdaQuant.Options()
    /// Whether AdaQuant starts from GPTQ's codes rather than from the nearest.
    package var startsFromGPTQ = true

    /// The defaults.
    package init() {}
  }

  /// What became of one layer.
  package struct LayerError: Codable, Sendable, Equatable {
    /// The weight.
    package let layer: String
    /// The root of the mean squared error of the outputs over that of the outputs, had the weights
    /// been rounded to the nearest codes.
    package let before: Double
    /// The same of what was chosen.
    package let after: Double
  }

  /// The user's choices.
  package let options: Options
  /// The pass in whose name errors speak.
  package let pass: String

  /// Plans to round as `options` say.
  package init(options: Options = Options(), pass: String = "quantize") {
    self.options = options
    self.pass = pass
  }

  /// The graph with codes in place of weights, and what that did to each layer.
  ///
  /// - Parameters:
  ///   - graph: the model, with a ``FakeQuantize`` wherever activations are rounded; its weights and
  ///     biases are not read.
  ///   - float: the model before any rounding, with values and parameters of the same names.
  ///   - quantizers: by the name of the weight, how it is turned into codes. What is not the weight
  ///     of exactly one linear layer, a table, say, gets the nearest codes.
  ///   - context: lends calibration data, a seed and threads.
  /// - Returns: The graph, and a figure for each linear layer in the order of the model.
  /// - Returns: the graph, and a row for each layer.
  /// - Throws: ``PassError`` when data are missing, names are unknown or a layer cannot be rounded.
  package func run(
    on graph: Graph, float: Graph, quantizers: [String: WeightQuantizer],
    in context: borrowing PassContext
  ) throws(PassError) -> (graph: Graph, errors: [LayerError]) {
    var start = graph
    var layers: [Value] = []
    for name in quantizers.keys.sorted() {
      guard let value = start.value(named: name), let own = float.parameter(named: name),
        let quantizer = quantizers[name]
      else { throw .unsuitable(pass: pass, "the model has no parameter \(name)") }
      var parameter = own
      if start.isLinearWeight(value), own.tensor.count > 0 {
        layers.append(value)
      } else {
        parameter = try quantizer.quantize(own, named: name, threadCount: context.threadCount)
      }
      do { try start.setParameter(value, parameter) } catch { throw .graph(pass: pass, error) }
    }
    guard !layers.isEmpty else { return (start, []) }
    try restoreBiases(of: layers, in: &start, from: float)
    var walk = SequentialWalk.Options()
    walk.isSequential = options.isSequential
    walk.followsOriginal = true
    var gathering = SequentialWalk.Gathering()
    gathering.moments = sweeps || options.method != .adaquant
    gathering.rowCount = options.method == .adaquant ? options.adaquant.rows : 2048
    gathering.seed = context.seed
    let (threadCount, seed) = (context.threadCount, context.seed)
    var errors: [LayerError] = []
    let rounded = try SequentialWalk(pass: pass, options: walk).run(
      on: start, original: float, weights: layers, gathering: gathering, in: context
    ) { group throws(PassError) in
      guard let rows = group.rows, rows.count > 0 else {
        // An expert that no token takes keeps the nearest codes.
        guard !group.fixesCodes else {
          return GroupChange(layers: group.layers.map { _ in nil })
        }
        throw .parameter(name: group.input, "meets no calibration input")
      }
      let targets = LayerTargets(group.layers, rows, threadCount: threadCount)
      let (change, own) = try self.change(of: group, targets, quantizers, seed: seed)
      errors += own
      return change
    }
    return (rounded, errors)
  }

  private var sweeps: Bool {
    options.method == .gptq || options.method == .adaquant && options.startsFromGPTQ
  }

  /// Biases start as those of the float model.
  private func restoreBiases(
    of weights: [Value], in graph: inout Graph, from float: Graph
  ) throws(PassError) {
    for layer in try graph.linearLayers(of: weights, pass: pass) {
      guard let bias = layer.bias, let own = float.parameter(named: graph.name(of: bias)) else {
        continue
      }
      do { try graph.setParameter(bias, own) } catch { throw .graph(pass: pass, error) }
    }
  }

  private func change(
    of group: LayerGroup, _ targets: LayerTargets, _ quantizers: [String: WeightQuantizer],
    seed: UInt64
  ) throws(PassError) -> (GroupChange, [LayerError]) {
    let rounded = targets.rounded(by: group.codes)
    var nearest: [Parameter] = []
    var chosen: [Parameter] = []
    for layer in group.layers {
      guard let quantizer = quantizers[layer.weightName] else { continue }
      let plain = try quantizer.quantize(
        layer.weight, named: layer.weightName, threadCount: targets.threadCount)
      nearest.append(plain)
      guard sweeps else {
        chosen.append(plain)
        continue
      }
      var problem = LayerProblem.Options()
      problem.damping = options.damping
      problem.correctsBias = options.correctsBias
      chosen.append(
        try GPTQ(options: options.gptq).codes(
          of: try LayerProblem(layer, options: problem, threadCount: targets.threadCount),
          by: quantizer, named: layer.weightName))
    }
    var solution = AdaQuant.Solution(
      weights: chosen, biases: targets.biases, codes: group.codes)
    correct(&solution, group, targets, on: rounded)
    let before = targets.relativeErrors(
      nearest.dense, targets.biases, on: rounded)
    if options.method == .adaquant {
      var adaquant = options.adaquant
      if group.fixesCodes { adaquant.learnsRange = false }
      solution = AdaQuant(options: adaquant).solution(
        of: targets, startingAt: solution, seed: seed)
    }
    let inputs = options.method == .adaquant ? targets.rounded(by: solution.codes) : rounded
    correct(&solution, group, targets, on: inputs)
    let after = targets.relativeErrors(solution.weights.dense, solution.biases, on: inputs)
    var changes: [LayerChange?] = []
    var errors: [LayerError] = []
    for (place, layer) in group.layers.enumerated() {
      var change = LayerChange(weight: solution.weights[place])
      if let bias = layer.bias {
        let own = Array(solution.biases[targets.ranges[place]])
        change.bias = Parameter(Tensor(shape: [own.count], own), mask: bias.mask)
      }
      changes.append(change)
      errors.append(
        LayerError(layer: layer.weightName, before: before[place], after: after[place]))
    }
    let codes = solution.codes == group.codes ? nil : solution.codes
    return (GroupChange(layers: changes, codes: codes), errors)
  }

  /// Lets biases make up for the mean error of each channel: over all calibration data where these
  /// were counted for the input as it is rounded now, otherwise over the rows at hand.
  private func correct(
    _ solution: inout AdaQuant.Solution, _ group: LayerGroup, _ targets: LayerTargets,
    on inputs: [Float]
  ) {
    guard options.correctsBias else { return }
    let dense = solution.weights.dense
    guard let statistics = group.layers.first?.statistics, statistics.rowCount > 0,
      solution.codes == group.codes
    else {
      let errors = targets.meanErrors(dense, solution.biases, on: inputs)
      for channel in errors.indices where targets.hasBias[channel] {
        solution.biases[channel] += errors[channel]
      }
      return
    }
    let means = statistics.means
    let drift =
      statistics.driftMeans.isEmpty
      ? [Double](repeating: 0, count: targets.width) : statistics.driftMeans
    for channel in 0..<targets.channels where targets.hasBias[channel] {
      var shift = 0.0
      for column in 0..<targets.width {
        let place = channel * targets.width + column
        let own = Double(targets.weights[place])
        shift += (own - Double(dense[place])) * means[column] + own * drift[column]
      }
      solution.biases[channel] = targets.biases[channel] + Float(shift)
    }
  }
}

extension [Parameter] {
  /// The real values of all, one after the other.
  fileprivate var dense: [Float] { flatMap { $0.materialized.elements(of: Float.self) } }
}

extension Graph {
  /// Whether exactly one linear layer, and nothing else, reads `weight`.
  fileprivate func isLinearWeight(_ weight: Value) -> Bool {
    (try? linearLayers(of: [weight], pass: "")) != nil
  }
}
