import TensorCore

extension WeightQuantization {
  /// The codes nearest to `weight`, float32 `[rows, ...]`: `clamp(rint(element / scale), …)`.
  package func codes(of weight: Tensor, threadCount: Int = 1) -> Tensor {
    let rows = weight.shape.first ?? 1
    let width = rows == 0 ? 0 : weight.count / rows
    let groups = groupCount(width: width)
    let size = groupSize ?? width
    let (low, high) = (Float(smallestCode), Float(largestCode))
    return Tensor(shape: weight.shape, of: Int8.self) { codes in
      weight.withElements(of: Float.self) { elements in
        scales.withElements(of: Float.self) { scales in
          forEachRange(of: rows, threadCount: threadCount) { range in
            for row in range {
              for group in 0..<groups {
                let start = row * width + group * size
                let run = start..<min(start + size, (row + 1) * width)
                Self.round(
                  UnsafeBufferPointer(rebasing: elements[run]),
                  to: UnsafeMutableBufferPointer(rebasing: codes[run]),
                  scale: scales[row * groups + group], low, high)
              }
            }
          }
        }
      }
    }
  }

  private static func round(
    _ source: UnsafeBufferPointer<Float>, to target: UnsafeMutableBufferPointer<Int8>,
    scale: Float, _ low: Float, _ high: Float
  ) {
    guard let base = source.baseAddress, let codes = target.baseAddress else { return }
    let (read, written) = (UnsafeRawPointer(base), UnsafeMutableRawPointer(codes))
    // Added to a number as small as a code, 1.5 * 2^23 rounds it half to even and leaves the
    // integer in the low bits.
    let magic: Float = 12_582_912
    let (lows, highs) = (SIMD16<Float>(repeating: low), SIMD16<Float>(repeating: high))
    var index = 0
    while index + 16 <= source.count {
      let x = read.loadUnaligned(fromByteOffset: index * 4, as: SIMD16<Float>.self)
      var bounded = x / scale
      bounded.replace(with: lows, where: bounded .< lows)
      bounded.replace(with: highs, where: bounded .> highs)
      let bits = unsafeBitCast(bounded + magic, to: SIMD16<UInt32>.self)
      written.storeBytes(
        of: SIMD16<Int8>(truncatingIfNeeded: bits), toByteOffset: index, as: SIMD16<Int8>.self)
      index += 16
    }
    while index < source.count {
      let bounded = min(max(source[index] / scale, low), high) + magic
      target[index] = Int8(truncatingIfNeeded: bounded.bitPattern)
      index += 1
    }
  }
}
