import ClipRuntime
import ModelFormat

/// Opens whatever libFuzzer thinks of and, if it opens, runs both towers once.
///
/// Checksums are not looked at, since no mutation would get past them; the length in the header is
/// made right, so that inserted and removed bytes get further than the first check.
@c(LLVMFuzzerTestOneInput)
public func testOneInput(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 64)
  defer { memory.deallocate() }
  memory.copyBytes(from: UnsafeRawBufferPointer(start: data, count: count))
  if count >= 24 {
    memory.storeBytes(of: UInt64(count).littleEndian, toByteOffset: 16, as: UInt64.self)
  }
  if let model = try? Model(UnsafeRawBufferPointer(memory), integrity: .structure) { run(model) }
  return 0
}

/// Runs each tower once, where that takes little memory and time.
private func run(_ model: Model) {
  let info = model.info
  classify(model)
  let limits = Limits(imageCount: 1, textCount: 2, tokenCount: min(4, info.contextLength))
  guard model.pixelCount <= 1 << 12, workOf(model) <= 1 << 22,
    let size = try? Interpreter.arenaByteCount(model, limits: limits), size <= 1 << 24,
    var interpreter = try? Interpreter(model, limits: limits)
  else { return }
  var embeddings = [Float](repeating: 0, count: 2 * info.embeddingWidth)
  let pixels = [Float](repeating: 0.25, count: model.pixelCount)
  var one = [Float](repeating: 0, count: info.embeddingWidth)
  var image = one.mutableSpan
  try? interpreter.encodeImages(pixels.span, count: 1, into: &image)
  let ids = (0..<(2 * limits.tokenCount)).map { Int32($0 % max(1, info.vocabularyCount)) }
  var text = embeddings.mutableSpan
  try? interpreter.encodeTexts(
    ids.span, count: 2, tokenCount: limits.tokenCount, into: &text)
}

/// Reads every label and asks for the probabilities of all, where that takes little time.
private func classify(_ model: Model) {
  guard let labels = model.labels, labels.embeddings.count <= 1 << 16 else { return }
  var byteCount = 0
  for index in 0..<labels.count {
    byteCount += String(validating: labels.nameBytes(index), as: UTF8.self)?.utf8.count ?? .max
  }
  precondition(byteCount > 0, "names are text")
  let image = [Float](repeating: 0.25, count: model.info.embeddingWidth)
  var probabilities = [Float](repeating: 0, count: labels.count)
  var span = probabilities.mutableSpan
  try? model.classify(image.span, classes: labels.embeddings.span, into: &span)
}

/// An upper bound of multiplications by tower, saturated.
private func workOf(_ model: Model) -> Int {
  var work = 0
  for program in [model.reader.imageProgram, model.reader.textProgram] {
    guard let program else { continue }
    for instruction in program.instructions {
      var rows = 8
      if case .perItem(let count) = program.buffers[instruction.output].rows { rows = count }
      var columns = program.buffers[instruction.output].columns
      if case .linear(let op) = instruction { columns *= program.buffers[op.input].columns }
      if case .attention = instruction { columns *= rows }
      let (product, overflow) = rows.multipliedReportingOverflow(by: columns)
      guard !overflow, product <= 1 << 22 else { return .max }
      work += product
    }
  }
  return work
}
