import CKernels
import ModelFormat

private struct AttentionJob {
  let frame: Frame
  let op: Attention
  let parts: Int
}

extension Frame {
  /// Attends, head by head of item by item; each thread has scratch of its own.
  func run(_ op: Attention) {
    let parts = min(threadCount, items * op.headCount)
    runTasks(AttentionJob(frame: self, op: op, parts: parts), count: parts) { context, task in
      guard let job = context?.assumingMemoryBound(to: AttentionJob.self) else { return }
      job.pointee.frame.runHeads(job.pointee.op, part: task, of: job.pointee.parts)
    }
  }

  fileprivate func runHeads(_ op: Attention, part: Int, of parts: Int) {
    let scratch = (scratch + part * scratchByteCount).assumingMemoryBound(to: Float.self)
    for index in clip_range.part(part, of: parts, count: items * op.headCount) {
      let item = index / op.headCount
      let offset = index % op.headCount * op.headWidth
      let queryRow = firstRow(op.query.buffer, item: item)
      let keyRow = firstRow(op.key.buffer, item: item)
      let queryCount = firstRow(op.query.buffer, item: item + 1) - queryRow
      let keyCount = firstRow(op.key.buffer, item: item + 1) - keyRow
      // One query for more keys is the pooled position's.
      let isPooled = buffers[op.query.buffer].rows != buffers[op.key.buffer].rows
      var output = output(op.output, row: queryRow)
      output.f32 = output.f32.map { $0 + offset }
      output.qu8 = output.qu8.map { $0 + offset }
      if op.isInteger {
        var arguments = integerArguments(op, queryRow, keyRow, offset, output)
        arguments.query_count = queryCount
        arguments.key_count = keyCount
        arguments.first_query = isPooled ? pooledPositions[item] : 0
        kernels.pointee.qu8_attention(&arguments, scratch)
        continue
      }
      var arguments = clip_f32_attention_arguments(
        query: floatRow(op.query.buffer, queryRow) + op.query.column + offset,
        query_stride: floatStride(op.query.buffer),
        key: floatRow(op.key.buffer, keyRow) + op.key.column + offset,
        key_stride: floatStride(op.key.buffer),
        value: floatRow(op.value.buffer, keyRow) + op.value.column + offset,
        value_stride: floatStride(op.value.buffer), query_count: queryCount,
        key_count: keyCount, head_width: op.headWidth, scale: op.scoreScale,
        causal: op.isCausal, first_query: isPooled ? pooledPositions[item] : 0, output: output,
        key_sizes: op.sizes.map { UnsafePointer(floatRow($0, item)) },
        quantizes_probabilities: false)
      kernels.pointee.f32_attention(&arguments, scratch)
    }
  }

  /// The operands of one head's attention over codes that begin with these rows; counts are left.
  private func integerArguments(
    _ op: Attention, _ queryRow: Int, _ keyRow: Int, _ offset: Int, _ output: clip_output
  ) -> clip_qu8_attention_arguments {
    let unit = BufferQuantization(scale: 1, zeroPoint: 0)
    let query = buffers[op.query.buffer].quantization ?? unit
    let key = buffers[op.key.buffer].quantization ?? unit
    let value = buffers[op.value.buffer].quantization ?? unit
    return clip_qu8_attention_arguments(
      query: codeRow(op.query.buffer, queryRow) + op.query.column + offset,
      query_stride: buffers[op.query.buffer].rowByteCount,
      key: codeRow(op.key.buffer, keyRow) + op.key.column + offset,
      key_stride: buffers[op.key.buffer].rowByteCount,
      value: codeRow(op.value.buffer, keyRow) + op.value.column + offset,
      value_stride: buffers[op.value.buffer].rowByteCount, query_count: 0, key_count: 0,
      head_width: op.headWidth, query_zero: Int32(query.zeroPoint),
      key_zero: Int32(key.zeroPoint), value_zero: Int32(value.zeroPoint),
      scale: op.scoreScale * query.scale * key.scale, value_scale: value.scale,
      causal: op.isCausal, first_query: 0, output: output)
  }
}
