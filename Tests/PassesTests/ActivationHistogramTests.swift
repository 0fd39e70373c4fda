import Passes
import TensorCore
import Testing

@Suite struct ActivationHistogramTests {
  private func histogram(_ x: [Float], pieces: Int = 1) -> ActivationHistogram {
    var histogram = ActivationHistogram()
    x.withUnsafeBufferPointer { x in
      for piece in 0..<pieces {
        let range = (x.count * piece / pieces)..<(x.count * (piece + 1) / pieces)
        histogram.add(UnsafeBufferPointer(rebasing: x[range]))
      }
    }
    return histogram
  }

  private func error(_ x: [Float], _ grid: ActivationQuantization) -> Double {
    x.reduce(0) { sum, value in
      let code = min(
        max(
          (Double(value) / Double(grid.scale)).rounded(.toNearestOrEven)
            + Double(grid.zeroPoint), Double(grid.lowest)), Double(grid.highest))
      let difference = Double(value) - (code - Double(grid.zeroPoint)) * Double(grid.scale)
      return sum + difference * difference
    } / Double(x.count)
  }

  @Test(arguments: Distribution.allCases)
  func orderAndDivisionDoNotMatter(_ distribution: Distribution) {
    // Growing values make the range double again and again.
    let x = distribution.sample(3000, seed: 2).enumerated().map { $1 * Float(1 + $0 / 300) }
    let whole = histogram(x)
    #expect(histogram(x, pieces: 97) == whole)
    #expect(histogram(x.reversed(), pieces: 13) == whole)
    var merged = histogram(Array(x[..<100]))
    merged.merge(histogram([]))
    merged.merge(histogram(Array(x[100...])))
    #expect(merged == whole)
    var other = histogram(Array(x[100...]))
    other.merge(histogram(Array(x[..<100])))
    #expect(other == whole)
    #expect(whole.count == x.count)
    #expect(whole.zeroCount == x.count { $0 == 0 })
    #expect(whole.minimum == x.min() && whole.maximum == x.max())
  }

  @Test func everyValueLiesInItsInterval() {
    for value: Float in [1, -1, 0.999, 1e-30, -3.7e20, 4096, -0x1p-20] {
      let one = histogram([value])
      let index = one.counts.firstIndex(of: 1) ?? -1
      #expect(abs(one.center(index) - Double(value)) <= one.width / 2 * (1 + 1e-12))
    }
  }

  @Test func countsWhatIsNotFinite() {
    let odd = histogram([1, .nan, .infinity, 0, -2])
    #expect(odd.unusableCount == 2)
    #expect(odd.count == 3)
    #expect(odd.maximum == 1 && odd.minimum == -2)
  }

  @Test func emptyAndZeroGiveAUsableGrid() {
    for rule in ClippingRule.allCases {
      #expect(histogram([]).quantization(clipping: rule).scale == 1)
      #expect(histogram([0, 0]).quantization(clipping: rule).scale == 1)
      let tiny = histogram([1e-38, -1e-38]).quantization(clipping: rule)
      #expect(tiny.scale > 0 && tiny.inverseScale.isFinite)
    }
  }

  @Test func maximumKeepsTheWholeRange() {
    let x = Distribution.gaussian.sample(5000, seed: 9).map { $0 + 0.7 }
    let grid = histogram(x).quantization(clipping: .max)
    for value in x { #expect(abs(grid.simulated(value) - value) <= grid.scale * 0.51) }
    let positive = histogram(x.map(abs)).quantization(clipping: .max)
    #expect(positive.zeroPoint == 0)
  }

  @Test func percentileKeepsTheShare() {
    let x = (1...1000).map { Float($0) * ($0 % 2 == 0 ? 1 : -1) }
    let counted = histogram(x)
    #expect(abs(counted.magnitude(90) - 900) <= counted.width)
    let grid = counted.quantization(clipping: .percentile, percentile: 90)
    #expect(abs(Double(grid.scale) * 127 - 900) < 8)
  }

  /// The affine grid of lowest true error, by trying every zero point and many steps.
  private func bruteForce(_ x: [Float]) -> Double {
    let (low, high) = (Double(min(x.min() ?? 0, 0)), Double(max(x.max() ?? 0, 0)))
    var best = Double.infinity
    for zero in stride(from: 0, through: 255, by: 5) {
      let full = max(-low / max(Double(zero), 0.5), high / max(255 - Double(zero), 0.5))
      for step in 1...60 {
        let grid = ActivationQuantization(
          scale: Float(full * Double(step) / 60), zeroPoint: UInt8(zero))
        best = min(best, error(x, grid))
      }
    }
    return best
  }

  @Test(arguments: [Distribution.gaussian, .laplace, .student, .sparse])
  func octavIsAsGoodAsTryingEverything(_ distribution: Distribution) {
    for (shift, rectifies) in [(0.0, false), (0.8, false), (0.0, true)] as [(Float, Bool)] {
      let x = distribution.sample(600, seed: 31).map { value -> Float in
        let moved = value + shift
        return rectifies ? max(moved, -0.1) : moved
      }
      let counted = histogram(x)
      let grid = counted.quantization(clipping: .octav)
      // What lies closer together than an interval, a histogram cannot tell apart.
      let blur = counted.width * counted.width
      #expect(error(x, grid) <= bruteForce(x) * 1.1 + blur, "\(distribution), shift \(shift)")
      let largest = counted.quantization(clipping: .max)
      #expect(error(x, grid) <= error(x, largest) * 1.02)
      let measured = counted.meanSquaredError(of: grid)
      #expect(abs(measured - error(x, grid)) < 0.15 * error(x, grid) + blur)
    }
  }

  @Test func choosesTheKindOfGrid() {
    let gaussian = Distribution.gaussian.sample(20_000, seed: 1)
    let signed = histogram(gaussian).quantization(clipping: .octav)
    #expect((120...136).contains(signed.zeroPoint))
    let unsigned = histogram(gaussian.map(abs)).quantization(clipping: .octav)
    #expect(unsigned.zeroPoint == 0)
    // What an activation function leaves below zero is a small lobe.
    let lobed = histogram(gaussian.map { $0 / (1 + Float.exp(-1.702 * $0)) * 3 })
      .quantization(clipping: .octav)
    #expect((1...40).contains(lobed.zeroPoint))
  }

  // Not values on a lattice, which some grids hold exactly and no model of the error knows of.
  @Test(arguments: [Distribution.gaussian, .laplace, .student, .sparse], [2, 3, 4, 5, 6, 7])
  func fewerBitsAreAsGoodAsAnyGrid(_ distribution: Distribution, _ bits: Int) {
    let x = distribution.sample(4000, seed: UInt64(bits))
    let counted = histogram(x)
    let highest = (1 << bits) - 1
    let chosen = counted.quantization(bitCount: bits, clipping: .octav)
    #expect(Int(chosen.highest) == highest)
    var least = Double.infinity
    let reach = Double(max(counted.maximum, -counted.minimum))
    for zeroPoint in 0...highest {
      for step in 1...60 {
        let scale = Float(reach * Double(step) / 60 / Double(max(highest - zeroPoint, zeroPoint)))
        let grid = ActivationQuantization(
          scale: scale, zeroPoint: UInt8(zeroPoint), highest: UInt8(highest))
        least = min(least, error(x, grid))
      }
    }
    #expect(error(x, chosen) <= least * 1.03 + 1e-9)
    let whole = counted.quantization(bitCount: bits, clipping: .max)
    #expect(error(x, chosen) <= error(x, whole) * 1.01 + 1e-9)
  }

  @Test func survivesStorage() throws {
    for x in [[], [0, 0], [1, -3, .nan, 0, 1e-20], Distribution.laplace.sample(500, seed: 4)] {
      let counted = histogram(x)
      #expect(ActivationHistogram(counted.tensor) == counted)
    }
    var broken = histogram([1, 2]).tensor.elements(of: Double.self)
    #expect(ActivationHistogram(Tensor(shape: [3], [1.0, 2, 3])) == nil)
    for (place, number) in [(0, 4000.0), (1, -1), (2, 0.5), (3, .nan), (9, .infinity), (9, -2)] {
      let kept = broken[place]
      broken[place] = number
      #expect(ActivationHistogram(Tensor(shape: [broken.count], broken)) == nil)
      broken[place] = kept
    }
  }
}
