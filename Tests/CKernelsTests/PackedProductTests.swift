import CKernels
import Testing

/// 64 codes as one block of `bits` bits each, by the definition in the header.
private func block(_ codes: ArraySlice<Int8>, bits: Int) -> [UInt8] {
  let values = codes.map { Int(UInt8(bitPattern: $0)) & ((1 << bits) - 1) }
  var (bytes, shift): ([UInt8], Int) = ([], 0)
  for width in [4, 2, 1] where bits & width != 0 {
    let count = 8 * width
    for index in 0..<count {
      bytes.append(
        (0..<(8 / width)).reduce(0) { byte, place in
          byte | UInt8(values[index + place * count] >> shift & ((1 << width) - 1))
            << UInt8(place * width)
        })
    }
    shift += width
  }
  return bytes
}

/// Codes of any width in blocks; of 8 bits, as they are.
private func blocks(_ codes: [Int8], bits: Int) -> [UInt8] {
  guard bits < 8 else { return codes.map { UInt8(bitPattern: $0) } }
  return stride(from: 0, to: codes.count, by: 64).flatMap {
    block(codes[$0..<($0 + 64)], bits: bits)
  }
}

/// Numbers as they are stored; those given have to be such numbers.
private func stored(_ floats: [Float], _ type: clip_float_type) -> [UInt8] {
  floats.flatMap { value -> [UInt8] in
    switch type {
    case CLIP_FLOAT16: withUnsafeBytes(of: Float16(value)) { Array($0) }
    case CLIP_BFLOAT16: Array(withUnsafeBytes(of: value) { Array($0) }[2...])
    default: withUnsafeBytes(of: value) { Array($0) }
    }
  }
}

private let types = [CLIP_FLOAT32, CLIP_FLOAT16, CLIP_BFLOAT16]

/// A product with packed codes; groups have scales that every type holds exactly.
private struct PackedProduct {
  let rows: Int, outputs: Int, inputs: Int, bits: Int, groupSize: Int
  let codes: [Int8]
  let scales: [Float]
  let scaleType: clip_float_type
  let zeroPoint: Int32 = 77
  let inputScale: Float = 0.031
  let activations: Memory<UInt8>
  let floats: Memory<Float>
  let panels: Memory<UInt8>
  let scaleBytes: Memory<UInt8>
  let correction: Memory<Int32>
  let bias: Memory<Float>
  let rowScale: Memory<Float>?

  var stride: Int { (inputs + 3) / 4 * 4 + 4 }
  var groups: Int { groupSize == 0 ? 1 : (inputs + groupSize - 1) / groupSize }

  init(
    _ rows: Int, _ outputs: Int, _ inputs: Int, bits: Int, groupSize: Int, seed: UInt64
  ) {
    var random = Random(state: seed)
    self.rows = rows
    self.outputs = outputs
    self.inputs = inputs
    self.bits = bits
    self.groupSize = groupSize
    let half = 1 << (bits - 1)
    codes = (0..<(outputs * inputs)).map { _ in
      Int8(max(Int(random.next() % UInt64(2 * half)) - half, bits == 8 ? -127 : -128))
    }
    activations = Memory(random.bytes(rows * ((inputs + 3) / 4 * 4 + 4)))
    floats = Memory(random.floats(rows * ((inputs + 3) / 4 * 4 + 4)))
    panels = Memory(blocks(packed(codes, outputs: outputs, inputs: inputs), bits: bits))
    let groups = groupSize == 0 ? 1 : (inputs + groupSize - 1) / groupSize
    scaleType = groupSize == 0 ? CLIP_FLOAT32 : types[Int(seed % 3)]
    scales = (0..<(outputs * groups)).map { _ in
      Float(Int(random.next() % 255) - 127) / 4096
    }
    scaleBytes = Memory(
      stored(
        groupSize == 0 ? scales : packed(scales, outputs: outputs, inputs: groups), scaleType))
    bias = Memory(random.floats(outputs))
    rowScale = seed % 2 == 0 ? Memory(random.floats(3 * rows)) : nil
    let (codes, zeroPoint) = (codes, zeroPoint)
    correction = Memory(
      (0..<outputs).map { n in
        codes[(n * inputs)..<((n + 1) * inputs)].reduce(0) { $0 + Int32($1) } * zeroPoint
      })
  }

  private var weights: clip_packed_weights {
    clip_packed_weights(
      panels: panels.pointer, bits: bits, type: CLIP_FLOAT32, group_size: groupSize,
      scales: scaleBytes.pointer, scale_type: scaleType)
  }

  private func epilogue(_ output: Memory<Float>) -> clip_epilogue {
    var epilogue = clip_epilogue()
    epilogue.bias = UnsafePointer(bias.pointer)
    epilogue.output.f32 = output.pointer
    epilogue.output.f32_stride = outputs + 1
    return epilogue
  }

  private func scratch(isFloat: Bool) -> Memory<UInt8> {
    let count = Int(clip_pw_scratch_byte_count(inputs, groupSize, isFloat))
    let scratch = Memory<UInt8>(repeating: 0xFF, count: count + 1)
    scratch[count] = 0x5A
    return scratch
  }

  func integers(_ set: KernelSet, parts: Int = 1) -> Memory<Float> {
    let output = Memory<Float>(repeating: -777, count: rows * (outputs + 1))
    let scratch = scratch(isFloat: false)
    var arguments = clip_qu8_pw_gemm_arguments(
      activations: activations.pointer, activations_stride: stride, weights: weights,
      output_count: outputs, input_count: inputs,
      correction: groupSize == 0 ? correction.pointer : nil, zero_point: zeroPoint,
      scale: groupSize == 0 ? 1 : inputScale, row_scale: rowScale.map { UnsafePointer($0.pointer) },
      row_scale_stride: 3,
      epilogue: epilogue(output))
    for part in 0..<parts {
      for other in 0..<parts {
        set.kernels.qu8_pw_gemm(
          &arguments, clip_range_part(rows, parts, other),
          clip_range_part((outputs + 15) / 16, parts, part), scratch.pointer)
      }
    }
    #expect(scratch[scratch.count - 1] == 0x5A)
    return output
  }

  func floats(_ set: KernelSet) -> Memory<Float> {
    let output = Memory<Float>(repeating: -777, count: rows * (outputs + 1))
    let scratch = scratch(isFloat: true)
    var arguments = clip_f32_pw_gemm_arguments(
      activations: floats.pointer, activations_stride: stride, weights: weights,
      output_count: outputs, input_count: inputs, epilogue: epilogue(output))
    set.kernels.f32_pw_gemm(&arguments, all(rows), all((outputs + 15) / 16), scratch.pointer)
    #expect(scratch[scratch.count - 1] == 0x5A)
    return output
  }

  /// The result in the roundings that the header promises.
  func integer(_ m: Int, _ n: Int) -> Float {
    var total: Float = 0
    for group in 0..<groups {
      var sum: Int32 = 0
      let first = group * groupSize
      let end = groupSize == 0 ? inputs : min(inputs, first + groupSize)
      for k in first..<end {
        sum += (Int32(activations[m * stride + k]) - zeroPoint) * Int32(codes[n * inputs + k])
      }
      total += Float(sum) * scales[n * groups + group]
    }
    if groupSize != 0 { total *= inputScale }
    return total * (rowScale?[3 * m] ?? 1) + bias[n]
  }

  /// The exact result with float activations, and the sum of the magnitudes.
  func exact(_ m: Int, _ n: Int) -> (sum: Double, magnitude: Double) {
    var (sum, magnitude) = (Double(bias[n]), abs(Double(bias[n])))
    for k in 0..<inputs {
      let scale = scales[n * groups + (groupSize == 0 ? 0 : k / groupSize)]
      let term = Double(floats[m * stride + k]) * Double(Float(codes[n * inputs + k]) * scale)
      sum += term
      magnitude += abs(term)
    }
    return (sum, magnitude)
  }
}

@Suite struct PackedProductTests {
  /// Rows, channels, columns, and columns of a group.
  static let shapes = [
    (1, 1, 1, 0), (1, 16, 64, 64), (3, 17, 5, 4), (5, 33, 70, 32), (7, 64, 100, 0), (13, 70, 65, 8),
    (29, 130, 132, 64), (6, 16, 256, 128), (12, 48, 96, 96), (2, 5, 31, 16),
  ]

  @Test(arguments: 2...8) func integersAreExactAndTheSameInAllSets(bits: Int) {
    for (index, (rows, outputs, inputs, groupSize)) in Self.shapes.enumerated() {
      let product = PackedProduct(
        rows, outputs, inputs, bits: bits, groupSize: groupSize, seed: UInt64(index + bits))
      let reference = product.integers(.portable)
      for m in 0..<rows {
        for n in 0..<outputs {
          #expect(reference[m * (outputs + 1) + n] == product.integer(m, n), "shape \(index)")
        }
        #expect(reference[m * (outputs + 1) + outputs] == -777)
      }
      for set in KernelSet.supported {
        #expect(product.integers(set).bits == reference.bits, "\(set) shape \(index)")
        #expect(product.integers(set, parts: 3).bits == reference.bits, "\(set) shape \(index)")
      }
    }
  }

  @Test(arguments: 2...8, KernelSet.supported)
  func floatsAgreeWithDoublePrecision(bits: Int, set: KernelSet) {
    for (index, (rows, outputs, inputs, groupSize)) in Self.shapes.enumerated() {
      let product = PackedProduct(
        rows, outputs, inputs, bits: bits, groupSize: groupSize, seed: UInt64(index + bits))
      let output = product.floats(set)
      for m in 0..<rows {
        for n in 0..<outputs {
          let (sum, magnitude) = product.exact(m, n)
          let error = abs(Double(output[m * (outputs + 1) + n]) - sum)
          #expect(error <= 1e-6 * magnitude, "shape \(index)")
        }
      }
    }
  }

  /// The sum of the largest magnitude at the greatest depth allowed, in the largest group.
  @Test(arguments: KernelSet.supported) func deepestGroupsDoNotOverflow(set: KernelSet) {
    let depth = 65536
    let activations = Memory<UInt8>(repeating: 255, count: depth)
    let codes = [Int8](repeating: -64, count: depth) + [Int8](repeating: 63, count: depth)
    let panels = Memory(blocks(packed(codes, outputs: 2, inputs: depth), bits: 7))
    let scales = Memory<Float>(repeating: 1, count: 32)
    let scratch = Memory<UInt8>(
      repeating: 0, count: Int(clip_pw_scratch_byte_count(depth, 65_532, false)))
    let output = Memory<Float>(repeating: 0, count: 2)
    var arguments = clip_qu8_pw_gemm_arguments(
      activations: activations.pointer, activations_stride: depth,
      weights: clip_packed_weights(
        panels: panels.pointer, bits: 7, type: CLIP_FLOAT32, group_size: 65_532,
        scales: scales.pointer, scale_type: CLIP_FLOAT32),
      output_count: 2, input_count: depth, correction: nil, zero_point: 0, scale: 1,
      row_scale: nil, row_scale_stride: 0, epilogue: clip_epilogue())
    arguments.epilogue.output.f32 = output.pointer
    arguments.epilogue.output.f32_stride = 2
    set.kernels.qu8_pw_gemm(&arguments, all(1), all(1), scratch.pointer)
    for (index, code) in [Int32(-64), 63].enumerated() {
      let (first, last) = (255 * code * 65_532, 255 * code * 4)
      #expect(output[index] == Float(first) + Float(last))
    }
  }

  /// Float weights that are stored short are multiplied as the same weights in full.
  @Test(arguments: KernelSet.supported) func shortFloatsAreMultipliedExactly(set: KernelSet) {
    for type in types {
      for (rows, outputs, inputs) in [(1, 1, 1), (5, 33, 17), (14, 70, 64)] {
        var random = Random(state: UInt64(rows))
        let weights = (0..<(outputs * inputs)).map { _ in
          Float(Int(random.next() % 255) - 127) / 256
        }
        let full = Memory(packed(weights, outputs: outputs, inputs: inputs))
        let short = Memory(stored(full.elements, type))
        let activations = Memory(random.floats(rows * inputs))
        let scratch = Memory<UInt8>(
          repeating: 0xFF, count: Int(clip_pw_scratch_byte_count(inputs, 0, true)))
        let results = [true, false].map { isShort in
          let output = Memory<Float>(repeating: -777, count: rows * outputs)
          var epilogue = clip_epilogue()
          epilogue.output.f32 = output.pointer
          epilogue.output.f32_stride = outputs
          if isShort {
            var arguments = clip_f32_pw_gemm_arguments(
              activations: activations.pointer, activations_stride: inputs,
              weights: clip_packed_weights(
                panels: short.pointer, bits: 0, type: type, group_size: 0, scales: nil,
                scale_type: CLIP_FLOAT32),
              output_count: outputs, input_count: inputs, epilogue: epilogue)
            set.kernels.f32_pw_gemm(
              &arguments, all(rows), all((outputs + 15) / 16), scratch.pointer)
          } else {
            var arguments = clip_f32_f32w_gemm_arguments(
              activations: activations.pointer, activations_stride: inputs, weights: full.pointer,
              output_count: outputs, input_count: inputs, epilogue: epilogue)
            set.kernels.f32_f32w_gemm(&arguments, all(rows), all((outputs + 15) / 16))
          }
          return output.bits
        }
        #expect(results[0] == results[1])
      }
    }
  }

  /// Every finite number of both short types, in both signs.
  @Test(arguments: KernelSet.supported) func everyShortFloatIsWidenedExactly(set: KernelSet) {
    let halves = (0...UInt16.max).filter { $0 >> 10 & 31 != 31 }
    let brains = (0...UInt16.max).filter { $0 >> 7 & 255 != 255 }
    for (type, words) in [(CLIP_FLOAT16, halves), (CLIP_BFLOAT16, brains)] {
      let input = Memory(words)
      let output = Memory<Float>(repeating: .nan, count: words.count)
      set.kernels.f32_widen(input.pointer, type, words.count - 1, output.pointer)
      let expected = words.map {
        type == CLIP_FLOAT16
          ? Float(Float16(bitPattern: $0)) : Float(bitPattern: UInt32($0) << 16)
      }
      #expect(output.bits.dropLast() == expected.map(\.bitPattern).dropLast())
      #expect(output[words.count - 1].isNaN)
    }
  }

  /// Codes by a scale of their own: the definition, in all sets.
  @Test(arguments: 2...8, KernelSet.supported) func rowsAreQuantizedByTheirPeak(
    bits: Int, set: KernelSet
  ) {
    let zero = UInt8(1 << (bits - 1))
    let codes = clip_quantization(
      inverse_scale: .nan, zero_point: zero, lowest: 1, highest: zero - 1 + zero)
    for count in extents where count > 0 {
      var random = Random(state: UInt64(count))
      for values in [
        random.floats(count), random.floats(count, in: -3e-20...1e-20),
        [Float](repeating: 0, count: count), [Float](repeating: -7, count: count),
      ] {
        let input = Memory(values)
        let output = Memory<UInt8>(repeating: 0x55, count: count + 1)
        let scale = set.kernels.f32_quantize_row(input.pointer, count, codes, output.pointer)
        let peak = values.map { abs($0) }.max() ?? 0
        let expected = peak == 0 ? 1 : peak / Float(zero - 1)
        #expect(scale == expected)
        for index in 0..<count {
          let code = (values[index] / expected).rounded(.toNearestOrEven) + Float(zero)
          #expect(Float(output[index]) == code)
        }
        #expect(output[count] == 0x55)
      }
    }
  }

  @Test(arguments: 2...8, KernelSet.supported)
  func rowsOfCodesAreDecoded(bits: Int, set: KernelSet) {
    for (count, groupSize) in [(1, 0), (64, 0), (100, 4), (130, 32), (512, 64), (70, 64), (96, 96)]
    {
      var random = Random(state: UInt64(count))
      let half = 1 << (bits - 1)
      let codes = (0..<count).map { _ in
        Int8(max(Int(random.next() % UInt64(2 * half)) - half, bits == 8 ? -127 : -128))
      }
      let groups = groupSize == 0 ? 1 : (count + groupSize - 1) / groupSize
      let scales = (0..<groups).map { _ in Float(Int(random.next() % 255) - 127) / 1024 }
      let padding = bits == 8 ? 0 : (count + 63) / 64 * 64 - count
      let bytes = Memory(blocks(codes + [Int8](repeating: 0, count: padding), bits: bits))
      for type in types {
        let scaleBytes = Memory(stored(scales, type))
        let output = Memory<Float>(repeating: -777, count: count + 1)
        var row = clip_packed_row(
          codes: bytes.pointer, bits: bits, count: count, group_size: groupSize,
          scales: scaleBytes.pointer, scale_type: type)
        set.kernels.qp_dequantize(&row, output.pointer)
        for index in 0..<count {
          let scale = scales[groupSize == 0 ? 0 : index / groupSize]
          #expect(output[index] == Float(codes[index]) * scale)
        }
        #expect(output[count] == -777)
      }
    }
  }
}
