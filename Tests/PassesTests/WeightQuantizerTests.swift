import GraphIR
import Passes
import TensorCore
import TestSupport
import Testing

@Suite struct WeightQuantizerTests {
  private func weight(_ rows: Int, _ width: Int, seed: UInt64) -> Tensor {
    var random = SplitMix64(seed: seed)
    return Tensor(shape: [rows, width], of: Float.self) { target in
      for index in target.indices {
        // Rows of very different sizes, some elements exactly zero.
        let size = Double(index / width + 1)
        let isZero = random.nextUniform() < 0.05
        target[index] = isZero ? 0 : Float(random.nextNormal() * size * size)
      }
    }
  }

  @Test(arguments: ClippingRule.allCases, [2, 3, 4, 8])
  func codesAreTheNearest(_ rule: ClippingRule, _ bits: Int) throws {
    let tensor = weight(9, 37, seed: 3)
    let quantizer = WeightQuantizer(
      bitCount: bits, grid: .symmetric, clipping: rule, percentile: 98)
    let quantized = try quantizer.quantize(Parameter(tensor), named: "w", threadCount: 2)
    let scales = try #require(quantized.quantization).scales.elements(of: Float.self)
    let limit = (1 << (bits - 1)) - 1
    let codes = quantized.tensor.elements(of: Int8.self)
    for (index, element) in tensor.elements(of: Float.self).enumerated() {
      let scale = scales[index / 37]
      let code = (element / scale).rounded(.toNearestOrEven)
      #expect(Float(codes[index]) == min(max(code, Float(-limit)), Float(limit)))
      if abs(element) <= scale * Float(limit) {
        #expect(abs(element - Float(codes[index]) * scale) <= scale * 0.5 * (1 + 1e-6))
      }
      if element == 0 { #expect(codes[index] == 0) }
    }
    if rule == .max {
      for row in 0..<9 {
        #expect(codes[(row * 37)..<(row * 37 + 37)].contains { abs(Int($0)) == limit })
      }
    }
  }

  @Test func halvesGoToEven() throws {
    let x: [Float] = [127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5, -126.5, 125.5]
    let quantizer = WeightQuantizer(clipping: .max)
    for count in [10, 16] {
      let padded = x + [Float](repeating: 0, count: count - 10)
      let tensor = Tensor(shape: [1, count], padded)
      let codes = try quantizer.quantize(Parameter(tensor), named: "w").tensor
      #expect(
        codes.elements(of: Int8.self).prefix(10) == [127, 0, 2, 2, 0, -2, -2, 126, -126, 126])
    }
  }

  @Test func requantizingWithTheSameStepChangesNothing() throws {
    let quantizer = WeightQuantizer(clipping: .max)
    let once = try quantizer.quantize(Parameter(weight(5, 64, seed: 8)), named: "w")
    let twice = try quantizer.quantize(Parameter(once.materialized), named: "w")
    #expect(twice.tensor == once.tensor)
    let a = try #require(once.quantization).scales.elements(of: Float.self)
    let b = try #require(twice.quantization).scales.elements(of: Float.self)
    for (old, new) in zip(a, b) { #expect(abs(new / old - 1) < 1e-6) }
  }

  @Test func masksSurviveAndDoNotCount() throws {
    let tensor = weight(6, 48, seed: 5)
    let mask = Tensor(shape: [6, 48], of: UInt8.self) { mask in
      // The largest element of each row is hidden; row 4 is hidden whole.
      let elements = tensor.elements(of: Float.self)
      for row in 0..<6 {
        let top = (row * 48..<row * 48 + 48).max { abs(elements[$0]) < abs(elements[$1]) }
        for index in row * 48..<row * 48 + 48 {
          mask[index] = index == top || row == 4 ? 0 : 1
        }
      }
    }
    let masked = Parameter(tensor, mask: mask)
    for rule in ClippingRule.allCases {
      let quantizer = WeightQuantizer(clipping: rule)
      let quantized = try quantizer.quantize(masked, named: "w")
      let dense = try quantizer.quantize(Parameter(masked.materialized), named: "w")
      #expect(quantized.mask == mask)
      #expect(quantized.tensor == dense.tensor)
      let codes = quantized.tensor.elements(of: Int8.self)
      for (index, kept) in mask.elements(of: UInt8.self).enumerated() where kept == 0 {
        #expect(codes[index] == 0)
      }
      let scales = try #require(quantized.quantization).scales.elements(of: Float.self)
      #expect(scales[4] == 1)
    }
  }

  @Test func threadsDoNotMatterAndRowsStandAlone() throws {
    let tensor = weight(33, 19, seed: 13)
    let quantizer = WeightQuantizer()
    let one = try quantizer.quantize(Parameter(tensor), named: "w", threadCount: 1)
    let many = try quantizer.quantize(Parameter(tensor), named: "w", threadCount: 5)
    #expect(one == many)
    let row = try quantizer.quantize(
      Parameter(tensor.selecting([7], onAxis: 0)), named: "w", threadCount: 1)
    #expect(row.tensor == one.tensor.selecting([7], onAxis: 0))
  }

  @Test(arguments: [Float.nan, .infinity, -.infinity])
  func refusesWhatIsNotFinite(_ odd: Float) throws {
    var elements = weight(4, 70, seed: 1).elements(of: Float.self)
    elements[3 * 70 + 69] = odd
    let parameter = Parameter(Tensor(shape: [4, 70], elements))
    for rule in ClippingRule.allCases {
      let error = #expect(throws: PassError.self) {
        try WeightQuantizer(clipping: rule).quantize(parameter, named: "some.weight")
      }
      #expect(error?.description.contains("some.weight") == true)
      #expect(error?.description.contains("row 3") == true)
    }
  }

  @Test func emptyAndTinyRows() throws {
    let empty = try WeightQuantizer().quantize(
      Parameter(Tensor(shape: [0, 4], [Float]())), named: "w")
    #expect(empty.tensor.count == 0)
    let thin = try WeightQuantizer().quantize(
      Parameter(Tensor(shape: [3, 0], [Float]())), named: "w")
    #expect(thin.quantization?.scales.elements(of: Float.self) == [1, 1, 1])
    let tiny = try WeightQuantizer().quantize(
      Parameter(Tensor(shape: [1, 2], [Float.leastNonzeroMagnitude, 1e-30])), named: "w")
    #expect(tiny.quantization?.scales.elements(of: Float.self) == [1e-12])
  }

  @Test(arguments: [2, 3, 4, 6], [CodeGrid.symmetric, .full])
  func groupsAreRowsOfTheirOwn(_ bits: Int, _ grid: CodeGrid) throws {
    let tensor = weight(7, 50, seed: 5)
    let grouped = try WeightQuantizer(bitCount: bits, grid: grid, groupSize: 16).quantize(
      Parameter(tensor), named: "w", threadCount: 2)
    let quantization = try #require(grouped.quantization)
    #expect(quantization.scales.shape == [7, 4])
    let elements = tensor.elements(of: Float.self)
    let values = grouped.materialized.elements(of: Float.self)
    let scales = quantization.scales.elements(of: Float.self)
    for row in 0..<7 {
      for group in 0..<4 {
        let range = (row * 50 + group * 16)..<(row * 50 + min(group * 16 + 16, 50))
        let scale = scales[row * 4 + group]
        // A number that float16 holds, so that a file can store it in two bytes.
        #expect(Float(Float16(scale)) == scale)
        let alone = try WeightQuantizer(bitCount: bits, grid: grid).quantize(
          Parameter(Tensor(shape: [1, range.count], Array(elements[range]))), named: "w")
        let own = try #require(alone.quantization).scales.elements(of: Float.self)[0]
        #expect(abs(own - scale) <= abs(own) * 0x1p-11)
        for index in range {
          let code = (elements[index] / scale).rounded(.toNearestOrEven)
          let bounded = min(
            max(code, Float(quantization.smallestCode)), Float(quantization.largestCode))
          #expect(values[index] == bounded * scale)
        }
      }
    }
  }

  @Test(arguments: Distribution.allCases, [2, 3, 4])
  func fullGridLosesLess(_ distribution: Distribution, _ bits: Int) throws {
    let tensor = Tensor(shape: [6, 700], distribution.sample(4200, seed: 9))
    func error(_ grid: CodeGrid) throws -> Double {
      let quantizer = WeightQuantizer(bitCount: bits, grid: grid)
      let values = try quantizer.quantize(Parameter(tensor), named: "w").materialized
      return zip(values.elements(of: Float.self), tensor.elements(of: Float.self)).reduce(0) {
        $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1)
      }
    }
    // The extra code is worth 8 % of the error of Gaussian rows at 4 bits and 21 % at 2.
    #expect(try error(.full) < error(.symmetric) * 0.97)
  }

  @Test func longerSideFollowsTheElements() throws {
    // With two bits, three steps up and one down suit these better than the reverse.
    let skewed: [Float] = [2, 2, 2, 2, 1, 1, 1, 0, 0, -1, -1, 1, 2, 2, 1, 2]
    for sign: Float in [1, -1] {
      let tensor = Tensor(shape: [1, 16], skewed.map { $0 * sign * 0.25 })
      let quantized = try WeightQuantizer(bitCount: 2, grid: .full).quantize(
        Parameter(tensor), named: "w")
      let scale = try #require(quantized.quantization).scales.elements(of: Float.self)[0]
      #expect(scale.sign == (sign > 0 ? .minus : .plus))
      for (value, element) in zip(
        quantized.materialized.elements(of: Float.self), tensor.elements(of: Float.self))
      {
        #expect(abs(value - element) < 0.03)
      }
    }
  }
}
