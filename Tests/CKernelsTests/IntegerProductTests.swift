import CKernels
import Testing

/// One product of uint8 rows and int8 panels with everything that can follow it.
private struct IntegerProduct {
  let rows: Int, outputs: Int, inputs: Int
  let zeroPoint: Int32
  let activation: clip_activation
  let quantization = clip_quantization(
    inverse_scale: 37.25, zero_point: 128, lowest: 1, highest: 255)
  let codes: [Int8]
  let activations: Memory<UInt8>
  let weights: Memory<Int8>
  let scale: Memory<Float>
  let correction: Memory<Int32>
  let bias: Memory<Float>?
  let residual: Memory<Float>?

  var stride: Int { (inputs + 3) / 4 * 4 + 8 }
  // One column more than the product has, to see that it is left alone.
  var floatStride: Int { outputs + 1 }
  var codeStride: Int { outputs + 3 }

  init(
    rows: Int, outputs: Int, inputs: Int, activation: clip_activation, hasBias: Bool,
    hasResidual: Bool, seed: UInt64
  ) {
    var random = Random(state: seed)
    self.rows = rows
    self.outputs = outputs
    self.inputs = inputs
    self.activation = activation
    zeroPoint = Int32(random.next() % 256)
    codes = random.codes(outputs * inputs)
    activations = Memory(random.bytes(rows * ((inputs + 3) / 4 * 4 + 8)))
    weights = Memory(packed(codes, outputs: outputs, inputs: inputs))
    scale = Memory(random.floats(outputs, in: 0.00001...0.0005))
    var sums: [Int32] = []
    for n in 0..<outputs {
      let row = codes[n * inputs..<(n + 1) * inputs]
      sums.append(zeroPoint * row.reduce(0) { $0 + Int32($1) })
    }
    correction = Memory(sums)
    bias = hasBias ? Memory(random.floats(outputs)) : nil
    residual = hasResidual ? Memory(random.floats(rows * outputs)) : nil
  }

  /// Runs the pieces one after another.
  func run(_ set: KernelSet, pieces: [(rows: clip_range, panels: clip_range)])
    -> (floats: Memory<Float>, codes: Memory<UInt8>)
  {
    let floats = Memory<Float>(repeating: -777, count: rows * floatStride)
    let bytes = Memory<UInt8>(repeating: 0x55, count: rows * codeStride)
    var arguments = clip_qu8_qs8w_gemm_arguments(
      activations: activations.pointer, activations_stride: stride, weights: weights.pointer,
      output_count: outputs, input_count: inputs, scale: scale.pointer,
      correction: correction.pointer, row_scale: nil, row_scale_stride: 0, epilogue: clip_epilogue()
    )
    arguments.epilogue.bias = bias.map { UnsafePointer($0.pointer) }
    arguments.epilogue.activation = activation
    arguments.epilogue.residual = residual.map { UnsafePointer($0.pointer) }
    arguments.epilogue.residual_stride = outputs
    arguments.epilogue.output = clip_output(
      f32: floats.pointer, f32_stride: floatStride, qu8: bytes.pointer, qu8_stride: codeStride,
      quantization: quantization)
    for piece in pieces { set.kernels.qu8_qs8w_gemm(&arguments, piece.rows, piece.panels) }
    return (floats, bytes)
  }

  var whole: [(rows: clip_range, panels: clip_range)] { [(all(rows), all((outputs + 15) / 16))] }

  /// The sum before the activation function, in the two roundings that the header promises.
  func linear(_ m: Int, _ n: Int) -> Float {
    var sum: Int32 = 0
    for k in 0..<inputs {
      sum += (Int32(activations[m * stride + k]) - zeroPoint) * Int32(codes[n * inputs + k])
    }
    let y = Float(sum) * scale[n]
    return bias.map { y + $0[n] } ?? y
  }

  /// What is wrong with a result, if anything.
  func firstError(_ floats: Memory<Float>, _ bytes: Memory<UInt8>) -> String? {
    for m in 0..<rows {
      for n in 0..<outputs {
        let y = floats[m * floatStride + n]
        let wanted =
          activated(Double(linear(m, n)), activation) + Double(residual?[m * outputs + n] ?? 0)
        if abs(Double(y) - wanted) > 3e-7 * max(1, abs(wanted)) {
          return "row \(m), column \(n): \(y) instead of \(wanted)"
        }
        if bytes[m * codeStride + n] != code(y, quantization) { return "code of \(y)" }
      }
      if floats[m * floatStride + outputs] != -777 { return "wrote past row \(m)" }
      for n in outputs..<codeStride where bytes[m * codeStride + n] != 0x55 {
        return "wrote past row \(m)"
      }
    }
    return nil
  }
}

@Suite struct IntegerProductTests {
  /// Every pair of extents with every third one; the rest of the case follows from its number.
  @Test(arguments: extents) func isExactAndTheSameInAllSets(rows: Int) {
    var number = rows
    for outputs in extents {
      for inputs in extents {
        number += 1
        let product = IntegerProduct(
          rows: rows, outputs: outputs, inputs: inputs, activation: activations[number % 3],
          hasBias: number % 2 == 0, hasResidual: number % 5 < 3, seed: UInt64(number))
        let reference = product.run(.portable, pieces: product.whole)
        let error = product.firstError(reference.floats, reference.codes)
        #expect(error == nil, "\(rows) x \(outputs) x \(inputs)")
        for set in KernelSet.supported.dropFirst() {
          let result = product.run(set, pieces: product.whole)
          let name = set.testDescription
          #expect(
            result.floats.bits == reference.floats.bits, "\(name) \(rows)x\(outputs)x\(inputs)")
          #expect(
            result.codes.elements == reference.codes.elements,
            "\(name) \(rows)x\(outputs)x\(inputs)")
        }
      }
    }
  }

  @Test(arguments: KernelSet.supported) func anySplitGivesTheSameBits(set: KernelSet) {
    let product = IntegerProduct(
      rows: 29, outputs: 150, inputs: 70, activation: CLIP_ACTIVATION_GELU, hasBias: true,
      hasResidual: true, seed: 7)
    let whole = product.run(set, pieces: product.whole)
    for parts in 2...7 {
      var pieces: [(rows: clip_range, panels: clip_range)] = []
      for i in 0..<parts {
        for j in 0..<parts {
          pieces.append((clip_range_part(29, parts, i), clip_range_part(10, parts, j)))
        }
      }
      let split = product.run(set, pieces: pieces)
      #expect(split.floats.bits == whole.floats.bits)
      #expect(split.codes.elements == whole.codes.elements)
    }
  }

  /// The sum of the largest magnitude at the greatest depth allowed.
  @Test(arguments: KernelSet.supported) func deepestSumDoesNotOverflow(set: KernelSet) {
    let depth = 65536
    let activations = Memory<UInt8>(repeating: 255, count: depth)
    let codes = [Int8](repeating: -127, count: depth) + [Int8](repeating: 127, count: depth)
    let weights = Memory(packed(codes, outputs: 2, inputs: depth))
    let scale = Memory<Float>([1, 1])
    let output = Memory<Float>(repeating: 0, count: 2)
    var arguments = clip_qu8_qs8w_gemm_arguments(
      activations: activations.pointer, activations_stride: depth, weights: weights.pointer,
      output_count: 2, input_count: depth, scale: scale.pointer, correction: nil, row_scale: nil,
      row_scale_stride: 0,
      epilogue: clip_epilogue())
    arguments.epilogue.output.f32 = output.pointer
    arguments.epilogue.output.f32_stride = 2
    set.kernels.qu8_qs8w_gemm(&arguments, all(1), all(1))
    let sum = Float(255 * 127 * depth)
    #expect(output.elements == [-sum, sum])
  }

  /// The residual stream is updated in place.
  @Test(arguments: KernelSet.supported) func residualMayBeTheOutput(set: KernelSet) {
    let product = IntegerProduct(
      rows: 7, outputs: 40, inputs: 20, activation: CLIP_ACTIVATION_NONE, hasBias: true,
      hasResidual: false, seed: 3)
    let plain = product.run(set, pieces: product.whole).floats
    var random = Random(state: 5)
    let start = random.floats(7 * 40)
    let stream = Memory(start)
    var arguments = clip_qu8_qs8w_gemm_arguments(
      activations: product.activations.pointer, activations_stride: product.stride,
      weights: product.weights.pointer, output_count: 40, input_count: 20,
      scale: product.scale.pointer, correction: product.correction.pointer, row_scale: nil,
      row_scale_stride: 0,
      epilogue: clip_epilogue())
    arguments.epilogue.bias = product.bias.map { UnsafePointer($0.pointer) }
    arguments.epilogue.residual = UnsafePointer(stream.pointer)
    arguments.epilogue.residual_stride = 40
    arguments.epilogue.output.f32 = stream.pointer
    arguments.epilogue.output.f32_stride = 40
    set.kernels.qu8_qs8w_gemm(&arguments, all(7), all(3))
    for i in 0..<7 * 40 { #expect(stream[i] == start[i] + plain[i / 40 * 41 + i % 40]) }
  }
}
