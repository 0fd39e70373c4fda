import GraphIR
import Operators
import TensorCore

/// What the layers of a group shall answer to some rows of their input, one layer's channels after
/// the other's.
///
/// Layers that read one value are one layer with the rows of all: their input can only be rounded
/// in one way.
struct LayerTargets {
  /// The input channels.
  let width: Int
  /// The output channels of all layers.
  let channels: Int
  /// How many rows there are.
  let count: Int
  /// The channels of each layer.
  let ranges: [Range<Int>]
  /// The weights that the layers had, `[channels, width]`.
  let weights: [Float]
  /// The biases that the layers had, zero where there was none, `[channels]`.
  let biases: [Float]
  /// One where a channel has a bias of its own.
  let hasBias: [Bool]
  /// What the layers read before it is rounded, `[count, width]`.
  let inputs: [Float]
  /// What the original model's layers answer, `[count, channels]`.
  let outputs: [Float]
  /// The mean square of ``outputs``.
  let energy: Double
  /// How many threads may run.
  let threadCount: Int

  /// The targets of `layers` for the rows of `rows`.
  init(_ layers: [CalibratedLayer], _ rows: InputRows, threadCount: Int) {
    width = rows.width
    count = rows.count
    inputs = rows.elements
    self.threadCount = threadCount
    var ranges: [Range<Int>] = []
    var weights: [Float] = []
    var biases: [Float] = []
    var hasBias: [Bool] = []
    for layer in layers {
      let tensor = layer.weight.materialized
      let channels = tensor.shape[0]
      ranges.append(biases.count..<(biases.count + channels))
      weights += tensor.elements(of: Float.self)
      biases +=
        layer.bias?.materialized.elements(of: Float.self) ?? [Float](repeating: 0, count: channels)
      hasBias += [Bool](repeating: layer.bias != nil, count: channels)
    }
    self.ranges = ranges
    self.weights = weights
    self.biases = biases
    self.hasBias = hasBias
    channels = biases.count
    outputs = Self.answers(
      rows.originals, count: count, weights, biases, width: width, threadCount: threadCount)
    energy =
      outputs.reduce(0) { $0 + Double($1) * Double($1) } / Double(max(outputs.count, 1))
  }

  /// `x Wᵀ + b` for each of `count` rows.
  static func answers(
    _ inputs: [Float], count: Int, _ weights: [Float], _ biases: [Float], width: Int,
    threadCount: Int
  ) -> [Float] {
    var outputs = Matrix.productTransposed(
      m: count, n: biases.count, k: width, inputs, weights, threadCount: threadCount)
    outputs.withUnsafeMutableBufferPointer { outputs in
      for row in 0..<count {
        for channel in biases.indices { outputs[row * biases.count + channel] += biases[channel] }
      }
    }
    return outputs
  }

  /// The rows as `codes` round them.
  func rounded(by codes: ActivationQuantization?) -> [Float] {
    guard let codes else { return inputs }
    return inputs.map { codes.simulated($0) }
  }

  /// The mean of the error of each channel of `weights` and `biases` on `inputs`, `[channels]`.
  func meanErrors(_ weights: [Float], _ biases: [Float], on inputs: [Float]) -> [Float] {
    let answers = Self.answers(
      inputs, count: count, weights, biases, width: width, threadCount: threadCount)
    var sums = [Double](repeating: 0, count: channels)
    for row in 0..<count {
      for channel in 0..<channels {
        let place = row * channels + channel
        sums[channel] += Double(outputs[place]) - Double(answers[place])
      }
    }
    return sums.map { Float($0 / Double(max(count, 1))) }
  }

  /// The root of the mean squared error over that of the outputs, for each layer.
  func relativeErrors(_ weights: [Float], _ biases: [Float], on inputs: [Float]) -> [Double] {
    let answers = Self.answers(
      inputs, count: count, weights, biases, width: width, threadCount: threadCount)
    return ranges.map { range in
      var (error, whole) = (0.0, 0.0)
      for row in 0..<count {
        for channel in range {
          let place = row * channels + channel
          let difference = Double(outputs[place]) - Double(answers[place])
          error += difference * difference
          whole += Double(outputs[place]) * Double(outputs[place])
        }
      }
      return whole > 0 ? (error / whole).squareRoot() : 0
    }
  }
}
