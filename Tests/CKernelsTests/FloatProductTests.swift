import CKernels
import Testing

/// What the weights of a product with float rows are.
enum FloatWeights: CaseIterable {
  case floats
  /// With a scale a channel.
  case codes
  /// With rows that are rounded to them.
  case bfloat16
}

/// One product of float rows with weights.
private struct FloatProduct {
  let rows: Int, outputs: Int, inputs: Int
  let activation: clip_activation
  let activations: Memory<Float>
  let weights: [Float]
  let floatPanels: Memory<Float>
  let codePanels: Memory<Int8>
  let pairPanels: Memory<UInt16>
  let scratch: Memory<UInt8>
  let scale: Memory<Float>
  let bias: Memory<Float>
  let kind: FloatWeights

  init(
    rows: Int, outputs: Int, inputs: Int, activation: clip_activation, kind: FloatWeights,
    seed: UInt64
  ) {
    var random = Random(state: seed)
    self.rows = rows
    self.outputs = outputs
    self.inputs = inputs
    self.activation = activation
    self.kind = kind
    activations = Memory(random.floats(rows * inputs))
    bias = Memory(random.floats(outputs))
    let codes = random.codes(outputs * inputs)
    scale = Memory(random.floats(outputs, in: 0.001...0.01))
    weights =
      switch kind {
      case .floats: random.floats(outputs * inputs)
      case .codes: codes.map { Float($0) }
      case .bfloat16: random.floats(outputs * inputs).map(roundedToBFloat16)
      }
    codePanels = Memory(packed(codes, outputs: outputs, inputs: inputs))
    floatPanels = Memory(packed(weights, outputs: outputs, inputs: inputs))
    pairPanels = Memory(packedPairs(weights, outputs: outputs, inputs: inputs))
    scratch = Memory(
      repeating: 0xFF, count: Int(clip_f32_bf16w_scratch_byte_count(rows, inputs)) + 1)
  }

  func run(_ set: KernelSet, parts: Int = 1) -> Memory<Float> {
    let output = Memory<Float>(repeating: -777, count: rows * (outputs + 1))
    var epilogue = clip_epilogue()
    epilogue.bias = UnsafePointer(bias.pointer)
    epilogue.activation = activation
    epilogue.output.f32 = output.pointer
    epilogue.output.f32_stride = outputs + 1
    for part in 0..<parts {
      let panels = clip_range_part((outputs + 15) / 16, parts, part)
      switch kind {
      case .codes:
        var arguments = clip_f32_qs8w_gemm_arguments(
          activations: activations.pointer, activations_stride: inputs,
          weights: codePanels.pointer, output_count: outputs, input_count: inputs,
          scale: scale.pointer, epilogue: epilogue)
        set.kernels.f32_qs8w_gemm(&arguments, all(rows), panels)
      case .floats:
        var arguments = clip_f32_f32w_gemm_arguments(
          activations: activations.pointer, activations_stride: inputs,
          weights: floatPanels.pointer, output_count: outputs, input_count: inputs,
          epilogue: epilogue)
        set.kernels.f32_f32w_gemm(&arguments, all(rows), panels)
      case .bfloat16:
        var arguments = clip_f32_bf16w_gemm_arguments(
          activations: activations.pointer, activations_stride: inputs,
          weights: pairPanels.pointer, output_count: outputs, input_count: inputs,
          epilogue: epilogue)
        set.kernels.f32_bf16w_gemm(&arguments, all(rows), panels, scratch.pointer)
      }
    }
    #expect(scratch[scratch.count - 1] == 0xFF, "wrote past the scratch")
    return output
  }

  /// Where a result is further from the exact one than any order of additions explains.
  func firstError(_ output: Memory<Float>) -> String? {
    for m in 0..<rows {
      for n in 0..<outputs {
        var sum = 0.0, magnitude = 0.0
        for k in 0..<inputs {
          let x = activations[m * inputs + k]
          let factor = kind == .bfloat16 ? roundedToBFloat16(x) : x
          let term = Double(factor) * Double(weights[n * inputs + k])
          sum += term
          magnitude += abs(term)
        }
        let factor = kind == .codes ? Double(scale[n]) : 1
        let wanted = activated(sum * factor + Double(bias[n]), activation)
        let bound = Double(inputs + 6) * 0x1p-24 * (magnitude * factor + 2) * 1.2
        let y = output[m * (outputs + 1) + n]
        if abs(Double(y) - wanted) > bound {
          return "row \(m), column \(n): \(y) instead of \(wanted)"
        }
      }
      if output[m * (outputs + 1) + outputs] != -777 { return "wrote past row \(m)" }
    }
    return nil
  }
}

@Suite struct FloatProductTests {
  @Test(arguments: KernelSet.supported, FloatWeights.allCases)
  func agreesWithDoublePrecision(set: KernelSet, kind: FloatWeights) {
    var number = 0
    for rows in extents where rows < 34 {
      for outputs in extents {
        for inputs in extents {
          number += 1
          // A third of the shapes in each of the tests' cases is enough.
          guard number % 3 == set.index % 3 else { continue }
          let product = FloatProduct(
            rows: rows, outputs: outputs, inputs: inputs, activation: activations[number / 3 % 3],
            kind: kind, seed: UInt64(number))
          #expect(product.firstError(product.run(set)) == nil, "\(rows) x \(outputs) x \(inputs)")
        }
      }
    }
  }

  @Test(arguments: KernelSet.supported, FloatWeights.allCases)
  func anySplitGivesTheSameBits(set: KernelSet, kind: FloatWeights) {
    let product = FloatProduct(
      rows: 23, outputs: 150, inputs: 41, activation: CLIP_ACTIVATION_QUICK_GELU,
      kind: kind, seed: 11)
    let whole = product.run(set).bits
    for parts in 2...9 { #expect(product.run(set, parts: parts).bits == whole) }
  }

  /// Rows are rounded block by block, and however many blocks there are, each row is as if alone.
  @Test(arguments: KernelSet.supported) func blocksOfRowsGiveTheSameBits(set: KernelSet) {
    let (rows, inputs) = (151, 2047)
    let whole = FloatProduct(
      rows: rows, outputs: 17, inputs: inputs, activation: CLIP_ACTIVATION_NONE, kind: .bfloat16,
      seed: 12)
    #expect(whole.scratch.count < rows * inputs * 2, "the rows are more than a block")
    #expect(whole.firstError(whole.run(set)) == nil)
    let output = whole.run(set)
    let part = Memory<Float>(repeating: 0, count: rows * 18)
    for row in 0..<rows {
      var epilogue = clip_epilogue()
      epilogue.bias = UnsafePointer(whole.bias.pointer)
      epilogue.output.f32 = part.pointer
      epilogue.output.f32_stride = 18
      var arguments = clip_f32_bf16w_gemm_arguments(
        activations: whole.activations.pointer, activations_stride: inputs,
        weights: whole.pairPanels.pointer, output_count: 17, input_count: inputs,
        epilogue: epilogue)
      set.kernels.f32_bf16w_gemm(
        &arguments, clip_range(begin: row, end: row + 1), all(2), whole.scratch.pointer)
      let range = (18 * row)..<(18 * row + 17)
      #expect(range.allSatisfy { part[$0].bitPattern == output[$0].bitPattern })
    }
  }
}
