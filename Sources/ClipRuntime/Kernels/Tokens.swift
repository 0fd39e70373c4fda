import CKernels
import ModelFormat

private struct UnfoldJob {
  let frame: Frame
  let op: PatchUnfold
  let parts: Int
}

extension Frame {
  /// Cuts the pixels of all images into rows of patches.
  func run(_ op: PatchUnfold) {
    let rows = rowCount(op.output)
    let parts = partCount(rows: rows, columns: buffers[op.output].columns)
    runTasks(UnfoldJob(frame: self, op: op, parts: parts), count: parts) { context, task in
      guard let job = context?.assumingMemoryBound(to: UnfoldJob.self) else { return }
      job.pointee.frame.unfold(job.pointee.op, part: task, of: job.pointee.parts)
    }
  }

  fileprivate func unfold(_ op: PatchUnfold, part: Int, of parts: Int) {
    guard let pixels else { return }
    let range = clip_range.part(part, of: parts, count: rowCount(op.output))
    let rowsPerImage = rowCount(op.output) / items
    let pixelCount = info.imageChannelCount * info.imageHeight * info.imageWidth
    var row = range.lowerBound
    while row < range.upperBound {
      let item = row / rowsPerImage
      let end = min(range.upperBound, (item + 1) * rowsPerImage)
      var arguments = clip_f32_unfold_arguments(
        pixels: pixels + item * pixelCount, channels: info.imageChannelCount,
        height: info.imageHeight, width: info.imageWidth, patch: op.patchSize,
        output: output(op.output, row: item * rowsPerImage))
      let patches = clip_range(begin: row - item * rowsPerImage, end: end - item * rowsPerImage)
      kernels.pointee.f32_unfold(&arguments, patches)
      row = end
    }
  }

  /// Puts the class row in front of each image's patches and adds positions.
  func run(_ op: AssembleTokens) {
    let columns = buffers[op.output].columns
    let rows = tensors[op.position].rows
    let classRow = tensor(op.classRow, as: Float.self)
    let position = tensor(op.position, as: Float.self)
    for item in 0..<items {
      for row in 0..<rows {
        let source =
          row == 0
          ? classRow : UnsafePointer(floatRow(op.input, item * (rows - 1) + row - 1))
        kernels.pointee.f32_add(
          source, position + row * columns, columns, floatRow(op.output, item * rows + row))
      }
    }
  }

  /// Gathers the rows of the tokens and adds positions.
  func run(_ op: TokenEmbedding) {
    guard let ids else { return }
    let columns = buffers[op.output].columns
    let table = tensors[op.table]
    let position = tensor(op.position, as: Float.self)
    func embed(_ id: Int32, place: Int, row: Int) {
      let target = floatRow(op.output, row)
      var source = UnsafePointer(target)
      if table.storedType == .float32 {
        source = tensor(op.table, as: Float.self) + Int(id) * columns
      } else {
        decode(op, row: Int(id), to: target)
      }
      kernels.pointee.f32_add(source, position + place * columns, columns, target)
    }
    for place in 0..<prefixCount { embed(ids[place], place: place, row: place) }
    for item in 0..<items {
      for row in firstRows[item]..<firstRows[item + 1] {
        let place = prefixCount + row - firstRows[item]
        embed(ids[item * idStride + place], place: place, row: row)
      }
    }
  }

  /// Writes a row of a table that is stored in fewer bits as float32.
  private func decode(_ op: TokenEmbedding, row: Int, to target: UnsafeMutablePointer<Float>) {
    let table = tensors[op.table]
    let bytes = stored(op.table) + row * (table.byteCount / table.rows)
    guard let scale = op.scale else {
      return kernels.pointee.f32_widen(
        bytes, table.storedType.kernelForm, table.columns, target)
    }
    let scales = tensors[scale]
    var packed = clip_packed_row(
      codes: bytes, bits: table.codeBitCount, count: table.columns, group_size: table.groupSize,
      scales: stored(scale) + row * table.groupCount * scales.storedType.byteCount,
      scale_type: scales.storedType.kernelForm)
    kernels.pointee.qp_dequantize(&packed, target)
  }

  /// Copies the row at each item's pooled position.
  func pool(_ input: Int, _ output: Int) {
    let size = buffers[input].quantization == nil ? 4 : 1
    for item in 0..<items {
      row(output, item).copyMemory(
        from: row(input, firstRow(input, item: item) + pooledPositions[item] - prefixCount),
        byteCount: buffers[input].columns * size)
    }
  }
}
