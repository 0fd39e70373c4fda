import Foundation
import GraphIR
import Operators
import TensorCore
import Training

/// Learns for each layer by itself which way its weights are rounded, with which scales and biases,
/// and how its input is rounded.
///
/// Minimizes the mean square of `Y - (Q_w(W + dW) Q_x(X) + b)` over `dW`, `b`, the scales of the
/// weights and the range of the input, by Adam on batches of rows, gradients passing straight
/// through the roundings. What is learned stays where rows that were held out say that it helps.
///
/// - Source: Hubara et al., "Accurate Post Training Quantization With Small Calibration Sets", ICML
///   2021, arXiv:2006.10518. Differs: weights move in units of their step, with a rate that falls
///   along a cosine, so that one rate serves every bit width.
package struct AdaQuant: Sendable {
  /// The user's choices.
  package struct Options: Codable, Sendable, Equatable {
    /// Steps for each group of layers.
    package var steps = 400
    /// Rows of a step.
    package var batch = 256
    /// Rows that are cached of each input.
    package var rows = 8192
    /// The share of the rows that decides whether something was learned.
    package var heldOut = 0.125
    /// The rate of weights, in steps of their codes.
    package var weightRate = 1e-2
    /// The rate of scales, relative to them.
    package var scaleRate = 1e-3
    /// The rate of biases, relative to the root of the mean square of the outputs.
    package var biasRate = 1e-3
    /// The rate of the scale of the input, relative to it.
    package var rangeRate = 2e-3
    /// Whether the input's range is learned, where it is rounded.
    package var learnsRange = true

    /// The defaults.
    package init() {}
  }

  private let options: Options

  /// Makes the method.
  package init(options: Options = Options()) { self.options = options }

  /// Where a fit starts and ends.
  struct Solution {
    /// The codes of each layer.
    var weights: [Parameter]
    /// `[channels]` of all layers.
    var biases: [Float]
    /// How the input is rounded.
    var codes: ActivationQuantization?
  }

  /// What is learned for `targets` from `start` on.
  func solution(of targets: LayerTargets, startingAt start: Solution, seed: UInt64) -> Solution {
    let held = max(Int(Double(targets.count) * options.heldOut), 1)
    let batch = min(options.batch, targets.count - held)
    guard batch > 0, options.steps > 0, targets.energy > 0, Float(2 / targets.energy).isFinite
    else { return start }
    let fit = AdaQuantFit(targets, start, options, heldOut: held, batch: batch, seed: seed)
    return fit.run()
  }
}

/// One fit under way.
private final class AdaQuantFit {
  private let targets: LayerTargets
  private let start: AdaQuant.Solution
  private let options: AdaQuant.Options
  private let batch: Int
  private let heldOut: Int
  /// Rows in the order of the fit, those held out last.
  private var inputs: [Float] = []
  private var outputs: [Float] = []
  private let weights: CodedWeights
  private let range: CodedInput?
  private let values: ParameterBlock
  private let gradients: ParameterBlock
  private let optimizer: AdamW
  private let biasUnit: Float

  init(
    _ targets: LayerTargets, _ start: AdaQuant.Solution, _ options: AdaQuant.Options,
    heldOut: Int, batch: Int, seed: UInt64
  ) {
    self.targets = targets
    self.start = start
    self.options = options
    self.batch = batch
    self.heldOut = heldOut
    weights = CodedWeights(start.weights, original: targets.weights, width: targets.width)
    range = options.learnsRange ? start.codes.map(CodedInput.init) : nil
    biasUnit = Float(targets.energy.squareRoot())
    values = ParameterBlock([
      ("weights", [targets.channels, targets.width]), ("scales", [weights.scaleCount]),
      ("biases", [targets.channels]), ("range", [2]),
    ])
    gradients = ParameterBlock(like: values)
    let rates = [
      options.weightRate, options.scaleRate, options.biasRate,
      range == nil ? 0 : options.rangeRate,
    ]
    optimizer = AdamW(
      layout: values.layout,
      options: AdamW.Options(beta1: 0.9, beta2: 0.99, epsilon: 1e-12, weightDecay: 0)
    ) { EntryRule(rateFactor: Float(rates[$0.index]), isDecayed: false) }
    weights.begin(part("weights", of: values))
    var random = SplitMix64(seed: seed)
    let order = Array(0..<targets.count).shuffled(using: &random)
    // An input that is not learned is rounded once.
    let rows = range == nil ? targets.rounded(by: start.codes) : targets.inputs
    inputs = Self.gathered(rows, order, targets.width)
    outputs = Self.gathered(targets.outputs, order, targets.channels)
  }

  private static func gathered(_ rows: [Float], _ order: [Int], _ width: Int) -> [Float] {
    var result: [Float] = []
    result.reserveCapacity(rows.count)
    for row in order { result += rows[(row * width)..<((row + 1) * width)] }
    return result
  }

  private func part(
    _ name: String, of block: ParameterBlock
  ) -> UnsafeMutableBufferPointer<Float> {
    block[name] ?? UnsafeMutableBufferPointer(start: nil, count: 0)
  }

  func run() -> AdaQuant.Solution {
    let learning = targets.count - heldOut
    let perEpoch = learning / batch
    let best = ParameterBlock(like: values)
    best.copyElements(of: values)
    let initial = error()
    var lowest = initial
    let interval = max(1, options.steps / 10)
    for step in 0..<options.steps {
      gradient(atRow: step % perEpoch * batch)
      let rate = LearningRateSchedule(.cosine, peak: 1).rate(at: step, of: options.steps)
      optimizer.step(
        parameters: values, gradients: gradients, learningRate: rate, gradientFactor: 1)
      guard (step + 1) % interval == 0 || step + 1 == options.steps else { continue }
      let error = error()
      if error < lowest {
        lowest = error
        best.copyElements(of: values)
      }
    }
    guard lowest < initial else { return start }
    values.copyElements(of: best)
    return AdaQuant.Solution(
      weights: weights.parameters(part("weights", of: values), part("scales", of: values)),
      biases: biases(), codes: range?.codes(part("range", of: values)) ?? start.codes)
  }

  private func biases() -> [Float] {
    let moved = part("biases", of: values)
    return start.biases.indices.map { channel in
      start.biases[channel] + (targets.hasBias[channel] ? biasUnit * moved[channel] : 0)
    }
  }

  /// The inputs of `rows` as the present range rounds them.
  private func rounded(_ rows: Range<Int>) -> [Float] {
    let slice = inputs[(rows.lowerBound * targets.width)..<(rows.upperBound * targets.width)]
    guard let range else { return Array(slice) }
    let codes = range.codes(part("range", of: values))
    return CodedInput.rounded(slice, by: codes)
  }

  /// Answers less targets for `rows`, `[rows, channels]`.
  private func residual(_ rows: Range<Int>, _ rounded: [Float], _ dense: [Float]) -> [Float] {
    var error = LayerTargets.answers(
      rounded, count: rows.count, dense, biases(), width: targets.width,
      threadCount: targets.threadCount)
    let first = rows.lowerBound * targets.channels
    error.withUnsafeMutableBufferPointer { error in
      outputs.withUnsafeBufferPointer { outputs in
        for index in error.indices { error[index] -= outputs[first + index] }
      }
    }
    return error
  }

  /// The mean squared error on the rows that are held out.
  private func error() -> Double {
    let rows = (targets.count - heldOut)..<targets.count
    let dense = weights.dense(part("weights", of: values), part("scales", of: values))
    let error = residual(rows, rounded(rows), dense)
    return error.reduce(0) { $0 + Double($1) * Double($1) }
  }

  /// Leaves the gradients of the batch that begins at row `first`.
  private func gradient(atRow first: Int) {
    let rows = first..<(first + batch)
    let (channels, width) = (targets.channels, targets.width)
    let u = part("weights", of: values)
    let scales = part("scales", of: values)
    let dense = weights.dense(u, scales)
    let x = rounded(rows)
    var error = residual(rows, x, dense)
    let factor = Float(2 / (Double(error.count) * targets.energy))
    let biasGradient = part("biases", of: gradients)
    biasGradient.update(repeating: 0)
    error.withUnsafeMutableBufferPointer { error in
      for row in 0..<batch {
        for channel in 0..<channels {
          error[row * channels + channel] *= factor
          biasGradient[channel] += error[row * channels + channel]
        }
      }
    }
    for channel in 0..<channels { biasGradient[channel] *= biasUnit }
    let weightGradient = part("weights", of: gradients)
    error.withUnsafeBufferPointer { error in
      x.withUnsafeBufferPointer { x in
        Matrix.multiply(
          m: channels, n: width, k: batch,
          MatrixView(error, stride: channels, isTransposed: true), MatrixView(x, stride: width),
          into: weightGradient, threadCount: targets.threadCount)
      }
    }
    weights.pullBack(weightGradient, u, scales, into: part("scales", of: gradients))
    if let range {
      let slope = backward(error, dense)
      range.pullBack(
        slope, inputs[(first * width)..<((first + batch) * width)],
        part("range", of: values), into: part("range", of: gradients))
    }
  }

  /// The gradient with respect to the rounded inputs, `[batch, width]`.
  private func backward(_ error: [Float], _ dense: [Float]) -> [Float] {
    var slope = [Float](repeating: 0, count: batch * targets.width)
    slope.withUnsafeMutableBufferPointer { slope in
      error.withUnsafeBufferPointer { error in
        dense.withUnsafeBufferPointer { dense in
          Matrix.multiply(
            m: batch, n: targets.width, k: targets.channels,
            MatrixView(error, stride: targets.channels), MatrixView(dense, stride: targets.width),
            into: slope, threadCount: targets.threadCount)
        }
      }
    }
    return slope
  }
}
