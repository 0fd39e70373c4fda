import CKernels
import ModelFormat

/// Everything that the instructions of one run read: pointers, no ownership.
///
/// The model was validated and the arena planned, so nothing is checked from here on.
struct Frame {
  /// Which tower runs.
  let tower: Tower
  /// The kernels of one instruction set.
  let kernels: UnsafePointer<clip_kernel_set>
  /// The team of threads; null for the caller's alone.
  let pool: OpaquePointer?
  /// Threads of the team.
  let threadCount: Int
  /// The model's facts.
  let info: ModelInfo
  /// The program's values.
  let buffers: [Buffer]
  /// The model's tensors.
  let tensors: [TensorRecord]
  /// Where each tensor is read from.
  let tensorAddresses: [UnsafeRawPointer]
  /// What tensor offsets count from in the file.
  let weights: UnsafeRawPointer
  /// The transposed activations of a sparse product.
  let transposed: UnsafeMutablePointer<Float>
  /// The rows of tokens in the order of their experts.
  let gathered: UnsafeMutableRawPointer
  /// What slot offsets count from.
  let arena: UnsafeMutableRawPointer
  /// Where each slot starts in the arena.
  let slots: [Int]
  /// Images or texts of this run.
  let items: Int
  /// Where each item's own tokens start in buffers with a row for each token, and their end.
  let firstRows: UnsafePointer<Int>
  /// Tokens that all texts of the run begin with; their rows come first, once for all.
  let prefixCount: Int
  /// Each item's pooled position, counted from its first token.
  let pooledPositions: UnsafePointer<Int>
  /// The first item's plan of which tokens stay.
  let tokenPlans: UnsafeMutableRawPointer
  /// Bytes from one item's plan to the next.
  let tokenPlanByteCount: Int
  /// Scratch of the first thread.
  let scratch: UnsafeMutableRawPointer
  /// Bytes from one thread's scratch to the next.
  let scratchByteCount: Int
  /// `[items, channels, height, width]`.
  var pixels: UnsafePointer<Float>?
  /// `[items, idStride]`.
  var ids: UnsafePointer<Int32>?
  /// Ids from one text to the next.
  var idStride = 0

  /// Runs one instruction.
  func run(_ instruction: Instruction) {
    switch instruction {
    case .patchUnfold(let op): run(op)
    case .linear(let op): run(op)
    case .layerNorm(let op): run(op)
    case .attention(let op): run(op)
    case .tokenEmbedding(let op): run(op)
    case .assembleTokens(let op): run(op)
    case .pool(let input, let output): pool(input, output)
    case .l2Normalize(let input, let output): l2Normalize(input, output)
    case .quantize(let input, let output): quantize(input, output)
    case .add(let left, let right, let output): add(left, right, output)
    case .mergeTokens(let op): run(op)
    case .dropTokens(let op): run(op)
    case .quantizeTokens(let input, let output, let scales):
      quantizeTokens(input, output, scales)
    case .routeTokens(let op): run(op)
    case .expertLinear(let op): run(op)
    case .combineExperts(let op): run(op)
    }
  }

  // MARK: Values

  /// Rows of a buffer, of all items together.
  func rowCount(_ buffer: Int) -> Int {
    switch buffers[buffer].rows {
    case .perItem(let rows): rows * items
    case .perToken: firstRows[items]
    case .perSlot(let rows): rows * firstRows[items]
    }
  }

  /// The first row of an item in a buffer.
  func firstRow(_ buffer: Int, item: Int) -> Int {
    switch buffers[buffer].rows {
    case .perItem(let rows): rows * item
    case .perToken: firstRows[item]
    case .perSlot(let rows): rows * firstRows[item]
    }
  }

  /// A row of a buffer.
  func row(_ buffer: Int, _ row: Int) -> UnsafeMutableRawPointer {
    arena + slots[buffers[buffer].slot] + row * buffers[buffer].rowByteCount
  }

  /// A row of a float32 buffer.
  func floatRow(_ buffer: Int, _ row: Int) -> UnsafeMutablePointer<Float> {
    self.row(buffer, row).assumingMemoryBound(to: Float.self)
  }

  /// A row of a buffer of indices.
  func indexRow(_ buffer: Int, _ row: Int) -> UnsafeMutablePointer<UInt32> {
    self.row(buffer, row).assumingMemoryBound(to: UInt32.self)
  }

  /// A row of a uint8 buffer.
  func codeRow(_ buffer: Int, _ row: Int) -> UnsafeMutablePointer<UInt8> {
    self.row(buffer, row).assumingMemoryBound(to: UInt8.self)
  }

  /// Elements from one row of a float32 buffer to the next.
  func floatStride(_ buffer: Int) -> Int { buffers[buffer].rowByteCount / 4 }

  /// Where a kernel writes: the buffer's rows from `row` on, as float32 or as codes.
  func output(_ buffer: Int, row: Int = 0) -> clip_output {
    let rowByteCount = buffers[buffer].rowByteCount
    guard let quantization = buffers[buffer].quantization else {
      return clip_output(
        f32: floatRow(buffer, row), f32_stride: rowByteCount / 4, qu8: nil, qu8_stride: 0,
        quantization: clip_quantization(inverse_scale: 1, zero_point: 0, lowest: 0, highest: 255))
    }
    return clip_output(
      f32: nil, f32_stride: 0, qu8: codeRow(buffer, row), qu8_stride: rowByteCount,
      quantization: quantization.kernelForm)
  }

  /// The bytes of a tensor as elements of `type`.
  func tensor<T>(_ index: Int, as type: T.Type) -> UnsafePointer<T> {
    tensorAddresses[index].assumingMemoryBound(to: type)
  }

  /// Where a tensor lies in the file, whatever was made of it.
  func stored(_ index: Int) -> UnsafeRawPointer { weights + tensors[index].offset }

  // MARK: Tasks

  /// Parts into which `rows` rows of `columns` elements are worth cutting.
  func partCount(rows: Int, columns: Int) -> Int {
    min(threadCount, max(1, rows * columns / 4096), max(1, rows))
  }

  /// What a thread does: the job's address and the number of the task.
  typealias Task = @convention(c) (UnsafeMutableRawPointer?, Int) -> Void

  /// Calls `task` with `job` and each of `0 ..< count`, on all threads.
  func runTasks<Job>(_ job: Job, count: Int, _ task: Task) {
    var job = job
    withUnsafeMutablePointer(to: &job) { clip_pool_run(pool, task, $0, count) }
  }
}

extension BufferQuantization {
  /// The parameters as kernels take them.
  var kernelForm: clip_quantization {
    clip_quantization(
      inverse_scale: inverseScale, zero_point: zeroPoint, lowest: lowest, highest: highest)
  }
}

extension clip_range {
  /// Part `index` of `0 ..< count` cut into `parts`.
  static func part(_ index: Int, of parts: Int, count: Int) -> Range<Int> {
    (count * index / parts)..<(count * (index + 1) / parts)
  }

  /// The same range for a kernel.
  init(_ range: Range<Int>) { self.init(begin: range.lowerBound, end: range.upperBound) }
}
