import CKernels
import Foundation
import Testing

@Suite struct IntegerAttentionTests {
  /// Queries, keys, columns of a head, whether positions see earlier ones only.
  static let shapes = [
    (1, 1, 1, false), (3, 3, 5, true), (7, 7, 16, false), (17, 17, 18, true), (50, 50, 64, false),
    (1, 33, 31, true), (13, 13, 4, false), (19, 19, 80, true), (4, 129, 48, false),
  ]

  @Test(arguments: KernelSet.supported) func agreesWithDoublePrecision(set: KernelSet) {
    for (index, shape) in Self.shapes.enumerated() {
      let found = check(set, shape, seed: UInt64(index))
      #expect(found == check(.portable, shape, seed: UInt64(index)), "\(set) \(shape)")
    }
  }

  /// Holds a set against double precision; returns what it computed.
  private func check(
    _ set: KernelSet, _ shape: (Int, Int, Int, Bool), seed: UInt64
  ) -> [Float] {
    let (queries, keys, width, isCausal) = shape
    var random = Random(state: seed)
    let stride = width + 3
    // Some bytes less than a row at the end: nothing behind the last column is read.
    func codes(_ count: Int) -> Memory<UInt8> { Memory(random.bytes(count * stride - 3)) }
    let (q, k, v) = (codes(queries), codes(keys), codes(keys))
    let zeros: [Int32] = [131, 97, 120]
    let scale: Float = 0.0005
    let count = Int(clip_qu8_attention_scratch_byte_count(keys, width))
    let scratch = Memory<UInt8>(repeating: 0xFF, count: count + 1)
    let output = Memory<Float>(repeating: -777, count: queries * (width + 1))
    let first = queries == keys ? 0 : keys - 5
    var arguments = clip_qu8_attention_arguments(
      query: q.pointer, query_stride: stride, key: k.pointer, key_stride: stride,
      value: v.pointer, value_stride: stride, prefix_key: nil, prefix_value: nil, prefix_count: 0,
      query_count: queries, key_count: max(keys, 1),
      head_width: width, query_zero: zeros[0], key_zero: zeros[1], value_zero: zeros[2],
      scale: scale, value_scale: 0.02, causal: isCausal, first_query: max(first, 0),
      output: clip_output(
        f32: output.pointer, f32_stride: width + 1, qu8: nil, qu8_stride: 0,
        quantization: clip_quantization(inverse_scale: 1, zero_point: 0, lowest: 0, highest: 255)))
    set.kernels.qu8_attention(&arguments, scratch.pointer)
    #expect(scratch[count] == 0xFF)
    func value(_ codes: Memory<UInt8>, _ row: Int, _ column: Int, _ zero: Int32) -> Double {
      Double(Int32(codes[row * stride + column]) - zero)
    }
    for m in 0..<queries {
      let seen = isCausal ? min(keys, max(first, 0) + m + 1) : keys
      let scores = (0..<seen).map { j in
        (0..<width).reduce(0.0) { $0 + value(q, m, $1, zeros[0]) * value(k, j, $1, zeros[1]) }
          * Double(scale)
      }
      let exponentials = scores.map { exp($0 - (scores.max() ?? 0)) }
      let shares = exponentials.map { $0 * 255 }
      let sum = shares.reduce(0) { $0 + $1.rounded(.toNearestOrEven) }
      // One near the middle of two codes may become either.
      let unsure = shares.count { abs($0 - $0.rounded(.down) - 0.5) < 1e-3 }
      for d in 0..<width {
        let mixed = (0..<seen).reduce(0.0) {
          $0 + shares[$1].rounded(.toNearestOrEven) * value(v, $1, d, zeros[2])
        }
        let error = abs(Double(output[m * (width + 1) + d]) - mixed * 0.02 / sum)
        #expect(error <= 1e-5 + Double(unsure) * 0.02, "\(set) \(shape)")
      }
      #expect(output[m * (width + 1) + width] == -777)
    }
    return output.elements
  }

  /// The float kernel rounds probabilities to the same codes.
  @Test(arguments: KernelSet.supported) func floatsSimulateTheSame(set: KernelSet) {
    var random = Random(state: 3)
    let (tokens, width) = (37, 24)
    let codes = (0..<3).map { _ in Memory(random.bytes(tokens * width)) }
    let zeros: [Int32] = [100, 128, 140]
    let floats = zip(codes, zeros).map { codes, zero in
      Memory(codes.elements.map { Float(Int32($0) - zero) * 0.03125 })
    }
    let results = [true, false].map { isInteger in
      let output = Memory<Float>(repeating: 0, count: tokens * width)
      let target = clip_output(
        f32: output.pointer, f32_stride: width, qu8: nil, qu8_stride: 0,
        quantization: clip_quantization(inverse_scale: 1, zero_point: 0, lowest: 0, highest: 255))
      if isInteger {
        var arguments = clip_qu8_attention_arguments(
          query: codes[0].pointer, query_stride: width, key: codes[1].pointer, key_stride: width,
          value: codes[2].pointer, value_stride: width, prefix_key: nil, prefix_value: nil,
          prefix_count: 0, query_count: tokens, key_count: tokens,
          head_width: width, query_zero: zeros[0], key_zero: zeros[1], value_zero: zeros[2],
          scale: 0.2 * 0.03125 * 0.03125, value_scale: 0.03125, causal: false, first_query: 0,
          output: target)
        let scratch = Memory<UInt8>(
          repeating: 0, count: Int(clip_qu8_attention_scratch_byte_count(tokens, width)))
        set.kernels.qu8_attention(&arguments, scratch.pointer)
      } else {
        var arguments = clip_f32_attention_arguments(
          query: floats[0].pointer, query_stride: width, key: floats[1].pointer,
          key_stride: width, value: floats[2].pointer, value_stride: width, prefix_key: nil,
          prefix_value: nil, prefix_count: 0, query_count: tokens,
          key_count: tokens, head_width: width, scale: 0.2, causal: false, first_query: 0,
          output: target, key_sizes: nil, quantizes_probabilities: true)
        let scratch = Memory<Float>(
          repeating: 0, count: Int(clip_f32_attention_scratch_count(tokens, width)))
        set.kernels.f32_attention(&arguments, scratch.pointer)
      }
      return output.elements
    }
    // One code of a probability more or less is 4.4 / 255.
    let errors = zip(results[0], results[1]).map { abs($0 - $1) }
    #expect(errors.count { $0 > 1e-5 } < errors.count / 20)
    #expect(errors.allSatisfy { $0 < 0.04 })
  }
}
