import GraphIR
import Operators
import TensorCore
import TestSupport
import Testing

/// OCTAV's objective on grids whose ends lie anywhere.
@Suite struct ScaleSearchTests {
  /// Elements of the kinds that weights and activations have.
  private static let kinds = [
    "gaussian", "laplace", "heavy", "sparse", "constant", "tiny", "lobe", "few",
  ]

  private func elements(_ kind: String, count: Int = 3001, seed: UInt64 = 1) -> [Float] {
    var random = SplitMix64(seed: seed)
    return (0..<(kind == "few" ? 37 : count)).map { index in
      let x = random.nextNormal()
      switch kind {
      case "laplace": return Float(x * x.magnitude)
      case "heavy": return Float(x / (0.05 + random.nextUniform()))
      case "sparse": return index % 4 == 0 ? Float(x) : 0
      case "constant": return index % 2 == 0 ? 0.37 : -0.37
      case "tiny": return Float(x) * 1e-9
      // What an activation function leaves: a short side and a long one.
      case "lobe": return x < 0 ? Float(-0.17 * random.nextUniform()) : Float(x)
      default: return Float(x)
      }
    }
  }

  private func scale(
    _ codes: ClosedRange<Int>, _ elements: [Float], near start: Float = 0, threadCount: Int = 1
  ) -> Float? {
    elements.withUnsafeBufferPointer {
      ScaleSearch(codes: codes).scale(of: $0, near: start, threadCount: threadCount)
    }
  }

  @Test(arguments: kinds)
  func evenAndUnsignedGridsAreThoseOfTheExactSolver(_ kind: String) throws {
    let x = elements(kind)
    for bitCount in 2...8 {
      let n = (1 << (bitCount - 1)) - 1
      let magnitudes = x.filter { $0 != 0 }.map { Double(abs($0)) }
      let positive = x.filter { $0 > 0 }.map { Double($0) }
      for (codes, values) in [(-n...n, magnitudes), (0...(2 * n + 1), positive)] {
        let ones = [Double](repeating: 1, count: values.count)
        let exact =
          ClippingScalar.exact(magnitudes: values, counts: ones, stepCount: codes.upperBound)
          / Double(codes.upperBound)
        let found = Double(try #require(scale(codes, x)))
        #expect(abs(found - exact) <= 1e-6 * exact, "\(bitCount) bits, \(codes)")
      }
    }
  }

  /// Below the result the derivative of the objective is negative, above it positive.
  @Test(arguments: kinds, [-2...1, -8...7, -3...12, -1...254, -255...0] as [ClosedRange<Int>])
  func derivativeChangesItsSign(_ kind: String, _ codes: ClosedRange<Int>) throws {
    let x = elements(kind)
    let found = Double(try #require(scale(codes, x)))
    func derivative(_ step: Double) -> Double {
      let (low, high) = (Double(codes.lowerBound), Double(codes.upperBound))
      return x.reduce(0) { sum, element in
        let value = Double(element)
        if value == 0 { return sum }
        if value >= high * step { return sum + high * (high * step - value) }
        if value <= low * step { return sum + low * (low * step - value) }
        return sum + step / 12
      }
    }
    #expect(derivative(found * (1 - 1e-6)) < 0)
    #expect(derivative(found * (1 + 1e-6)) > 0)
  }

  @Test(arguments: kinds)
  func startsAndThreadsDoNotMatter(_ kind: String) throws {
    let x = elements(kind, count: 100_003)
    for codes in [-1...1, -8...7, 0...255, -127...127] {
      let cold = try #require(scale(codes, x))
      for factor in [0.01, 0.5, 0.9, 1, 1.1, 2, 100] as [Float] {
        let warm = try #require(scale(codes, x, near: cold * factor))
        #expect(abs(warm - cold) <= 1e-6 * cold, "\(codes), start times \(factor)")
      }
      for threadCount in [2, 3] {
        #expect(scale(codes, x, threadCount: threadCount) == cold)
      }
      let larger = try #require(scale(codes, x.map { $0 * 1024 }))
      #expect(abs(larger - 1024 * cold) <= 1e-6 * larger)
    }
  }

  @Test func nothingToGoByIsToldApart() {
    #expect(scale(-7...7, []) == nil)
    #expect(scale(-7...7, [0, 0, 0]) == nil)
    #expect(scale(-7...7, [0, 0], near: 0.1) == nil)
    #expect(scale(0...15, [-1, -2, 0]) == nil)
    #expect(scale(0...15, [-1, -2, 0], near: 0.1) == nil)
    #expect(scale(-7...7, [1, .infinity]) == nil)
    #expect(scale(-7...7, [2]) == Float(2) / 7)
  }

  @Test(arguments: [2, 3, 4, 8])
  func fittedScalesKeepTheirSigns(_ bitCount: Int) throws {
    for groupSize in [nil, 16] {
      let op = FakeQuantizeWeight(bitCount: bitCount, grid: .full, groupSize: groupSize)
      let w = elements("gaussian", count: 4 * 40)
      let groups = groupSize == nil ? 1 : 3
      var scales = (0..<(4 * groups)).map { Float($0 % 2 == 0 ? 0.1 : -0.1) }
      scales.withUnsafeMutableBufferPointer { scales in
        w.withUnsafeBufferPointer {
          op.fitScales(scales, to: $0, shape: [4, 8, 5], threadCount: 2)
        }
      }
      for (index, found) in scales.enumerated() {
        let (row, group) = (index / groups, index % groups)
        let start = row * 40 + group * (groupSize ?? 40)
        let run = Array(w[start..<min(start + (groupSize ?? 40), (row + 1) * 40)])
        let codes = index % 2 == 0 ? op.codes : -op.codes.upperBound...(-op.codes.lowerBound)
        let wanted = (index % 2 == 0 ? 1 : -1) * (try #require(scale(codes, run)))
        // Scales of groups have the precision of float16.
        #expect(abs(found - wanted) <= (groupSize == nil ? 1e-6 : 5e-4) * abs(wanted))
        #expect(groupSize == nil || Float(Float16(found)) == found)
      }
    }
  }
}

/// Training rounds as models that hold codes do.
@Suite struct FakeQuantizeTests {
  @Test(arguments: [2, 4, 8], CodeGrid.allCases)
  func weightsAreTheirCodesTimesScales(_ bitCount: Int, _ grid: CodeGrid) throws {
    for groupSize in [nil, 8] {
      var random = SplitMix64(seed: 8)
      let w = random.normalTensor([6, 3, 7])
      let shape = groupSize == nil ? [6] : [6, 3]
      let scales = Tensor(
        shape: shape,
        (0..<shape.reduce(1, *)).map { index in
          Float(0.02 + random.nextUniform()) * (grid == .full && index % 3 == 0 ? -1 : 1)
        })
      let quantization = WeightQuantization(
        bitCount: bitCount, grid: grid, groupSize: groupSize, scales: scales)
      let parameter = Parameter(quantization.codes(of: w), quantization: quantization)
      let testCase = OperatorCase(
        op: FakeQuantizeWeight(quantization, estimator: .magnitudeAware), inputs: [w, scales])
      let stored = parameter.materialized.elements(of: Float.self)
      #expect(try evaluate(testCase, as: Float.self, fast: true, threadCount: 2) == stored)
      #expect(try evaluate(testCase, as: Float.self) == stored)
    }
  }

  @Test func activationsAreThoseOfTheModel() throws {
    for (zeroPoint, lowest, highest) in [(128, 1, 255), (0, 0, 15), (5, 0, 15)]
      as [(UInt8, UInt8, UInt8)]
    {
      let codes = ActivationQuantization(
        scale: 0.0371, zeroPoint: zeroPoint, lowest: lowest, highest: highest)
      let model = OperatorCase.random(FakeQuantize(parameters: codes), [[4099]], seed: 3)
      let trained = OperatorCase(
        op: FakeQuantizeActivation(codes, estimator: .piecewiseLinear),
        inputs: model.inputs + [Tensor(scalar: 0.0371)])
      #expect(
        try evaluate(trained, as: Float.self, fast: true)
          == evaluate(model, as: Float.self, fast: true))
    }
  }
}
