import GraphIR
import Operators
import TensorCore

/// Turns a weight into integer codes with a scale for each row or group.
package struct WeightQuantizer: Sendable, Hashable, Codable {
  /// Bits of a code, 2 to 8.
  package var bitCount: Int
  /// Which integers codes are.
  package var grid: CodeGrid
  /// Elements of a row that share a scale; nil for whole rows.
  package var groupSize: Int?
  /// How the range is chosen.
  package var clipping: ClippingRule
  /// The share in percent for ``ClippingRule/percentile``.
  package var percentile: Double

  /// Makes codes of `bitCount` bits.
  ///
  /// Without a `grid` it is the one of lower error: all codes where there are few of them and the
  /// range is fitted to the elements, as many on both sides otherwise.
  package init(
    bitCount: Int = 8, grid: CodeGrid? = nil, groupSize: Int? = nil,
    clipping: ClippingRule = .octav, percentile: Double = 99.99
  ) {
    self.bitCount = bitCount
    self.grid = grid ?? (clipping == .octav && bitCount <= 4 ? .full : .symmetric)
    self.groupSize = groupSize
    self.clipping = clipping
    self.percentile = percentile
  }

  /// What the codes of a weight with `scales` mean.
  package func quantization(scales: Tensor) -> WeightQuantization {
    WeightQuantization(bitCount: bitCount, grid: grid, groupSize: groupSize, scales: scales)
  }

  /// The codes of a float32 parameter; its mask stays, and what it hides has the code 0.
  ///
  /// - Shapes: the tensor: any of rank 1 or more; rows are the slices of axis 0.
  /// - Throws: ``PassError`` when an element is not finite.
  package func quantize(
    _ parameter: Parameter, named name: String, threadCount: Int = 1
  ) throws(PassError) -> Parameter {
    let tensor = parameter.materialized
    let quantization = try quantization(of: tensor, named: name, threadCount: threadCount)
    let codes = quantization.codes(of: tensor, threadCount: threadCount)
    return Parameter(codes, mask: parameter.mask, quantization: quantization)
  }

  /// The scales that suit `weight`, float32 of rank 1 or more.
  ///
  /// - Throws: ``PassError`` when an element is not finite.
  package func quantization(
    of weight: Tensor, named name: String, threadCount: Int = 1
  ) throws(PassError) -> WeightQuantization {
    var quantization = quantization(scales: Tensor(shape: [0], [Float]()))
    let rows = weight.shape.first ?? 1
    let width = rows == 0 ? 0 : weight.count / rows
    let groups = quantization.groupCount(width: width)
    let size = groupSize ?? width
    var scales = [Float](repeating: 1, count: rows * groups)
    weight.withElements(of: Float.self) { elements in
      scales.withUnsafeMutableBufferPointer { scales in
        forEachRange(of: rows, threadCount: threadCount) { range in
          for row in range {
            for group in 0..<groups {
              let start = row * width + group * size
              let end = min(start + size, (row + 1) * width)
              scales[row * groups + group] = scale(
                of: UnsafeBufferPointer(rebasing: elements[start..<end]))
            }
          }
        }
      }
    }
    if let place = scales.firstIndex(where: \.isNaN) {
      throw .parameter(
        name: name, "holds an infinite number or none at all in row \(place / max(groups, 1))")
    }
    quantization.scales = Tensor(shape: quantization.scaleShape(of: weight.shape), scales)
    return quantization
  }

  /// The step of elements that share one: 1 where each is zero, NaN where one is not finite.
  ///
  /// Negative where the full grid's longer side is to lie above zero. Steps of groups are rounded to
  /// float16 where these are as fine, so that files need two bytes for each.
  package func scale(of elements: UnsafeBufferPointer<Float>) -> Float {
    let count = grid == .full ? 1 << (bitCount - 1) : (1 << (bitCount - 1)) - 1
    let scalar =
      switch clipping {
      case .octav: ClippingScalar.octav(elements, stepCount: count)
      case .max: ClippingScalar.maximum(elements)
      case .percentile: ClippingScalar.percentile(percentile, of: elements)
      }
    guard let scalar else { return .nan }
    guard scalar > 0 else { return 1 }
    var step = max(Float(scalar / Double(count)), 1e-12)
    if grid == .full { step = FullGridSearch(elements, bitCount: bitCount).best(around: step) }
    return groupSize == nil ? step : step.roundedToHalf
  }
}

/// Looks for the step and the sign of least squared error on a grid with one more code below zero.
///
/// - Source: the model behind OCTAV has as many codes on both sides; with few codes the extra one is
///   worth a longer step, which only the true error tells.
private struct FullGridSearch {
  private let elements: UnsafeBufferPointer<Float>
  private let low: Float
  private let high: Float

  init(_ elements: UnsafeBufferPointer<Float>, bitCount: Int) {
    self.elements = elements
    low = -Float(1 << (bitCount - 1))
    high = -low - 1
  }

  /// The best of the steps from a little below `start`, which suits a grid of equal sides, to half
  /// as much again, of either sign.
  func best(around start: Float) -> Float {
    var best = (error: Double.infinity, factor: Float(1), sign: Float(1))
    func attempt(_ factor: Float, _ sign: Float) {
      let error = squaredError(start * factor * sign)
      if error < best.error { best = (error, factor, sign) }
    }
    for step in 0..<13 {
      let factor = 0.9 + 0.05 * Float(step)
      attempt(factor, 1)
      attempt(factor, -1)
    }
    let (center, sign) = (best.factor, best.sign)
    for step in 1...4 {
      attempt(center + 0.01 * Float(step), sign)
      attempt(center - 0.01 * Float(step), sign)
    }
    return start * best.factor * best.sign
  }

  private func squaredError(_ scale: Float) -> Double {
    guard let base = elements.baseAddress else { return 0 }
    let bytes = UnsafeRawPointer(base)
    let inverse = 1 / scale
    guard inverse.isFinite else { return .infinity }
    let magic: Float = 12_582_912
    let (lows, highs) = (SIMD8<Float>(repeating: low), SIMD8<Float>(repeating: high))
    var sums = SIMD8<Float>(repeating: 0)
    var total = 0.0
    var index = 0
    while index + 8 <= elements.count {
      let x = bytes.loadUnaligned(fromByteOffset: index * 4, as: SIMD8<Float>.self)
      var code = x * inverse
      code.replace(with: lows, where: code .< lows)
      code.replace(with: highs, where: code .> highs)
      let error = x - ((code + magic) - magic) * scale
      sums += error * error
      index += 8
      if index & 1023 == 0 {
        total += Double(sums.sum())
        sums = SIMD8<Float>(repeating: 0)
      }
    }
    total += Double(sums.sum())
    while index < elements.count {
      let code = (min(max(elements[index] * inverse, low), high) + magic) - magic
      let error = elements[index] - code * scale
      total += Double(error * error)
      index += 1
    }
    return total
  }
}
