import CKernels
import ModelFormat

private struct QuantizeTokensJob {
  let frame: Frame
  let input: Int
  let output: Int
  let scales: Int
  let parts: Int
}

extension Frame {
  /// Divides each row by its norm.
  func l2Normalize(_ input: Int, _ output: Int) {
    for row in 0..<rowCount(input) {
      kernels.pointee.f32_l2_normalize(
        floatRow(input, row), buffers[input].columns, floatRow(output, row))
    }
  }

  /// Turns float32 rows into codes.
  func quantize(_ input: Int, _ output: Int) {
    guard let quantization = buffers[output].quantization?.kernelForm else { return }
    for row in 0..<rowCount(input) {
      kernels.pointee.f32_quantize(
        floatRow(input, row), buffers[input].columns, quantization, codeRow(output, row))
    }
  }

  /// Turns float32 rows into codes, each by its own scale.
  func quantizeTokens(_ input: Int, _ output: Int, _ scales: Int) {
    let parts = partCount(rows: rowCount(input), columns: buffers[input].columns)
    let job = QuantizeTokensJob(
      frame: self, input: input, output: output, scales: scales, parts: parts)
    runTasks(job, count: parts) { context, task in
      guard let job = context?.assumingMemoryBound(to: QuantizeTokensJob.self) else { return }
      let (frame, input, output) = (job.pointee.frame, job.pointee.input, job.pointee.output)
      guard let codes = frame.buffers[output].quantization?.kernelForm else { return }
      let rows = clip_range.part(task, of: job.pointee.parts, count: frame.rowCount(input))
      for row in rows {
        frame.floatRow(job.pointee.scales, row).pointee = frame.kernels.pointee.f32_quantize_row(
          frame.floatRow(input, row), frame.buffers[input].columns, codes,
          frame.codeRow(output, row))
      }
    }
  }

  /// Adds two buffers.
  func add(_ left: Int, _ right: Int, _ output: Int) {
    for row in 0..<rowCount(output) {
      kernels.pointee.f32_add(
        floatRow(left, row), floatRow(right, row), buffers[output].columns,
        floatRow(output, row))
    }
  }
}
