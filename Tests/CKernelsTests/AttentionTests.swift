import CKernels
import Foundation
import Testing

/// One head, in memory where rows are wider than a head, as in a projection of all heads.
private struct Head {
  let queries: Int, keys: Int, width: Int, isCausal: Bool, firstQuery: Int
  let query: Memory<Float>, key: Memory<Float>, value: Memory<Float>
  /// How many tokens each key stands for, where not one each.
  var sizes: Memory<Float>?

  var stride: Int { width + 3 }

  init(queries: Int, keys: Int, width: Int, isCausal: Bool, firstQuery: Int = 0) {
    var random = Random(state: UInt64(keys * 100 + width))
    self.queries = queries
    self.keys = keys
    self.width = width
    self.isCausal = isCausal
    self.firstQuery = firstQuery
    query = Memory(random.floats(queries * (width + 3), in: -4...4))
    key = Memory(random.floats(keys * (width + 3), in: -4...4))
    value = Memory(random.floats(keys * (width + 3)))
  }

  func run(_ set: KernelSet) -> (floats: Memory<Float>, codes: Memory<UInt8>) {
    let floats = Memory<Float>(repeating: -777, count: queries * stride)
    let bytes = Memory<UInt8>(repeating: 0x55, count: queries * stride)
    let count = clip_f32_attention_scratch_count(keys, width)
    // What lies in the scratch before must not matter, nor anything behind it be written.
    let scratch = Memory<Float>(repeating: .nan, count: count + 1)
    scratch[count] = -777
    var arguments = clip_f32_attention_arguments(
      query: query.pointer, query_stride: stride, key: key.pointer, key_stride: stride,
      value: value.pointer, value_stride: stride, prefix_key: nil, prefix_value: nil,
      prefix_count: 0, query_count: queries, key_count: keys,
      head_width: width, scale: 1 / Float(width).squareRoot(), causal: isCausal,
      first_query: firstQuery,
      output: clip_output(
        f32: floats.pointer, f32_stride: stride, qu8: bytes.pointer, qu8_stride: stride,
        quantization: Self.quantization), key_sizes: sizes.map { UnsafePointer($0.pointer) },
      quantizes_probabilities: false)
    set.kernels.f32_attention(&arguments, scratch.pointer)
    #expect(scratch[count] == -777)
    return (floats, bytes)
  }

  static let quantization = clip_quantization(
    inverse_scale: 90, zero_point: 128, lowest: 1, highest: 255)

  func wanted(_ row: Int) -> [Double] {
    let seen = isCausal ? min(keys, firstQuery + row + 1) : keys
    let scores = (0..<seen).map { k in
      (0..<width).reduce(0.0) {
        $0 + Double(query[row * stride + $1]) * Double(key[k * stride + $1])
      } / Double(width).squareRoot() + log(Double(sizes?[k] ?? 1))
    }
    let greatest = scores.max() ?? 0
    let weights = scores.map { exp($0 - greatest) }
    let sum = weights.reduce(0, +)
    return (0..<width).map { i in
      (0..<seen).reduce(0.0) { $0 + weights[$1] * Double(value[$1 * stride + i]) } / sum
    }
  }

  func check(_ set: KernelSet) {
    let result = run(set)
    for row in 0..<queries {
      let wanted = wanted(row)
      for i in 0..<width {
        let y = result.floats[row * stride + i]
        #expect(
          abs(Double(y) - wanted[i]) < 1e-5,
          "\(keys) keys of width \(width), row \(row), column \(i)")
        #expect(result.codes[row * stride + i] == code(y, Self.quantization))
      }
      for i in width..<stride { #expect(result.floats[row * stride + i] == -777) }
    }
  }
}

@Suite struct AttentionTests {
  @Test(arguments: KernelSet.supported, [false, true])
  func agreesWithDoublePrecision(set: KernelSet, isCausal: Bool) {
    for tokens in [1, 2, 3, 7, 16, 17, 50, 77] {
      for width in [1, 3, 16, 32, 40, 64, 80, 88] {
        Head(queries: tokens, keys: tokens, width: width, isCausal: isCausal).check(set)
      }
    }
  }

  @Test(arguments: KernelSet.supported) func fewerQueriesThanKeys(set: KernelSet) {
    Head(queries: 1, keys: 197, width: 64, isCausal: false).check(set)
    Head(queries: 5, keys: 20, width: 32, isCausal: true, firstQuery: 15).check(set)
    Head(queries: 9, keys: 20, width: 32, isCausal: true, firstQuery: 3).check(set)
  }

  @Test(arguments: KernelSet.supported) func keysCountAsOftenAsTheirSizes(set: KernelSet) {
    for tokens in [1, 7, 16, 50] {
      var head = Head(queries: tokens, keys: tokens, width: 40, isCausal: false)
      head.sizes = Memory((0..<tokens).map { Float(1 + $0 * 5 % 7) })
      head.check(set)
    }
  }

  /// What a causal row sees, and so its bits, does not depend on the rows beside it.
  @Test(arguments: KernelSet.supported) func causalRowsStandAlone(set: KernelSet) {
    let whole = Head(queries: 33, keys: 33, width: 24, isCausal: true)
    let bits = whole.run(set).floats.bits
    for row in [0, 5, 6, 31, 32] {
      let alone = Memory<Float>(repeating: 0, count: 24)
      let count = clip_f32_attention_scratch_count(33, 24)
      let scratch = Memory<Float>(repeating: 0, count: count)
      var arguments = clip_f32_attention_arguments(
        query: whole.query.pointer + row * whole.stride, query_stride: whole.stride,
        key: whole.key.pointer, key_stride: whole.stride, value: whole.value.pointer,
        value_stride: whole.stride, prefix_key: nil, prefix_value: nil, prefix_count: 0,
        query_count: 1, key_count: 33, head_width: 24,
        scale: 1 / Float(24).squareRoot(), causal: true, first_query: row, output: clip_output(),
        key_sizes: nil, quantizes_probabilities: false)
      arguments.output.f32 = alone.pointer
      arguments.output.f32_stride = 24
      set.kernels.f32_attention(&arguments, scratch.pointer)
      #expect(alone.bits == Array(bits[row * whole.stride..<row * whole.stride + 24]))
    }
  }

  @Test func hugeScratchSaturates() {
    #expect(clip_f32_attention_scratch_count(.max, 64) == .max)
    #expect(clip_f32_attention_scratch_count(1 << 62, 1 << 30) == .max)
  }
}
