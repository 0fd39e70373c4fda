import CKernels
import ModelFormat

private struct GatherJob {
  let frame: Frame
  let op: ExpertLinear
  let rows: Int
  let parts: Int
}

private struct ExpertJob {
  let frame: Frame
  let op: ExpertLinear
  let operands: ProductOperands
  let split: ProductSplit
}

private struct CombineJob {
  let frame: Frame
  let op: CombineExperts
  let parts: Int
}

/// The rows of one expert, in order.
private struct ExpertRun {
  let expert: Int
  let rows: Range<Int>
}

extension Frame {
  /// Multiplies the rows of each expert by its weights; those without rows are left alone.
  func run(_ op: ExpertLinear) {
    let all = rowCount(op.order)
    var used = 0
    while let next = expertRun(op.order, from: used, of: all) { used = next.rows.upperBound }
    let output = buffers[op.output]
    for row in used..<all {
      self.row(op.output, row).initializeMemory(
        as: UInt8.self, repeating: 0, count: output.rowByteCount)
    }
    guard used > 0 else { return }
    let operands = op.isOrdered ? orderedRows(op) : gatheredRows(op, count: used, of: all)
    var isScratched = false
    for expert in op.experts where tensors[expert.weight].isScratched { isScratched = true }
    let split = ProductSplit(
      rows: used, columns: output.columns, threadCount: threadCount, isScratched: isScratched)
    let job = ExpertJob(frame: self, op: op, operands: operands, split: split)
    runTasks(job, count: split.taskCount) { context, task in
      guard let job = context?.assumingMemoryBound(to: ExpertJob.self) else { return }
      job.pointee.frame.multiply(job.pointee, task)
    }
  }

  /// The expert whose rows start at `row`, and these; nil at the end.
  private func expertRun(_ order: Int, from row: Int, of all: Int) -> ExpertRun? {
    guard row < all else { return nil }
    let entry = indexRow(order, row)
    guard entry[1] != Layout.absent else { return nil }
    return ExpertRun(expert: Int(entry[1]), rows: row..<Int(entry[2]))
  }

  fileprivate func multiply(_ job: ExpertJob, _ task: Int) {
    let panels = job.split.panelRange(task)
    var row = 0
    while let run = expertRun(job.op.order, from: row, of: job.split.rows) {
      let rows = job.split.rowRange(task, of: run.rows)
      if rows.begin < rows.end {
        multiply(job.operands, job.op.experts[run.expert], rows, panels, task)
      }
      row = run.rows.upperBound
    }
  }

  private func epilogue(_ op: ExpertLinear) -> clip_epilogue {
    clip_epilogue(
      bias: nil, activation: op.activation.kernelForm, residual: nil, residual_stride: 0,
      output: output(op.output))
  }

  private func orderedRows(_ op: ExpertLinear) -> ProductOperands {
    ProductOperands(
      input: UnsafeRawPointer(row(op.input, 0)), inputStride: buffers[op.input].rowByteCount,
      quantization: buffers[op.input].quantization,
      rowScale: op.rowScale.map { UnsafePointer(floatRow($0, 0)) },
      rowScaleStride: op.rowScale.map { floatStride($0) } ?? 0, epilogue: epilogue(op))
  }

  /// Copies the rows of tokens, and their scales, once for each of their slots.
  private func gatheredRows(_ op: ExpertLinear, count: Int, of all: Int) -> ProductOperands {
    let stride = buffers[op.input].rowByteCount
    let parts = partCount(rows: count, columns: stride / 4)
    let job = GatherJob(frame: self, op: op, rows: count, parts: parts)
    runTasks(job, count: parts) { context, task in
      guard let job = context?.assumingMemoryBound(to: GatherJob.self) else { return }
      job.pointee.frame.gather(
        job.pointee.op, clip_range.part(task, of: job.pointee.parts, count: job.pointee.rows))
    }
    return ProductOperands(
      input: UnsafeRawPointer(gathered), inputStride: stride,
      quantization: buffers[op.input].quantization,
      rowScale: op.rowScale.map { _ in UnsafePointer(gatheredScales(op)) }, rowScaleStride: 1,
      epilogue: epilogue(op))
  }

  /// Where the scales of gathered rows stand, behind as many rows as there can be.
  private func gatheredScales(_ op: ExpertLinear) -> UnsafeMutablePointer<Float> {
    (gathered + rowCount(op.order) * buffers[op.input].rowByteCount)
      .assumingMemoryBound(to: Float.self)
  }

  fileprivate func gather(_ op: ExpertLinear, _ rows: Range<Int>) {
    let stride = buffers[op.input].rowByteCount
    let scales = gatheredScales(op)
    for row in rows {
      let token = Int(indexRow(op.order, row)[0])
      (gathered + row * stride).copyMemory(from: self.row(op.input, token), byteCount: stride)
      if let rowScale = op.rowScale { scales[row] = floatRow(rowScale, token).pointee }
    }
  }

  /// Sums what the experts of each token computed.
  func run(_ op: CombineExperts) {
    let parts = partCount(rows: rowCount(op.output), columns: buffers[op.output].columns)
    runTasks(CombineJob(frame: self, op: op, parts: parts), count: parts) { context, task in
      guard let job = context?.assumingMemoryBound(to: CombineJob.self) else { return }
      let frame = job.pointee.frame
      let rows = clip_range.part(
        task, of: job.pointee.parts, count: frame.rowCount(job.pointee.op.output))
      for row in rows { frame.combine(job.pointee.op, row) }
    }
  }

  /// One token, in whole groups of 16 columns: rows have room for these.
  fileprivate func combine(_ op: CombineExperts, _ token: Int) {
    let slots = buffers[op.gates].columns
    let places = indexRow(op.places, token)
    let gates = floatRow(op.gates, token)
    let target = row(op.output, token)
    for offset in stride(from: 0, to: buffers[op.output].rowByteCount, by: 64) {
      var sum = SIMD16<Float>.zero
      for slot in 0..<slots where places[slot] != Layout.absent {
        let source = row(op.input, Int(places[slot]))
        sum += gates[slot] * source.load(fromByteOffset: offset, as: SIMD16<Float>.self)
      }
      if let residual = op.residual {
        sum += row(residual, token).load(fromByteOffset: offset, as: SIMD16<Float>.self)
      }
      target.storeBytes(of: sum, toByteOffset: offset, as: SIMD16<Float>.self)
    }
  }
}
