import CKernels
import Foundation
import Testing

/// One head, its gradients by the kernel, and by the definition in double precision.
private struct HeadGradient {
  let tokens: Int, width: Int, isCausal: Bool
  let query: Matrix, key: Matrix, value: Matrix, upstream: Matrix

  init(tokens: Int, width: Int, isCausal: Bool) {
    var random = Random(state: UInt64(tokens * 100 + width))
    self.tokens = tokens
    self.width = width
    self.isCausal = isCausal
    query = Matrix(tokens, width, in: -3...3, from: &random)
    key = Matrix(tokens, width, in: -3...3, from: &random)
    value = Matrix(tokens, width, in: -1...1, from: &random)
    upstream = Matrix(tokens, width, in: -1...1, from: &random)
  }

  var scale: Float { 1 / Float(width).squareRoot() }

  func run(_ set: KernelSet) -> [Matrix] {
    let gradients = (0..<3).map { _ in Matrix(tokens, width) }
    let count = clip_f32_attention_gradient_scratch_count(tokens, width)
    // What lies in the scratch before must not matter, nor anything behind it be written.
    let scratch = Memory<Float>(repeating: .nan, count: count + 1)
    scratch[count] = -777
    var arguments = clip_f32_attention_gradient_arguments(
      query: query.pointer, query_stride: query.stride, key: key.pointer, key_stride: key.stride,
      value: value.pointer, value_stride: value.stride, upstream: upstream.pointer,
      upstream_stride: upstream.stride, token_count: tokens, head_width: width, scale: scale,
      causal: isCausal, query_gradient: gradients[0].pointer,
      query_gradient_stride: gradients[0].stride, key_gradient: gradients[1].pointer,
      key_gradient_stride: gradients[1].stride, value_gradient: gradients[2].pointer,
      value_gradient_stride: gradients[2].stride)
    set.training.f32_attention_gradient(&arguments, scratch.pointer)
    #expect(scratch[count] == -777)
    return gradients
  }

  private func dot(_ a: Matrix, _ i: Int, _ b: Matrix, _ j: Int) -> Double {
    (0..<width).reduce(0.0) { $0 + a[i, $1] * b[j, $1] }
  }

  var wanted: [[[Double]]] {
    let zeros = [[Double]](repeating: [Double](repeating: 0, count: width), count: tokens)
    var result = [zeros, zeros, zeros]
    for i in 0..<tokens {
      let seen = 0..<(isCausal ? i + 1 : tokens)
      let scores = seen.map { dot(query, i, key, $0) * Double(scale) }
      let greatest = scores.max() ?? 0
      let weights = scores.map { exp($0 - greatest) }
      let sum = weights.reduce(0, +)
      let p = weights.map { $0 / sum }
      let gradients = seen.map { dot(upstream, i, value, $0) }
      let mean = zip(p, gradients).reduce(0) { $0 + $1.0 * $1.1 }
      for j in seen {
        let s = p[j] * (gradients[j] - mean) * Double(scale)
        for c in 0..<width {
          result[0][i][c] += s * key[j, c]
          result[1][j][c] += s * query[i, c]
          result[2][j][c] += p[j] * upstream[i, c]
        }
      }
    }
    return result
  }
}

@Suite struct AttentionGradientTests {
  @Test(arguments: KernelSet.supported, [false, true])
  func agreesWithDoublePrecision(set: KernelSet, isCausal: Bool) {
    for tokens in [0, 1, 2, 3, 7, 12, 13, 16, 17, 25, 50, 65] {
      for width in [0, 1, 3, 15, 16, 17, 32, 40, 64] {
        let head = HeadGradient(tokens: tokens, width: width, isCausal: isCausal)
        for (gradient, wanted) in zip(head.run(set), head.wanted) {
          let distance = gradient.distance(from: wanted)
          #expect(distance < 5e-6, "\(tokens) tokens of width \(width)")
          #expect(gradient.isPaddingIntact)
        }
      }
    }
  }

  /// Central differences of the forward kernel along a random direction.
  @Test(arguments: KernelSet.supported, [false, true])
  func isTheSlopeOfTheForwardKernel(set: KernelSet, isCausal: Bool) {
    let head = HeadGradient(tokens: 19, width: 20, isCausal: isCausal)
    let gradients = head.run(set)
    var random = Random(state: 5)
    let output = Matrix(19, 20)
    func loss() -> Double {
      let count = clip_f32_attention_scratch_count(19, 20)
      let scratch = Memory<Float>(repeating: 0, count: count)
      var arguments = clip_f32_attention_arguments(
        query: head.query.pointer, query_stride: 23, key: head.key.pointer, key_stride: 23,
        value: head.value.pointer, value_stride: 23, prefix_key: nil, prefix_value: nil,
        prefix_count: 0, query_count: 19, key_count: 19,
        head_width: 20, scale: head.scale, causal: isCausal, first_query: 0, output: clip_output(),
        key_sizes: nil, quantizes_probabilities: false)
      arguments.output.f32 = output.pointer
      arguments.output.f32_stride = 23
      set.kernels.f32_attention(&arguments, scratch.pointer)
      return (0..<19 * 20).reduce(0) {
        $0 + output[$1 / 20, $1 % 20] * head.upstream[$1 / 20, $1 % 20]
      }
    }
    for (input, gradient) in zip([head.query, head.key, head.value], gradients) {
      let old = input.memory.elements, direction = random.floats(old.count)
      let wanted = (0..<19 * 20).reduce(0) {
        $0 + gradient[$1 / 20, $1 % 20] * Double(direction[$1 / 20 * 23 + $1 % 20])
      }
      var losses: [Double] = []
      for step: Float in [-0x1p-7, 0x1p-7] {
        for i in old.indices { input.memory[i] = old[i] + step * direction[i] }
        losses.append(loss())
      }
      for i in old.indices { input.memory[i] = old[i] }
      let slope = (losses[1] - losses[0]) / 0x1p-6
      #expect(abs(slope - wanted) < 2e-3 * max(1, abs(wanted)))
    }
  }

  /// Probabilities sum to one, hence gradients of scores to zero: equal keys get no gradient of
  /// queries, and value gradients sum to the upstream gradient.
  @Test(arguments: KernelSet.supported) func probabilitiesSumToOne(set: KernelSet) {
    let head = HeadGradient(tokens: 33, width: 24, isCausal: false)
    for row in 1..<33 {
      for i in 0..<24 {
        head.key.memory[row * head.key.stride + i] = head.key.memory[i]
      }
    }
    let gradients = head.run(set)
    for i in 0..<24 {
      #expect((0..<33).allSatisfy { abs(gradients[0][$0, i]) < 1e-6 })
      let sums = (0..<33).reduce(0) { $0 + gradients[2][$1, i] - head.upstream[$1, i] }
      #expect(abs(sums) < 1e-5)
    }
  }

  /// What comes later has no influence on a causal query.
  @Test(arguments: KernelSet.supported) func causalQueriesSeeNothingLater(set: KernelSet) {
    let head = HeadGradient(tokens: 29, width: 16, isCausal: true)
    let before = head.run(set)
    for row in 20..<29 {
      for i in 0..<16 {
        head.key.memory[row * head.key.stride + i] = 9
        head.value.memory[row * head.value.stride + i] = 9
      }
    }
    let after = head.run(set)
    for row in 0..<20 {
      for i in 0..<16 { #expect(before[0][row, i] == after[0][row, i]) }
    }
    #expect((20..<29).contains { before[0][$0, 0] != after[0][$0, 0] })
  }

  @Test func hugeScratchSaturates() {
    #expect(clip_f32_attention_gradient_scratch_count(.max, 64) == .max)
    #expect(clip_f32_attention_gradient_scratch_count(1 << 32, 1 << 3) == .max)
    #expect(clip_f32_attention_gradient_scratch_count(65, 32) < 1 << 16)
  }
}
