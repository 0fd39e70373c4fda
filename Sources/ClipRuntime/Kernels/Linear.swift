import CKernels
import ModelFormat

/// How a product is cut between threads: a grid of row parts by panel parts, one task each.
private struct ProductSplit {
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

  func panelRange(_ task: Int) -> clip_range {
    part(task % panelParts, of: panelParts, count: panels, step: ProductSplit.panelStep)
  }

  private func part(_ index: Int, of parts: Int, count: Int, step: Int) -> clip_range {
    let groups = clip_range.part(index, of: parts, count: (count + step - 1) / step)
    return clip_range(
      begin: min(count, groups.lowerBound * step), end: min(count, groups.upperBound * step))
  }
}

/// A product, its kernel and its split; one type for each pair of operand types.
private struct IntegerJob {
  let kernels: UnsafePointer<clip_kernel_set>
  var arguments: clip_qu8_qs8w_gemm_arguments
  let split: ProductSplit
}

private struct WeightOnlyJob {
  let kernels: UnsafePointer<clip_kernel_set>
  var arguments: clip_f32_qs8w_gemm_arguments
  let split: ProductSplit
}

private struct FloatJob {
  let kernels: UnsafePointer<clip_kernel_set>
  var arguments: clip_f32_f32w_gemm_arguments
  let split: ProductSplit
}

private struct WidenedIntegerJob {
  let frame: Frame
  var arguments: clip_qu8_pw_gemm_arguments
  let split: ProductSplit
}

private struct WidenedFloatJob {
  let frame: Frame
  var arguments: clip_f32_pw_gemm_arguments
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
      isScratched: weight.isWidened)
    if weight.isWidened { return runWidened(op, weight, split) }
    if buffers[op.input].quantization != nil {
      runInteger(op, weight, split)
    } else if weight.storedType == .int8 {
      runWeightOnly(op, weight, split)
    } else {
      runFloat(op, weight, split)
    }
  }

  private func epilogue(_ op: Linear) -> clip_epilogue {
    let activation =
      switch op.activation {
      case .none: CLIP_ACTIVATION_NONE
      case .quickGELU: CLIP_ACTIVATION_QUICK_GELU
      case .gelu: CLIP_ACTIVATION_GELU
      }
    return clip_epilogue(
      bias: op.bias.map { tensor($0, as: Float.self) }, activation: activation,
      residual: op.residual.map { UnsafePointer(floatRow($0, 0)) },
      residual_stride: op.residual.map { floatStride($0) } ?? 0, output: output(op.output))
  }

  private func rowScale(_ op: Linear) -> UnsafePointer<Float>? {
    op.rowScale.map { UnsafePointer(floatRow($0, 0)) }
  }

  private func rowScaleStride(_ op: Linear) -> Int { op.rowScale.map { floatStride($0) } ?? 0 }

  private func runInteger(_ op: Linear, _ weight: TensorRecord, _ split: ProductSplit) {
    guard let scale = op.scale else { return }
    let arguments = clip_qu8_qs8w_gemm_arguments(
      activations: UnsafePointer(codeRow(op.input, 0)),
      activations_stride: buffers[op.input].rowByteCount,
      weights: tensor(op.weight, as: Int8.self), output_count: weight.rows,
      input_count: weight.columns, scale: tensor(scale, as: Float.self),
      correction: op.correction.map { tensor($0, as: Int32.self) }, row_scale: rowScale(op),
      row_scale_stride: rowScaleStride(op), epilogue: epilogue(op))
    let job = IntegerJob(kernels: kernels, arguments: arguments, split: split)
    runTasks(job, count: split.taskCount) { context, task in
      guard let job = context?.assumingMemoryBound(to: IntegerJob.self) else { return }
      let split = job.pointee.split
      job.pointee.kernels.pointee.qu8_qs8w_gemm(
        &job.pointee.arguments, split.rowRange(task), split.panelRange(task))
    }
  }

  /// A product with weights that are widened in each thread's scratch.
  private func runWidened(_ op: Linear, _ weight: TensorRecord, _ split: ProductSplit) {
    let packed = clip_packed_weights(
      panels: stored(op.weight), bits: weight.codeBitCount,
      type: weight.storedType.kernelForm, group_size: weight.groupSize,
      scales: op.scale.map { weight.groupSize == 0 ? tensorAddresses[$0] : stored($0) },
      scale_type: op.scale.map { tensors[$0].storedType.kernelForm } ?? CLIP_FLOAT32)
    guard let quantization = buffers[op.input].quantization else {
      let arguments = clip_f32_pw_gemm_arguments(
        activations: UnsafePointer(floatRow(op.input, 0)),
        activations_stride: floatStride(op.input), weights: packed, output_count: weight.rows,
        input_count: weight.columns, epilogue: epilogue(op))
      let job = WidenedFloatJob(frame: self, arguments: arguments, split: split)
      return runTasks(job, count: split.taskCount) { context, task in
        guard let job = context?.assumingMemoryBound(to: WidenedFloatJob.self) else { return }
        let (frame, split) = (job.pointee.frame, job.pointee.split)
        frame.kernels.pointee.f32_pw_gemm(
          &job.pointee.arguments, split.rowRange(task), split.panelRange(task),
          frame.scratch + task * frame.scratchByteCount)
      }
    }
    let hasGroups = weight.groupSize != 0
    let arguments = clip_qu8_pw_gemm_arguments(
      activations: UnsafePointer(codeRow(op.input, 0)),
      activations_stride: buffers[op.input].rowByteCount, weights: packed,
      output_count: weight.rows, input_count: weight.columns,
      correction: op.correction.map { tensor($0, as: Int32.self) },
      zero_point: Int32(quantization.zeroPoint), scale: hasGroups ? quantization.scale : 1,
      row_scale: rowScale(op), row_scale_stride: rowScaleStride(op), epilogue: epilogue(op))
    let job = WidenedIntegerJob(frame: self, arguments: arguments, split: split)
    runTasks(job, count: split.taskCount) { context, task in
      guard let job = context?.assumingMemoryBound(to: WidenedIntegerJob.self) else { return }
      let (frame, split) = (job.pointee.frame, job.pointee.split)
      frame.kernels.pointee.qu8_pw_gemm(
        &job.pointee.arguments, split.rowRange(task), split.panelRange(task),
        frame.scratch + task * frame.scratchByteCount)
    }
  }

  private func runWeightOnly(_ op: Linear, _ weight: TensorRecord, _ split: ProductSplit) {
    guard let scale = op.scale else { return }
    let arguments = clip_f32_qs8w_gemm_arguments(
      activations: UnsafePointer(floatRow(op.input, 0)),
      activations_stride: floatStride(op.input), weights: tensor(op.weight, as: Int8.self),
      output_count: weight.rows, input_count: weight.columns,
      scale: tensor(scale, as: Float.self), epilogue: epilogue(op))
    let job = WeightOnlyJob(kernels: kernels, arguments: arguments, split: split)
    runTasks(job, count: split.taskCount) { context, task in
      guard let job = context?.assumingMemoryBound(to: WeightOnlyJob.self) else { return }
      let split = job.pointee.split
      job.pointee.kernels.pointee.f32_qs8w_gemm(
        &job.pointee.arguments, split.rowRange(task), split.panelRange(task))
    }
  }

  /// Transposes the input, columns by threads, then multiplies, panels by threads.
  private func runSparse(_ op: Linear, _ weight: TensorRecord) {
    guard let layout = weight.sparseLayout else { return }
    let rows = rowCount(op.input)
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
      output_count: weight.rows, input_count: weight.columns, epilogue: epilogue(op))
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

  private func runFloat(_ op: Linear, _ weight: TensorRecord, _ split: ProductSplit) {
    let arguments = clip_f32_f32w_gemm_arguments(
      activations: UnsafePointer(floatRow(op.input, 0)),
      activations_stride: floatStride(op.input), weights: tensor(op.weight, as: Float.self),
      output_count: weight.rows, input_count: weight.columns, epilogue: epilogue(op))
    let job = FloatJob(kernels: kernels, arguments: arguments, split: split)
    runTasks(job, count: split.taskCount) { context, task in
      guard let job = context?.assumingMemoryBound(to: FloatJob.self) else { return }
      let split = job.pointee.split
      job.pointee.kernels.pointee.f32_f32w_gemm(
        &job.pointee.arguments, split.rowRange(task), split.panelRange(task))
    }
  }
}
