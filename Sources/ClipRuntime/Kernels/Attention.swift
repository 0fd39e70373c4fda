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
    let parts = min(threadCount, sequenceCount(op) * op.headCount)
    runTasks(AttentionJob(frame: self, op: op, parts: parts), count: parts) { context, task in
      guard let job = context?.assumingMemoryBound(to: AttentionJob.self) else { return }
      job.pointee.frame.runHeads(job.pointee.op, part: task, of: job.pointee.parts)
    }
  }

  /// Whether an attention's queries are those of the pooled positions only.
  private func isPooled(_ op: Attention) -> Bool {
    buffers[op.query.buffer].rows != buffers[op.key.buffer].rows
  }

  /// Runs of queries: the items', and what all of them begin with where that is asked for.
  private func sequenceCount(_ op: Attention) -> Int {
    prefixCount > 0 && !isPooled(op) ? items + 1 : items
  }

  fileprivate func runHeads(_ op: Attention, part: Int, of parts: Int) {
    let scratch = (scratch + part * scratchByteCount).assumingMemoryBound(to: Float.self)
    let isPooled = isPooled(op)
    for index in clip_range.part(part, of: parts, count: sequenceCount(op) * op.headCount) {
      let item = index / op.headCount
      let offset = index % op.headCount * op.headWidth
      let isPrefix = item == items
      let queryRow = isPrefix ? 0 : firstRow(op.query.buffer, item: item)
      let keyRow = isPrefix ? 0 : firstRow(op.key.buffer, item: item)
      var shape = Sequence(
        offset: offset, queryRow: queryRow, keyRow: keyRow, queryCount: prefixCount,
        keyCount: prefixCount, prefixCount: isPrefix ? 0 : prefixCount, firstQuery: 0)
      if !isPrefix {
        shape.queryCount = firstRow(op.query.buffer, item: item + 1) - queryRow
        shape.keyCount = prefixCount + firstRow(op.key.buffer, item: item + 1) - keyRow
        shape.firstQuery = isPooled ? pooledPositions[item] : prefixCount
      }
      if op.isInteger {
        var arguments = integerArguments(op, shape)
        kernels.pointee.qu8_attention(&arguments, scratch)
      } else {
        var arguments = floatArguments(op, shape, item: item)
        kernels.pointee.f32_attention(&arguments, scratch)
      }
    }
  }

  private func output(_ op: Attention, _ shape: Sequence) -> clip_output {
    var output = output(op.output, row: shape.queryRow)
    output.f32 = output.f32.map { $0 + shape.offset }
    output.qu8 = output.qu8.map { $0 + shape.offset }
    return output
  }

  private func floatArguments(
    _ op: Attention, _ shape: Sequence, item: Int
  ) -> clip_f32_attention_arguments {
    func rows(_ head: HeadColumns, _ row: Int) -> UnsafePointer<Float> {
      UnsafePointer(floatRow(head.buffer, row)) + head.column + shape.offset
    }
    return clip_f32_attention_arguments(
      query: rows(op.query, shape.queryRow), query_stride: floatStride(op.query.buffer),
      key: rows(op.key, shape.keyRow), key_stride: floatStride(op.key.buffer),
      value: rows(op.value, shape.keyRow), value_stride: floatStride(op.value.buffer),
      prefix_key: rows(op.key, 0), prefix_value: rows(op.value, 0),
      prefix_count: shape.prefixCount, query_count: shape.queryCount, key_count: shape.keyCount,
      head_width: op.headWidth, scale: op.scoreScale, causal: op.isCausal,
      first_query: shape.firstQuery, output: output(op, shape),
      key_sizes: op.sizes.map { UnsafePointer(floatRow($0, item)) },
      quantizes_probabilities: false)
  }

  private func integerArguments(
    _ op: Attention, _ shape: Sequence
  ) -> clip_qu8_attention_arguments {
    func rows(_ head: HeadColumns, _ row: Int) -> UnsafePointer<UInt8> {
      UnsafePointer(codeRow(head.buffer, row)) + head.column + shape.offset
    }
    let unit = BufferQuantization(scale: 1, zeroPoint: 0)
    let query = buffers[op.query.buffer].quantization ?? unit
    let key = buffers[op.key.buffer].quantization ?? unit
    let value = buffers[op.value.buffer].quantization ?? unit
    return clip_qu8_attention_arguments(
      query: rows(op.query, shape.queryRow), query_stride: buffers[op.query.buffer].rowByteCount,
      key: rows(op.key, shape.keyRow), key_stride: buffers[op.key.buffer].rowByteCount,
      value: rows(op.value, shape.keyRow), value_stride: buffers[op.value.buffer].rowByteCount,
      prefix_key: rows(op.key, 0), prefix_value: rows(op.value, 0),
      prefix_count: shape.prefixCount, query_count: shape.queryCount, key_count: shape.keyCount,
      head_width: op.headWidth, query_zero: Int32(query.zeroPoint),
      key_zero: Int32(key.zeroPoint), value_zero: Int32(value.zeroPoint),
      scale: op.scoreScale * query.scale * key.scale, value_scale: value.scale,
      causal: op.isCausal, first_query: shape.firstQuery, output: output(op, shape))
  }
}

/// One head's rows in a batch.
private struct Sequence {
  /// The head's first column within queries, keys and values.
  let offset: Int
  let queryRow: Int
  let keyRow: Int
  var queryCount: Int
  /// Keys, those of the prefix included.
  var keyCount: Int
  /// Keys that the item shares with all others.
  let prefixCount: Int
  /// The position of the first query.
  var firstQuery: Int
}
