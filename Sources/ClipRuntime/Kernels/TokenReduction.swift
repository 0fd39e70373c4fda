import CKernels
import ModelFormat

private struct MatchJob {
  let frame: Frame
  let op: MergeTokens
}

private struct SelectJob {
  let frame: Frame
  let op: DropTokens
}

private struct MergeRowsJob {
  let frame: Frame
  let input: Int
  let output: Int
  /// Tokens of each item that go into others; those that are dropped do not count.
  let merged: Int
  let columnParts: Int
}

extension Frame {
  /// Merges the most similar tokens of each item.
  func run(_ op: MergeTokens) {
    let parts = min(threadCount, items)
    runTasks(MatchJob(frame: self, op: op), count: parts) { context, task in
      guard let job = context?.assumingMemoryBound(to: MatchJob.self) else { return }
      job.pointee.frame.match(job.pointee.op, part: task)
    }
    mergeRows(op.input, op.output, merged: rowsPerItem(op.input) - rowsPerItem(op.output))
  }

  /// Keeps the tokens of each item that matter most.
  func run(_ op: DropTokens) {
    let parts = min(threadCount, items)
    runTasks(SelectJob(frame: self, op: op), count: parts) { context, task in
      guard let job = context?.assumingMemoryBound(to: SelectJob.self) else { return }
      job.pointee.frame.select(job.pointee.op, part: task)
    }
    mergeRows(op.input, op.output, merged: 0)
  }

  /// The plan of an item by which `kept` rows are left.
  private func tokenPlan(_ item: Int, kept: Int, merged: Int) -> clip_token_plan {
    let start = tokenPlans + item * tokenPlanByteCount
    let indices = start.assumingMemoryBound(to: Int32.self)
    return clip_token_plan(
      sources: indices, merged: indices + kept, rows: indices + kept + merged,
      shares: (start + 4 * (kept + 2 * merged)).assumingMemoryBound(to: Float.self))
  }

  /// Rows of a buffer for each item.
  private func rowsPerItem(_ buffer: Int) -> Int { firstRow(buffer, item: 1) }

  fileprivate func match(_ op: MergeTokens, part: Int) {
    let scratch = (scratch + part * scratchByteCount).assumingMemoryBound(to: Float.self)
    let (tokens, kept) = (rowsPerItem(op.input), rowsPerItem(op.output))
    for item in clip_range.part(part, of: min(threadCount, items), count: items) {
      var arguments = clip_f32_match_tokens_arguments(
        key: floatRow(op.key.buffer, item * tokens) + op.key.column,
        key_stride: floatStride(op.key.buffer), token_count: tokens, head_count: op.headCount,
        head_width: op.headWidth, merge_count: tokens - kept,
        sizes: op.sizes.map { UnsafePointer(floatRow($0, item)) },
        merged_sizes: floatRow(op.outputSizes, item),
        plan: tokenPlan(item, kept: kept, merged: tokens - kept))
      kernels.pointee.f32_match_tokens(&arguments, scratch)
    }
  }

  fileprivate func select(_ op: DropTokens, part: Int) {
    let scratch = (scratch + part * scratchByteCount).assumingMemoryBound(to: Float.self)
    let (tokens, kept) = (rowsPerItem(op.input), rowsPerItem(op.output))
    for item in clip_range.part(part, of: min(threadCount, items), count: items) {
      var arguments = clip_f32_select_tokens_arguments(
        query: floatRow(op.query.buffer, item * tokens) + op.query.column,
        key: floatRow(op.key.buffer, item * tokens) + op.key.column,
        key_stride: floatStride(op.key.buffer), token_count: tokens, head_count: op.headCount,
        head_width: op.headWidth, scale: op.scoreScale, kept_count: kept, leading: op.leading,
        columns: op.columns, spacing: op.spacing,
        sources: tokenPlan(item, kept: kept, merged: 0).sources)
      kernels.pointee.f32_select_tokens(&arguments, scratch)
    }
  }

  /// Makes the rows of `output` by each item's plan, items by parts of the columns.
  private func mergeRows(_ input: Int, _ output: Int, merged: Int) {
    let columnParts = partCount(rows: rowCount(output), columns: buffers[output].columns)
    let job = MergeRowsJob(
      frame: self, input: input, output: output, merged: merged, columnParts: columnParts)
    runTasks(job, count: items * columnParts) { context, task in
      guard let job = context?.assumingMemoryBound(to: MergeRowsJob.self) else { return }
      let parts = job.pointee.columnParts
      job.pointee.frame.mergeRows(job.pointee, item: task / parts, part: task % parts)
    }
  }

  /// Cuts columns at multiples of 16, so that no two threads write the same 64 bytes.
  fileprivate func mergeRows(_ job: MergeRowsJob, item: Int, part: Int) {
    let (tokens, kept) = (rowsPerItem(job.input), rowsPerItem(job.output))
    let columns = buffers[job.output].columns
    let groups = clip_range.part(part, of: job.columnParts, count: (columns + 15) / 16)
    var arguments = clip_f32_merge_rows_arguments(
      input: floatRow(job.input, item * tokens), input_stride: floatStride(job.input),
      plan: tokenPlan(item, kept: kept, merged: job.merged), kept_count: kept,
      merge_count: job.merged,
      output: floatRow(job.output, item * kept), output_stride: floatStride(job.output))
    kernels.pointee.f32_merge_rows(
      &arguments,
      clip_range(
        begin: min(columns, groups.lowerBound * 16), end: min(columns, groups.upperBound * 16)))
  }
}
