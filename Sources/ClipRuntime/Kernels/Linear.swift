import CKernels
import ModelFormat

/// How a product is cut between threads: a grid of row parts by panel parts, one task each.
struct ProductSplit {
  /// Rows that kernels take together.
  static let rowStep = 6
  /// Panels that kernels take together.
  static let panelStep = 4

  let rows: Int
  let panels: Int
  let rowParts: Int
  let panelParts: Int

  /// Cuts by panels first, since then each thread reads its own weights only.
  ///
  /// With `isScratched` there are no more parts than threads, since each has scratch of its own.
  init(rows: Int, columns: Int, threadCount: Int, isScratched: Bool) {
    self.rows = rows
    panels = (columns + Layout.panelRowCount - 1) / Layout.panelRowCount
    panelParts = min(threadCount, (panels + ProductSplit.panelStep - 1) / ProductSplit.panelStep)
    let rowGroups = (rows + ProductSplit.rowStep - 1) / ProductSplit.rowStep
    let most = isScratched ? threadCount : threadCount + panelParts - 1
    rowParts = min(max(1, rowGroups), most / max(1, panelParts))
  }

  var taskCount: Int { rowParts * panelParts }

  func rowRange(_ task: Int) -> clip_range {
    part(task / panelParts, of: rowParts, count: rows, step: ProductSplit.rowStep)
  }

  /// The part of `run`, rows within those that were cut, that the task does.
  func rowRange(_ task: Int, of run: Range<Int>) -> clip_range {
    let rows = part(task / panelParts, of: rowParts, count: run.count, step: ProductSplit.rowStep)
    return clip_range(begin: run.lowerBound + rows.begin, end: run.lowerBound + rows.end)
  }

  func panelRange(_ task: Int) -> clip_range {
    part(task % panelParts, of: panelParts, count: panels, step: ProductSplit.panelStep)
  }

  private func part(_ index: Int, of parts: Int, count: Int, step: Int) -> clip_range {
    let groups = clip_range.part(index, of: parts, count: (count + step - 1) / step)
    return clip_range(
      begin: min(count, groups.lowerBound * step), end: min(count, groups.upperBound * step))
  }
}

/// What a product multiplies and where it goes.
struct ProductOperands {
  /// The first of the input's rows, of floats or codes.
  let input: UnsafeRawPointer
  /// Bytes from one of them to the next.
  let inputStride: Int
  /// Of codes.
  let quantization: BufferQuantization?
  /// What else each row is multiplied by.
  let rowScale: UnsafePointer<Float>?
  /// Floats from one of these to the next.
  let rowScaleStride: Int
  /// What follows the product; the bias is the weights'.
  var epilogue: clip_epilogue
}

private struct ProductJob {
  let frame: Frame
  let operands: ProductOperands
  let weights: ExpertLinear.Expert
  let split: ProductSplit
}

private struct SparseJob {
  let kernels: UnsafePointer<clip_kernel_set>
  var transpose: clip_f32_transpose_arguments
  var product: clip_f32_f32s_gemm_arguments
  let parts: Int
}

extension Frame {
  /// `output = residual + activation(input * weightᵀ + bias)`.
  func run(_ op: Linear) {
    let weight = tensors[op.weight]
    if weight.layout == .sparse { return runSparse(op, weight) }
    let split = ProductSplit(
      rows: rowCount(op.input), columns: weight.rows, threadCount: threadCount,
      isScratched: weight.isScratched)
    let operands = ProductOperands(
      input: UnsafeRawPointer(row(op.input, 0)), inputStride: buffers[op.input].rowByteCount,
      quantization: buffers[op.input].quantization,
      rowScale: op.rowScale.map { UnsafePointer(floatRow($0, 0)) },
      rowScaleStride: op.rowScale.map { floatStride($0) } ?? 0, epilogue: epilogue(op))
    let job = ProductJob(frame: self, operands: operands, weights: op.operands, split: split)
    runTasks(job, count: split.taskCount) { context, task in
      guard let job = context?.assumingMemoryBound(to: ProductJob.self) else { return }
      let split = job.pointee.split
      job.pointee.frame.multiply(
        job.pointee.operands, job.pointee.weights, split.rowRange(task), split.panelRange(task),
        task)
    }
  }

  private func epilogue(_ op: Linear) -> clip_epilogue {
    clip_epilogue(
      bias: nil, activation: op.activation.kernelForm,
      residual: op.residual.map { UnsafePointer(floatRow($0, 0)) },
      residual_stride: op.residual.map { floatStride($0) } ?? 0, output: output(op.output))
  }

  /// Multiplies rows by panels of dense weights, in the scratch of `task` where these are widened or
  /// the rows rounded.
  func multiply(
    _ operands: ProductOperands, _ weights: ExpertLinear.Expert, _ rows: clip_range,
    _ panels: clip_range, _ task: Int
  ) {
    let weight = tensors[weights.weight]
    var epilogue = operands.epilogue
    epilogue.bias = weights.bias.map { tensor($0, as: Float.self) }
    if weight.isWidened {
      return multiplyWidened(operands, weights, epilogue, rows, panels, task)
    }
    if weight.layout == .pairs {
      var arguments = clip_f32_bf16w_gemm_arguments(
        activations: operands.input.assumingMemoryBound(to: Float.self),
        activations_stride: operands.inputStride / 4,
        weights: tensor(weights.weight, as: UInt16.self), output_count: weight.rows,
        input_count: weight.columns, epilogue: epilogue)
      return kernels.pointee.f32_bf16w_gemm(
        &arguments, rows, panels, scratch + task * scratchByteCount)
    }
    let scale = weights.scale.map { tensor($0, as: Float.self) }
    if operands.quantization != nil {
      guard let scale else { return }
      var arguments = clip_qu8_qs8w_gemm_arguments(
        activations: operands.input.assumingMemoryBound(to: UInt8.self),
        activations_stride: operands.inputStride, weights: tensor(weights.weight, as: Int8.self),
        output_count: weight.rows, input_count: weight.columns, scale: scale,
        correction: weights.correction.map { tensor($0, as: Int32.self) },
        row_scale: operands.rowScale, row_scale_stride: operands.rowScaleStride,
        epilogue: epilogue)
      kernels.pointee.qu8_qs8w_gemm(&arguments, rows, panels)
    } else if let scale {
      var arguments = clip_f32_qs8w_gemm_arguments(
        activations: operands.input.assumingMemoryBound(to: Float.self),
        activations_stride: operands.inputStride / 4,
        weights: tensor(weights.weight, as: Int8.self), output_count: weight.rows,
        input_count: weight.columns, scale: scale, epilogue: epilogue)
      kernels.pointee.f32_qs8w_gemm(&arguments, rows, panels)
    } else {
      var arguments = clip_f32_f32w_gemm_arguments(
        activations: operands.input.assumingMemoryBound(to: Float.self),
        activations_stride: operands.inputStride / 4,
        weights: tensor(weights.weight, as: Float.self), output_count: weight.rows,
        input_count: weight.columns, epilogue: epilogue)
      kernels.pointee.f32_f32w_gemm(&arguments, rows, panels)
    }
  }

  private func multiplyWidened(
    _ operands: ProductOperands, _ weights: ExpertLinear.Expert, _ epilogue: clip_epilogue,
    _ rows: clip_range, _ panels: clip_range, _ task: Int
  ) {
    let weight = tensors[weights.weight]
    let hasGroups = weight.groupSize != 0
    let packed = clip_packed_weights(
      panels: stored(weights.weight), bits: weight.codeBitCount,
      type: weight.storedType.kernelForm, group_size: weight.groupSize,
      scales: weights.scale.map { hasGroups ? stored($0) : tensorAddresses[$0] },
      scale_type: weights.scale.map { tensors[$0].storedType.kernelForm } ?? CLIP_FLOAT32)
    let scratch = scratch + task * scratchByteCount
    guard let quantization = operands.quantization else {
      var arguments = clip_f32_pw_gemm_arguments(
        activations: operands.input.assumingMemoryBound(to: Float.self),
        activations_stride: operands.inputStride / 4, weights: packed, output_count: weight.rows,
        input_count: weight.columns, epilogue: epilogue)
      return kernels.pointee.f32_pw_gemm(&arguments, rows, panels, scratch)
    }
    var arguments = clip_qu8_pw_gemm_arguments(
      activations: operands.input.assumingMemoryBound(to: UInt8.self),
      activations_stride: operands.inputStride, weights: packed, output_count: weight.rows,
      input_count: weight.columns,
      correction: weights.correction.map { tensor($0, as: Int32.self) },
      zero_point: Int32(quantization.zeroPoint), scale: hasGroups ? quantization.scale : 1,
      row_scale: operands.rowScale, row_scale_stride: operands.rowScaleStride, epilogue: epilogue)
    kernels.pointee.qu8_pw_gemm(&arguments, rows, panels, scratch)
  }

  /// Transposes the input, columns by threads, then multiplies, panels by threads.
  private func runSparse(_ op: Linear, _ weight: TensorRecord) {
    guard let layout = weight.sparseLayout else { return }
    let rows = rowCount(op.input)
    var epilogue = epilogue(op)
    epilogue.bias = op.bias.map { tensor($0, as: Float.self) }
    let prepared = tensorAddresses[op.weight]
    let transpose = clip_f32_transpose_arguments(
      input: UnsafePointer(floatRow(op.input, 0)), input_stride: floatStride(op.input),
      row_count: rows, column_count: weight.columns, output: transposed)
    let product = clip_f32_f32s_gemm_arguments(
      activations: transposed, row_count: rows,
      starts: prepared.assumingMemoryBound(to: UInt32.self),
      indices: (prepared + PreparedWeights.indexOffset(weight)).assumingMemoryBound(
        to: UInt16.self),
      values: (weights + weight.offset + layout.valuesOffset).assumingMemoryBound(to: Float.self),
      output_count: weight.rows, input_count: weight.columns, epilogue: epilogue)
    let columnGroups = (weight.columns + 15) / 16
    let transposing = SparseJob(
      kernels: kernels, transpose: transpose, product: product,
      parts: min(columnGroups, partCount(rows: rows, columns: weight.columns)))
    runTasks(transposing, count: transposing.parts) { context, task in
      guard let job = context?.assumingMemoryBound(to: SparseJob.self) else { return }
      let columns = job.pointee.transpose.column_count
      let groups = clip_range.part(task, of: job.pointee.parts, count: (columns + 15) / 16)
      job.pointee.kernels.pointee.f32_transpose(
        &job.pointee.transpose,
        clip_range(
          begin: min(columns, groups.lowerBound * 16), end: min(columns, groups.upperBound * 16)))
    }
    let multiplying = SparseJob(
      kernels: kernels, transpose: transpose, product: product,
      parts: min(threadCount, (weight.rows + 15) / 16))
    runTasks(multiplying, count: multiplying.parts) { context, task in
      guard let job = context?.assumingMemoryBound(to: SparseJob.self) else { return }
      let panels = (job.pointee.product.output_count + 15) / 16
      job.pointee.kernels.pointee.f32_f32s_gemm(
        &job.pointee.product,
        clip_range(clip_range.part(task, of: job.pointee.parts, count: panels)))
    }
  }
}

extension Activation {
  /// The function as kernels take it.
  var kernelForm: clip_activation {
    switch self {
    case .none: CLIP_ACTIVATION_NONE
    case .quickGELU: CLIP_ACTIVATION_QUICK_GELU
    case .gelu: CLIP_ACTIVATION_GELU
    }
  }
}
