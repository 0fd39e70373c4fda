import GraphIR
import Operators
import TensorCore

/// Weights of layers whose codes and scales are learned.
///
/// A weight is held in units of its first scale; scales are held by how much they have grown, 0 at
/// the start.
struct CodedWeights {
  /// Neighbouring elements with one scale.
  private struct Run {
    let elements: Range<Int>
    let first: Float
    let low: Float
    let high: Float
    let isGrouped: Bool
  }

  private let runs: [Run]
  private let shapes: [[Int]]
  private let quantizations: [WeightQuantization]
  private let masks: [Tensor?]
  private let original: [Float]

  /// How many scales there are.
  var scaleCount: Int { runs.count }

  /// Weights with the codes of `start`, and of the real values `original` where nothing has chosen a
  /// code other than the nearest.
  init(_ start: [Parameter], original: [Float], width: Int) {
    var runs: [Run] = []
    var begin = 0
    var moved = original
    for parameter in start {
      guard let quantization = parameter.quantization else { continue }
      let scales = quantization.scales.elements(of: Float.self)
      let codes = parameter.tensor.elements(of: Int8.self)
      let mask = parameter.mask?.elements(of: UInt8.self)
      quantization.forEachRun(of: parameter.tensor.shape) { elements, scale in
        let run = Run(
          elements: (begin + elements.lowerBound)..<(begin + elements.upperBound),
          first: scales[scale], low: Float(quantization.smallestCode),
          high: Float(quantization.largestCode), isGrouped: quantization.groupSize != nil)
        runs.append(run)
        for index in elements {
          let own = original[begin + index] / run.first
          let code = Float(codes[index])
          let nearest = min(max(own, run.low), run.high).rounded(.toNearestOrEven)
          moved[begin + index] = mask?[index] == 0 ? 0 : nearest == code ? own : code
        }
      }
      begin += parameter.tensor.count
    }
    self.runs = runs
    self.original = moved
    shapes = start.map(\.tensor.shape)
    quantizations = start.compactMap(\.quantization)
    masks = start.map(\.mask)
  }

  /// Writes the weights in units of their first scales.
  func begin(_ units: UnsafeMutableBufferPointer<Float>) {
    _ = units.update(fromContentsOf: original)
  }

  private func scale(_ run: Run, _ growth: Float) -> Float {
    let scale = run.first * max(1 + growth, 0.05)
    return run.isGrouped ? scale.roundedToHalf : scale
  }

  /// What the codes stand for, in the order of the elements.
  func dense(
    _ units: UnsafeMutableBufferPointer<Float>, _ growths: UnsafeMutableBufferPointer<Float>
  ) -> [Float] {
    [Float](unsafeUninitializedCapacity: units.count) { target, count in
      for (index, run) in runs.enumerated() {
        let scale = scale(run, growths[index])
        let factor = run.first / scale
        for element in run.elements {
          target[element] = Self.code(units[element] * factor, run.low, run.high) * scale
        }
      }
      count = units.count
    }
  }

  /// Turns the gradient with respect to what the codes stand for into those with respect to units,
  /// in its place, and growths.
  func pullBack(
    _ gradient: UnsafeMutableBufferPointer<Float>, _ units: UnsafeMutableBufferPointer<Float>,
    _ growths: UnsafeMutableBufferPointer<Float>,
    into growthGradient: UnsafeMutableBufferPointer<Float>
  ) {
    for (index, run) in runs.enumerated() {
      let factor = run.first / scale(run, growths[index])
      var sum: Float = 0
      for element in run.elements {
        let exact = units[element] * factor
        let code = Self.code(exact, run.low, run.high)
        let slope = gradient[element] * run.first
        let isInside = exact >= run.low - 0.5 && exact <= run.high + 0.5
        sum += slope * (isInside ? code - exact : code)
        gradient[element] = isInside && units[element] != 0 ? slope : 0
      }
      growthGradient[index] = sum
    }
  }

  /// The codes as parameters, one for each layer.
  func parameters(
    _ units: UnsafeMutableBufferPointer<Float>, _ growths: UnsafeMutableBufferPointer<Float>
  ) -> [Parameter] {
    var codes = [Int8](repeating: 0, count: units.count)
    var scales: [Float] = []
    for (index, run) in runs.enumerated() {
      let scale = scale(run, growths[index])
      scales.append(scale)
      for element in run.elements {
        codes[element] = Int8(Self.code(units[element] * (run.first / scale), run.low, run.high))
      }
    }
    var (element, place) = (0, 0)
    return shapes.indices.map { layer in
      let count = shapes[layer].reduce(1, *)
      var quantization = quantizations[layer]
      let scaleCount = quantization.scales.count
      quantization.scales = Tensor(
        shape: quantization.scales.shape, Array(scales[place..<(place + scaleCount)]))
      defer {
        element += count
        place += scaleCount
      }
      return Parameter(
        Tensor(shape: shapes[layer], Array(codes[element..<(element + count)])),
        mask: masks[layer], quantization: quantization)
    }
  }

  /// `rint(clamp(value))`, half to even.
  @inline(__always)
  private static func code(_ value: Float, _ low: Float, _ high: Float) -> Float {
    // Added to a number as small as a code, 1.5 * 2^23 rounds it.
    let magic: Float = 12_582_912
    let bounded = value < low ? low : value > high ? high : value
    return (bounded + magic) - magic
  }
}

/// The rounding of an input whose range is learned: by how much its scale has grown, and how far its
/// zero point has moved.
struct CodedInput {
  private let first: ActivationQuantization
  /// A zero point in the middle of a symmetric grid stays there.
  private let movesZero: Bool

  init(_ codes: ActivationQuantization) {
    first = codes
    movesZero = codes.lowest == 0
  }

  /// The codes for the present values.
  func codes(_ values: UnsafeMutableBufferPointer<Float>) -> ActivationQuantization {
    let zero = movesZero ? Float(first.zeroPoint) + values[1] * zeroUnit : Float(first.zeroPoint)
    return ActivationQuantization(
      scale: first.scale * max(1 + values[0], 0.05),
      zeroPoint: UInt8(min(max(zero, Float(first.lowest)), Float(first.highest)).rounded()),
      lowest: first.lowest, highest: first.highest)
  }

  /// Codes that the zero point moves by where the scale grows by all of itself.
  private var zeroUnit: Float { Float(first.highest) / 2 }

  /// `rows` rounded by `codes`.
  static func rounded(
    _ rows: ArraySlice<Float>, by codes: ActivationQuantization
  ) -> [Float] {
    let (low, high) = (
      Float(codes.lowest) - Float(codes.zeroPoint), Float(codes.highest) - Float(codes.zeroPoint)
    )
    let magic: Float = 12_582_912
    return [Float](unsafeUninitializedCapacity: rows.count) { target, count in
      rows.withUnsafeBufferPointer { rows in
        for index in rows.indices {
          let value = rows[index] * codes.inverseScale
          let bounded = value < low ? low : value > high ? high : value
          target[index] = ((bounded + magic) - magic) * codes.scale
        }
      }
      count = rows.count
    }
  }

  /// Leaves the gradient with respect to growth and zero point for that of the rounded `rows`.
  func pullBack(
    _ slope: [Float], _ rows: ArraySlice<Float>, _ values: UnsafeMutableBufferPointer<Float>,
    into gradient: UnsafeMutableBufferPointer<Float>
  ) {
    let codes = codes(values)
    let (low, high) = (
      Float(codes.lowest) - Float(codes.zeroPoint), Float(codes.highest) - Float(codes.zeroPoint)
    )
    let magic: Float = 12_582_912
    var (growth, zero): (Double, Double) = (0, 0)
    rows.withUnsafeBufferPointer { rows in
      for index in rows.indices {
        let exact = rows[index] * codes.inverseScale
        if exact < low - 0.5 || exact > high + 0.5 {
          growth += Double(slope[index] * (exact < low ? low : high))
          zero -= Double(slope[index])
        } else {
          growth += Double(slope[index] * ((exact + magic) - magic - exact))
        }
      }
    }
    gradient[0] = Float(growth) * first.scale
    gradient[1] = movesZero ? Float(zero) * codes.scale * zeroUnit : 0
  }
}
