import CKernels
import Testing

/// Rows, a mask, and the layer normalization over them in double precision.
private struct Rows {
  let count: Int, width: Int
  let input: Matrix, upstream: Matrix
  let gamma: Memory<Float>, beta: Memory<Float>, mask: Memory<Float>?
  static let epsilon: Float = 1e-5

  init(_ count: Int, _ width: Int, mask: [Float]?) {
    var random = Random(state: UInt64(count * 1000 + width))
    self.count = count
    self.width = width
    self.mask = mask.map { Memory($0) }
    input = Matrix(count, width, in: 3...7, from: &random)
    upstream = Matrix(count, width, in: -1...1, from: &random)
    gamma = Memory(random.floats(width))
    beta = Memory(random.floats(width))
  }

  func kept(_ i: Int) -> Double { mask.map { Double($0[i]) } ?? 1 }
  var keptCount: Double { max(1, (0..<width).reduce(0) { $0 + kept($1) }) }
  func mean(_ term: (Int) -> Double) -> Double {
    (0..<width).reduce(0) { $0 + kept($1) * term($1) } / keptCount
  }

  /// The normalized input of a row, and what its distance from the mean was divided by.
  func normalized(_ row: Int) -> (values: [Double], deviation: Double) {
    let mean = mean { input[row, $0] }
    let variance = self.mean { (input[row, $0] - mean) * (input[row, $0] - mean) }
    let deviation = (variance + Double(Self.epsilon)).squareRoot()
    return ((0..<width).map { (input[row, $0] - mean) / deviation }, deviation)
  }

  func output(_ row: Int) -> [Double] {
    let x = normalized(row).values
    return (0..<width).map { kept($0) * (x[$0] * Double(gamma[$0]) + Double(beta[$0])) }
  }

  func inputGradient(_ row: Int) -> [Double] {
    let (x, deviation) = normalized(row)
    let g = (0..<width).map { upstream[row, $0] * Double(gamma[$0]) }
    let plain = mean { g[$0] }, slope = mean { g[$0] * x[$0] }
    return (0..<width).map { kept($0) * (g[$0] - plain - x[$0] * slope) / deviation }
  }

  func forward(_ set: KernelSet, to output: Matrix) {
    var arguments = clip_f32_masked_layer_norm_arguments(
      input: input.pointer, input_stride: input.stride,
      mask: mask.map { UnsafePointer($0.pointer) }, width: width, gamma: gamma.pointer,
      beta: beta.pointer, epsilon: Self.epsilon, output: output.pointer,
      output_stride: output.stride)
    set.training.f32_masked_layer_norm(&arguments, all(count))
  }

  func backward(
    _ set: KernelSet, to gradient: Matrix, _ gammaGradient: Memory<Float>?,
    _ betaGradient: Memory<Float>?, rows: clip_range
  ) {
    var arguments = clip_f32_layer_norm_gradient_arguments(
      input: input.pointer, input_stride: input.stride, upstream: upstream.pointer,
      upstream_stride: upstream.stride, mask: mask.map { UnsafePointer($0.pointer) }, width: width,
      gamma: gamma.pointer, epsilon: Self.epsilon, input_gradient: gradient.pointer,
      input_gradient_stride: gradient.stride, gamma_gradient: gammaGradient?.pointer,
      beta_gradient: betaGradient?.pointer)
    set.training.f32_layer_norm_gradient(&arguments, rows)
  }
}

@Suite struct TrainingRowTests {
  /// All of the shapes with no mask, a mixed one, one channel, and none.
  private var cases: [Rows] {
    var random = Random(state: 9)
    return trainingShapes.filter { $0.1 > 1 }.flatMap { count, width in
      let mixed = (0..<width).map { Float($0 == 1 || random.next() % 3 != 0 ? 1 : 0) }
      let one = (0..<width).map { Float($0 == width / 2 ? 1 : 0) }
      let none = [Float](repeating: 0, count: width)
      return [nil, mixed, one, none].map { Rows(count, width, mask: $0) }
    }
  }

  @Test(arguments: KernelSet.supported)
  func maskedLayerNormAgreesWithDoublePrecision(set: KernelSet) {
    for rows in cases {
      let output = Matrix(rows.count, rows.width)
      rows.forward(set, to: output)
      let distance = output.distance(from: (0..<rows.count).map { rows.output($0) })
      #expect(distance < 4e-6, "\(rows.count) rows of \(rows.width)")
      #expect(output.isPaddingIntact)
      for i in 0..<rows.width where rows.kept(i) == 0 {
        #expect((0..<rows.count).allSatisfy { output[$0, i] == 0 })
      }
    }
  }

  /// A mask is the same as the removal of its channels.
  @Test(arguments: KernelSet.supported) func masksRemoveChannels(set: KernelSet) {
    let mask: [Float] = (0..<37).map { $0 % 3 == 1 ? 0 : 1 }
    let kept = mask.indices.filter { mask[$0] == 1 }
    let masked = Rows(4, 37, mask: mask), small = Rows(4, kept.count, mask: nil)
    for (to, from) in kept.enumerated() {
      small.gamma[to] = masked.gamma[from]
      small.beta[to] = masked.beta[from]
      for row in 0..<4 {
        small.input.memory[row * small.input.stride + to] =
          masked.input.memory[row * masked.input.stride + from]
        small.upstream.memory[row * small.input.stride + to] =
          masked.upstream.memory[row * masked.input.stride + from]
      }
    }
    let outputs = (Matrix(4, 37), Matrix(4, kept.count))
    masked.forward(set, to: outputs.0)
    small.forward(set, to: outputs.1)
    let gradients = (Matrix(4, 37), Matrix(4, kept.count))
    masked.backward(set, to: gradients.0, nil, nil, rows: all(4))
    small.backward(set, to: gradients.1, nil, nil, rows: all(4))
    for row in 0..<4 {
      for (to, from) in kept.enumerated() {
        #expect(abs(outputs.0[row, from] - outputs.1[row, to]) < 2e-6)
        #expect(abs(gradients.0[row, from] - gradients.1[row, to]) < 2e-6)
      }
    }
  }

  @Test(arguments: KernelSet.supported)
  func layerNormGradientAgreesWithDoublePrecision(set: KernelSet) {
    for rows in cases {
      let gradient = Matrix(rows.count, rows.width), part = rows.count / 3
      let gammaGradient = Memory<Float>(repeating: 0.5, count: rows.width + 1)
      let betaGradient = Memory<Float>(repeating: -0.5, count: rows.width + 1)
      for range in [clip_range(begin: 0, end: part), clip_range(begin: part, end: rows.count)] {
        rows.backward(set, to: gradient, gammaGradient, betaGradient, rows: range)
      }
      let wanted = (0..<rows.count).map { rows.inputGradient($0) }
      let greatest = max(1, wanted.joined().map { abs($0) }.max() ?? 0)
      let distance = gradient.distance(from: wanted)
      #expect(distance < 4e-6 * greatest, "\(rows.count) rows of \(rows.width)")
      #expect(gradient.isPaddingIntact)
      for i in 0..<rows.width {
        let sums = (0..<rows.count).reduce((gamma: 0.5, beta: -0.5)) { sums, row in
          let u = rows.kept(i) * rows.upstream[row, i]
          return (sums.gamma + u * rows.normalized(row).values[i], sums.beta + u)
        }
        #expect(abs(Double(gammaGradient[i]) - sums.gamma) < 3e-5, "\(rows.width)")
        #expect(abs(Double(betaGradient[i]) - sums.beta) < 3e-5)
        if rows.kept(i) == 0 {
          #expect((0..<rows.count).allSatisfy { gradient[$0, i] == 0 })
          #expect(gammaGradient[i] == 0.5 && betaGradient[i] == -0.5)
        }
      }
      #expect(gammaGradient[rows.width] == 0.5 && betaGradient[rows.width] == -0.5)
    }
  }

  /// The law of a normalization: nothing changes with its input's mean, little with its spread.
  @Test(arguments: KernelSet.supported) func inputGradientsAreOrthogonal(set: KernelSet) {
    for width in [12, 17, 65, 512] {
      let rows = Rows(5, width, mask: nil), gradient = Matrix(5, width)
      rows.backward(set, to: gradient, nil, nil, rows: all(5))
      for row in 0..<5 {
        let x = rows.normalized(row).values
        #expect(abs((0..<width).reduce(0) { $0 + gradient[row, $1] }) < 2e-5)
        #expect(abs((0..<width).reduce(0) { $0 + gradient[row, $1] * x[$1] }) < 1e-3)
        #expect((0..<width).contains { abs(gradient[row, $0]) > 0.01 })
      }
    }
  }

  @Test(arguments: KernelSet.supported) func rowsWorkInPlaceAndStandAlone(set: KernelSet) {
    let mask: [Float] = (0..<50).map { $0 % 4 == 2 ? 0 : 1 }
    let rows = Rows(7, 50, mask: mask), gradient = Matrix(7, 50), output = Matrix(7, 50)
    rows.backward(set, to: gradient, nil, nil, rows: clip_range(begin: 4, end: 7))
    rows.backward(set, to: gradient, nil, nil, rows: clip_range(begin: 0, end: 4))
    rows.forward(set, to: output)
    let other = Rows(7, 50, mask: mask)
    other.backward(set, to: other.input, nil, nil, rows: all(7))
    rows.backward(set, to: rows.upstream, nil, nil, rows: all(7))
    rows.forward(set, to: rows.input)
    for row in 0..<7 {
      for i in 0..<50 {
        #expect(rows.upstream[row, i] == gradient[row, i])
        #expect(other.input[row, i] == gradient[row, i])
        #expect(rows.input[row, i] == output[row, i])
      }
    }
  }
}
