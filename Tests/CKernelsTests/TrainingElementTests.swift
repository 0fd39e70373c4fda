import CKernels
import Foundation
import Testing

@Suite struct TrainingElementTests {
  private static let grid = (-60000...60000).map { Float($0) * 0.00025 }

  private func gradient(
    _ x: Memory<Float>, _ upstream: Memory<Float>, _ activation: clip_activation, _ set: KernelSet
  ) -> Memory<Float> {
    let output = Memory<Float>(repeating: -777, count: x.count + 1)
    set.training.f32_activation_gradient(
      x.pointer, upstream.pointer, x.count, activation, output.pointer)
    #expect(output[x.count] == -777)
    return output
  }

  @Test(arguments: activations)
  func activationGradientsAreAccurateAndTheSameInAllSets(activation: clip_activation) {
    var random = Random(state: 1)
    let x = Memory(Self.grid), upstream = Memory(random.floats(x.count, in: -2...2))
    let reference = gradient(x, upstream, activation, .portable)
    for i in 0..<x.count {
      let wanted = Double(upstream[i]) * activationSlope(Double(x[i]), activation)
      #expect(abs(Double(reference[i]) - wanted) < 2 * 5e-7, "at \(x[i])")
    }
    for set in KernelSet.supported.dropFirst() {
      let result = gradient(x, upstream, activation, set)
      #expect(result.bits == reference.bits, "\(set.testDescription)")
    }
  }

  @Test(arguments: KernelSet.supported) func activationGradientsWorkInPlace(set: KernelSet) {
    var random = Random(state: 2)
    for activation in activations {
      for count in extents {
        let x = Memory(random.floats(count, in: -4...4)), upstream = Memory(random.floats(count))
        let apart = gradient(x, upstream, activation, set).bits.prefix(count)
        let run = set.training.f32_activation_gradient
        let overUpstream = Memory(upstream.elements), overInput = Memory(x.elements)
        run(x.pointer, overUpstream.pointer, count, activation, overUpstream.pointer)
        run(overInput.pointer, upstream.pointer, count, activation, overInput.pointer)
        #expect(overUpstream.bits == Array(apart), "\(count)")
        #expect(overInput.bits == Array(apart), "\(count)")
      }
    }
  }

  @Test(arguments: KernelSet.supported)
  func activationGradientsOfExtremesAreFinite(set: KernelSet) {
    let x = Memory<Float>([-.infinity, -3e38, -1000, -90, 90, 1000, 3e38, .infinity, .nan])
    let ones = Memory<Float>(repeating: 1, count: x.count)
    for activation in [CLIP_ACTIVATION_QUICK_GELU, CLIP_ACTIVATION_GELU] {
      let y = gradient(x, ones, activation, set).elements
      #expect(y[0...3].allSatisfy { abs($0) < 1e-30 })
      #expect(y[4...7].allSatisfy { $0 == 1 })
      #expect(y[8].isNaN)
    }
  }

  @Test func dropoutIsTheSameInAllSetsAndRanges() {
    var random = Random(state: 7)
    let draw = clip_dropout(keys: (0x1234_5678, 0x9abc_def0), least: 0x6000_0000, factor: 1.6)
    for count in extents + [1003] {
      let x = Memory(random.floats(count, in: 1...2))
      let whole = Memory<Float>(repeating: -777, count: count + 1)
      KernelSet.portable.training.f32_dropout(
        x.pointer, clip_range(begin: 0, end: count), draw, whole.pointer)
      #expect(whole[count] == -777)
      for i in 0..<count { #expect(whole[i] == 0 || whole[i] == x[i] * 1.6) }
      for set in KernelSet.supported {
        let parts = Memory(x.elements + [-777])
        for range in [0..<(count / 3), (count / 3)..<count] {
          set.training.f32_dropout(
            parts.pointer, clip_range(begin: range.lowerBound, end: range.upperBound), draw,
            parts.pointer)
        }
        #expect(parts.bits == whole.bits, "\(set.testDescription), \(count)")
      }
    }
  }

  /// A step as float32 arithmetic, one rounding an operation.
  @Test(arguments: KernelSet.supported) func adamWFollowsTheDefinition(set: KernelSet) {
    var random = Random(state: 3)
    for count in extents + [257] {
      let parameter = Memory(random.floats(count + 1)), first = Memory(random.floats(count + 1))
      let second = Memory(random.floats(count + 1, in: 0...1))
      let gradient = Memory(random.floats(count + 1, in: -3...3))
      let begin = min(1, count)
      var wanted = (p: parameter.elements, m: first.elements, v: second.elements)
      var arguments = clip_f32_adamw_arguments(
        parameter: parameter.pointer, gradient: gradient.pointer, first_moment: first.pointer,
        second_moment: second.pointer, learning_rate: 3e-3, beta1: 0.9, beta2: 0.98, epsilon: 1e-6,
        decay: 6e-4, first_correction: 1.9, second_correction: 7.3, gradient_factor: 0.37)
      for _ in 0..<3 {
        set.training.f32_adamw(&arguments, clip_range(begin: begin, end: count))
        for i in begin..<count {
          let g = gradient[i] * Float(0.37)
          let kept = wanted.m[i] * Float(0.9), taken = g * (1 - Float(0.9))
          wanted.m[i] = kept + taken
          let square = g * g
          let keptSquare = wanted.v[i] * Float(0.98), takenSquare = square * (1 - Float(0.98))
          wanted.v[i] = keptSquare + takenSquare
          let root = (wanted.v[i] * Float(7.3)).squareRoot() + Float(1e-6)
          let step = wanted.m[i] * Float(1.9) * Float(3e-3) / root
          let decayed = wanted.p[i] - wanted.p[i] * Float(6e-4)
          wanted.p[i] = decayed - step
        }
      }
      #expect(parameter.elements == wanted.p, "\(count)")
      #expect(first.elements == wanted.m)
      #expect(second.elements == wanted.v)
    }
  }

  /// With constant gradients and exact corrections each step is the learning rate by their signs.
  @Test(arguments: KernelSet.supported) func adamWStepsByTheLearningRate(set: KernelSet) {
    let gradients: [Float] = [-3, -1e-3, 0, 2e-4, 5]
    let parameter = Memory<Float>(repeating: 0, count: 5), gradient = Memory(gradients)
    let first = Memory<Float>(repeating: 0, count: 5)
    let second = Memory<Float>(repeating: 0, count: 5)
    for step in 1...50 {
      var arguments = clip_f32_adamw_arguments(
        parameter: parameter.pointer, gradient: gradient.pointer, first_moment: first.pointer,
        second_moment: second.pointer, learning_rate: 0.01, beta1: 0.9, beta2: 0.98,
        epsilon: 1e-12, decay: 0, first_correction: Float(1 / (1 - pow(0.9, Double(step)))),
        second_correction: Float(1 / (1 - pow(0.98, Double(step)))), gradient_factor: 1)
      set.training.f32_adamw(&arguments, all(5))
    }
    for (p, g) in zip(parameter.elements, gradients) {
      let wanted: Float = g == 0 ? 0 : g < 0 ? 0.5 : -0.5
      #expect(abs(p - wanted) < 1e-5)
    }
  }

  @Test(arguments: KernelSet.supported) func averagesAreExact(set: KernelSet) {
    var random = Random(state: 4)
    for count in extents + [257] {
      let target = Memory(random.floats(count) + [-777]), source = Memory(random.floats(count))
      var wanted: [Float] = []
      for i in 0..<count {
        let kept = target[i] * Float(0.999), taken = source[i] * (1 - Float(0.999))
        wanted.append(kept + taken)
      }
      set.training.f32_average(target.pointer, source.pointer, count, 0.999)
      #expect(target.elements == wanted + [-777])
    }
  }

  @Test func columnSumsAreAccurateAndTheSameInAllSets() {
    var random = Random(state: 5)
    for (rows, width) in trainingShapes {
      let input = Matrix(rows, width, in: -1...2, from: &random)
      let start = Memory(random.floats(width) + [-777])
      var reference: [UInt32]?
      for set in KernelSet.supported {
        let output = Memory(start.elements), part = rows / 3
        for range in [clip_range(begin: 0, end: part), clip_range(begin: part, end: rows)] {
          set.training.f32_column_sums(input.pointer, input.stride, width, range, output.pointer)
        }
        for i in 0..<width {
          let wanted = (0..<rows).reduce(Double(start[i])) { $0 + input[$1, i] }
          #expect(abs(Double(output[i]) - wanted) < 2e-5, "\(rows) rows of \(width)")
        }
        #expect(output[width] == -777)
        #expect(output.bits == reference ?? output.bits, "\(set.testDescription)")
        reference = output.bits
      }
    }
  }

  /// Sixteen partial sums by the definition in the header.
  @Test(arguments: KernelSet.supported) func squareSumsFollowTheDefinition(set: KernelSet) {
    var random = Random(state: 6)
    for count in extents + [1000] {
      let input = Memory(random.floats(count, in: -1e20...3e20))
      var sums = [Double](repeating: 0, count: 16)
      for i in 0..<count { sums[i % 16] += Double(input[i]) * Double(input[i]) }
      while sums.count > 1 {
        let half = sums.count / 2
        sums = (0..<half).map { sums[$0] + sums[$0 + half] }
      }
      #expect(set.training.f32_square_sum(input.pointer, count) == sums[0], "\(count)")
      let plain = input.elements.reduce(0) { $0 + Double($1) * Double($1) }
      #expect(abs(sums[0] - plain) <= 1e-13 * plain)
    }
  }
}
