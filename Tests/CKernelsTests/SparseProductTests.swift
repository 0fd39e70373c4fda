import CKernels
import Testing

@Suite struct SparseProductTests {
  @Test(arguments: KernelSet.supported) func agreesWithDoublePrecision(set: KernelSet) {
    for (rows, inputs, outputs) in [
      (1, 1, 1), (3, 17, 5), (16, 64, 16), (50, 33, 31), (64, 7, 48), (65, 20, 17), (197, 40, 9),
    ] {
      check(set, rows: rows, inputs: inputs, outputs: outputs)
    }
  }

  private func check(_ set: KernelSet, rows: Int, inputs: Int, outputs: Int) {
    var random = Random(state: UInt64(rows * inputs + outputs))
    let stride = inputs + 3
    let input = Memory(random.floats(rows * stride))
    var (starts, indices, values): ([UInt32], [UInt16], [Float]) = ([0], [], [])
    for _ in 0..<outputs {
      for k in 0..<inputs where random.next() % 10 < 3 {
        indices.append(UInt16(k))
        values.append(random.float(in: -1...1))
      }
      starts.append(UInt32(values.count))
    }
    let bias = Memory(random.floats(outputs))
    let residual = Memory(random.floats(rows * outputs))
    let output = Memory<Float>(repeating: -777, count: rows * (outputs + 1))
    let count = clip_f32_transposed_count(rows, inputs)
    let transposed = Memory<Float>(repeating: .nan, count: count + 1)
    transposed[count] = -777
    var transpose = clip_f32_transpose_arguments(
      input: input.pointer, input_stride: stride, row_count: rows, column_count: inputs,
      output: transposed.pointer)
    let middle = inputs / 2
    set.kernels.f32_transpose(&transpose, clip_range(begin: 0, end: middle))
    set.kernels.f32_transpose(&transpose, clip_range(begin: middle, end: inputs))
    #expect(transposed[count] == -777)
    let (startMemory, indexMemory, valueMemory) = (Memory(starts), Memory(indices), Memory(values))
    var arguments = clip_f32_f32s_gemm_arguments(
      activations: transposed.pointer, row_count: rows, starts: startMemory.pointer,
      indices: indexMemory.pointer, values: valueMemory.pointer, output_count: outputs,
      input_count: inputs,
      epilogue: clip_epilogue(
        bias: bias.pointer, activation: CLIP_ACTIVATION_GELU, residual: residual.pointer,
        residual_stride: outputs, output: clip_output()))
    arguments.epilogue.output.f32 = output.pointer
    arguments.epilogue.output.f32_stride = outputs + 1
    let panels = (outputs + 15) / 16
    set.kernels.f32_f32s_gemm(&arguments, clip_range(begin: 0, end: panels / 2))
    set.kernels.f32_f32s_gemm(&arguments, clip_range(begin: panels / 2, end: panels + 1))
    for row in 0..<rows {
      for n in 0..<outputs {
        var sum = Double(bias[n])
        for place in Int(starts[n])..<Int(starts[n + 1]) {
          sum += Double(values[place]) * Double(input[row * stride + Int(indices[place])])
        }
        let wanted = activated(sum, CLIP_ACTIVATION_GELU) + Double(residual[row * outputs + n])
        let found = Double(output[row * (outputs + 1) + n])
        #expect(abs(found - wanted) < 1e-5, "\(rows) rows, row \(row), channel \(n)")
      }
      #expect(output[row * (outputs + 1) + outputs] == -777)
    }
  }

  @Test func hugeCountsSaturate() {
    #expect(clip_f32_transposed_count(.max, 2) == .max)
    #expect(clip_f32_transposed_count(1 << 62, 1 << 30) == .max)
  }
}
