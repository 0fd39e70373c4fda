import CKernels
import Testing

@Suite struct RowTests {
  @Test(arguments: KernelSet.supported) func layerNormAgreesWithDoublePrecision(set: KernelSet) {
    var random = Random(state: 1)
    for width in extents.filter({ $0 > 1 }) + [768] {
      let rows = 3
      let input = Memory(random.floats(rows * width, in: 3...7))
      let gamma = Memory(random.floats(width)), beta = Memory(random.floats(width))
      let floats = Memory<Float>(repeating: -777, count: rows * (width + 1))
      let bytes = Memory<UInt8>(repeating: 0x55, count: rows * (width + 1))
      let quantization = clip_quantization(
        inverse_scale: 40, zero_point: 100, lowest: 0, highest: 255)
      var arguments = clip_f32_layer_norm_arguments(
        input: input.pointer, input_stride: width, width: width, gamma: gamma.pointer,
        beta: beta.pointer, epsilon: 1e-5,
        output: clip_output(
          f32: floats.pointer, f32_stride: width + 1, qu8: bytes.pointer, qu8_stride: width + 1,
          quantization: quantization))
      set.kernels.f32_layer_norm(&arguments, all(rows))
      for row in 0..<rows {
        let x = (0..<width).map { Double(input[row * width + $0]) }
        let mean = x.reduce(0, +) / Double(width)
        let variance = x.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(width)
        for i in 0..<width {
          let y = floats[row * (width + 1) + i]
          let wanted =
            (x[i] - mean) / (variance + 1e-5).squareRoot() * Double(gamma[i]) + Double(beta[i])
          #expect(abs(Double(y) - wanted) < 4e-6, "width \(width)")
          #expect(bytes[row * (width + 1) + i] == code(y, quantization))
        }
        #expect(floats[row * (width + 1) + width] == -777)
        #expect(bytes[row * (width + 1) + width] == 0x55)
      }
    }
  }

  @Test(arguments: KernelSet.supported) func layerNormWorksInPlace(set: KernelSet) {
    var random = Random(state: 2)
    let width = 50
    let input = Memory(random.floats(2 * width)), stream = Memory(input.elements)
    let gamma = Memory(random.floats(width)), beta = Memory(random.floats(width))
    let apart = Memory<Float>(repeating: 0, count: 2 * width)
    for (from, to) in [(input, apart), (stream, stream)] {
      var arguments = clip_f32_layer_norm_arguments(
        input: from.pointer, input_stride: width, width: width, gamma: gamma.pointer,
        beta: beta.pointer, epsilon: 1e-6, output: clip_output())
      arguments.output.f32 = to.pointer
      arguments.output.f32_stride = width
      set.kernels.f32_layer_norm(&arguments, all(2))
    }
    #expect(apart.bits == stream.bits)
  }

  @Test(arguments: KernelSet.supported) func quantizationFollowsTheDefinition(set: KernelSet) {
    let quantizations = [
      clip_quantization(inverse_scale: 2, zero_point: 128, lowest: 1, highest: 255),
      clip_quantization(inverse_scale: 31.75, zero_point: 0, lowest: 0, highest: 255),
      clip_quantization(inverse_scale: 100, zero_point: 7, lowest: 0, highest: 255),
    ]
    var random = Random(state: 3)
    // Quarters, so that many products are exactly half way between two codes.
    let values = (-130...130).map { Float($0) / 4 } + random.floats(100, in: -3...3)
    for quantization in quantizations {
      for count in extents + [values.count] {
        let input = Memory(Array(values.prefix(count)))
        let output = Memory<UInt8>(repeating: 0x55, count: count + 1)
        set.kernels.f32_quantize(input.pointer, count, quantization, output.pointer)
        let wanted = values.prefix(count).map { code($0, quantization) }
        #expect(output.elements == wanted + [0x55])
      }
    }
  }

  @Test(arguments: KernelSet.supported) func quantizationTakesAnyFloat(set: KernelSet) {
    let input = Memory<Float>([
      .nan, .infinity, -.infinity, .greatestFiniteMagnitude, -.greatestFiniteMagnitude, -0.0,
      .leastNonzeroMagnitude,
    ])
    let output = Memory<UInt8>(repeating: 0, count: input.count)
    let quantization = clip_quantization(
      inverse_scale: 10, zero_point: 128, lowest: 1, highest: 255)
    set.kernels.f32_quantize(input.pointer, input.count, quantization, output.pointer)
    #expect(output.elements == [1, 255, 1, 255, 1, 128, 128])
  }

  @Test(arguments: KernelSet.supported) func sumsAndDequantizationAreExact(set: KernelSet) {
    var random = Random(state: 4)
    for count in extents + [257] {
      let left = Memory(random.floats(count)), right = Memory(random.floats(count))
      let codes = Memory(random.codes(count).map { $0 == 5 ? -128 : $0 })
      let output = Memory<Float>(repeating: -777, count: count + 1)
      set.kernels.f32_add(left.pointer, right.pointer, count, output.pointer)
      #expect(output.elements == zip(left.elements, right.elements).map { $0 + $1 } + [-777])
      set.kernels.qs8_dequantize(codes.pointer, count, 0.37, output.pointer)
      #expect(output.elements == codes.elements.map { Float($0) * 0.37 } + [-777])
    }
  }

  @Test(arguments: KernelSet.supported) func normalizedVectorsHaveLengthOne(set: KernelSet) {
    var random = Random(state: 5)
    for factor: Float in [1, 1e-18, 1e18] {
      let input = Memory(random.floats(97).map { $0 * factor })
      let output = Memory<Float>(repeating: 0, count: 97)
      set.kernels.f32_l2_normalize(input.pointer, 97, output.pointer)
      let squares = input.elements.reduce(0) { $0 + Double($1) * Double($1) }
      for i in 0..<97 {
        #expect(abs(Double(output[i]) - Double(input[i]) / squares.squareRoot()) < 1e-7)
      }
    }
    let zeros = Memory<Float>(repeating: 0, count: 20)
    set.kernels.f32_l2_normalize(zeros.pointer, 20, zeros.pointer)
    #expect(zeros.elements.allSatisfy { $0 == 0 })
  }

  @Test(arguments: KernelSet.supported) func patchesAreInOrderOfChannelRowColumn(set: KernelSet) {
    for (side, height, width) in [(1, 2, 3), (3, 7, 10), (14, 28, 29), (16, 32, 48), (32, 64, 32)] {
      let pixels = Memory((0..<3 * height * width).map { Float($0 % 509) })
      let columns = width / side, count = height / side * columns, size = 3 * side * side
      let floats = Memory<Float>(repeating: -777, count: count * (size + 1))
      let bytes = Memory<UInt8>(repeating: 0x55, count: count * (size + 1))
      let quantization = clip_quantization(
        inverse_scale: 0.5, zero_point: 1, lowest: 0, highest: 255)
      var arguments = clip_f32_unfold_arguments(
        pixels: pixels.pointer, channels: 3, height: height, width: width, patch: side,
        output: clip_output(
          f32: floats.pointer, f32_stride: size + 1, qu8: bytes.pointer, qu8_stride: size + 1,
          quantization: quantization))
      set.kernels.f32_unfold(&arguments, clip_range(begin: 0, end: count / 2))
      set.kernels.f32_unfold(&arguments, clip_range(begin: count / 2, end: count))
      for patch in 0..<count {
        for i in 0..<size {
          let channel = i / (side * side), y = patch / columns * side + i / side % side
          let x = patch % columns * side + i % side
          let wanted = pixels[(channel * height + y) * width + x]
          #expect(floats[patch * (size + 1) + i] == wanted)
          #expect(bytes[patch * (size + 1) + i] == code(wanted, quantization))
        }
        #expect(bytes[patch * (size + 1) + size] == 0x55)
      }
    }
  }
}
