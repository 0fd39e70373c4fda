import Foundation

/// Batches made ahead by several threads, a few rows at a time, and taken in order.
final class BatchQueue: @unchecked Sendable {
  // Everything that changes is read and written with the condition locked, except pixels, of which
  // each thread writes its own rows.
  private let condition = NSCondition()
  private let source: TrainingSource
  private let chunkCount: Int
  private let capacity: Int
  private var nextStep: Int
  private var permutation: (epoch: Int, samples: [Int]) = (-1, [])
  /// Oldest first; only rows of the last one are still to be started.
  private var unfinished: [Assembly] = []
  private var running = 0
  private var isStopped = false

  /// A batch in the making.
  private final class Assembly: @unchecked Sendable {
    let step: Int
    let epoch: Int
    let samples: [Int]
    let pixels: UnsafeMutableBufferPointer<Float>
    var startedRows = 0
    var rows: [Result<TrainingRow, any Error>?]
    var missingRows: Int
    var batch: Result<TrainingBatch, any Error>?

    init(step: Int, epoch: Int, samples: [Int], valueCount: Int) {
      self.step = step
      self.epoch = epoch
      self.samples = samples
      pixels = .allocate(capacity: samples.count * valueCount)
      rows = Array(repeating: nil, count: samples.count)
      missingRows = samples.count
    }

    deinit { pixels.deallocate() }
  }

  /// Starts `threads` threads with the batch of `firstStep`.
  init(source: TrainingSource, firstStep: Int, threads: Int) {
    self.source = source
    let batchCount = source.order.batchCount
    // Small enough for all threads to end a batch at about the same time.
    chunkCount = min(max(1, batchCount / (4 * threads)), 32)
    let chunks = (batchCount + chunkCount - 1) / chunkCount
    capacity = 2 + (threads - 1) / chunks
    nextStep = firstStep
    running = threads
    for _ in 0..<threads { Thread.detachNewThread { self.run() } }
  }

  /// The next batch.
  ///
  /// Waits for it. An error comes again from every later call.
  func next() throws -> TrainingBatch {
    condition.lock()
    defer { condition.unlock() }
    while true {
      guard !isStopped else {
        throw DataError.missing(
          place: "training batches", expected: "a batch", found: "that they were stopped")
      }
      if let result = unfinished.first?.batch {
        let batch = try result.get()
        unfinished.removeFirst()
        condition.broadcast()
        return batch
      }
      condition.wait()
    }
  }

  /// Lets the threads finish the images they are at, and waits for them.
  func stop() {
    condition.lock()
    isStopped = true
    unfinished = []
    condition.broadcast()
    while running > 0 { condition.wait() }
    condition.unlock()
  }

  private func run() {
    condition.lock()
    while true {
      guard !isStopped else { break }
      guard let (assembly, range) = takeRows() else {
        condition.wait()
        continue
      }
      condition.unlock()
      let rows = range.map { index in Result { try makeRow(index, of: assembly) } }
      condition.lock()
      for (index, row) in zip(range, rows) { assembly.rows[index] = row }
      assembly.missingRows -= rows.count
      guard assembly.missingRows == 0 else { continue }
      condition.unlock()
      let batch = Result { try finish(assembly) }
      condition.lock()
      assembly.batch = batch
      condition.broadcast()
    }
    running -= 1
    condition.broadcast()
    condition.unlock()
  }

  /// Rows that nobody has started; nil while enough batches wait to be taken.
  private func takeRows() -> (Assembly, Range<Int>)? {
    if unfinished.last.map({ $0.startedRows == $0.samples.count }) ?? true {
      guard unfinished.count < capacity else { return nil }
      open(step: nextStep)
      nextStep += 1
    }
    guard let assembly = unfinished.last else { return nil }
    let first = assembly.startedRows
    assembly.startedRows = min(first + chunkCount, assembly.samples.count)
    return (assembly, first..<assembly.startedRows)
  }

  private func open(step: Int) {
    let epoch = step / source.order.stepsPerEpoch
    if permutation.epoch != epoch {
      permutation = (epoch, source.order.permutation(ofEpoch: epoch))
    }
    unfinished.append(
      Assembly(
        step: step, epoch: epoch,
        samples: Array(permutation.samples[source.order.range(ofStep: step)]),
        valueCount: source.transform.valueCount))
    condition.broadcast()
  }

  private func makeRow(_ index: Int, of assembly: Assembly) throws -> TrainingRow {
    let count = source.transform.valueCount
    let pixels = assembly.pixels[index * count..<(index + 1) * count]
    return try source.row(
      sample: assembly.samples[index], epoch: assembly.epoch,
      into: UnsafeMutableBufferPointer(rebasing: pixels))
  }

  /// The batch of all rows; the first row's error where several have one, whichever came first.
  private func finish(_ assembly: Assembly) throws -> TrainingBatch {
    TrainingBatch(
      step: assembly.step, epoch: assembly.epoch,
      rows: try assembly.rows.compactMap { try $0?.get() },
      pixels: UnsafeBufferPointer(assembly.pixels), size: source.transform.size)
  }
}
