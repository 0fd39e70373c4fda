import CKernels

/// What the processor can do at best with a kernel set, measured: the roofs of a benchmark.
struct MachinePeak {
  /// Multiply-adds of uint8 and int8 a second.
  let integerRate: Double
  /// Multiply-adds of floats a second.
  let floatRate: Double
  /// Multiply-adds of bfloat16 a second.
  let bfloat16Rate: Double
  /// Bytes of memory, beyond all caches, that are read a second.
  let readRate: Double

  private static let readByteCount = 128 << 20

  /// Takes the best of many runs of some milliseconds each, of which others may disturb most, on
  /// `threadCount` threads.
  init(kernelSet: Int, threadCount: Int) {
    let kernels = clip_kernel_sets_at(kernelSet)
    let pool = clip_pool_create(threadCount)
    defer { clip_pool_destroy(pool) }
    integerRate = Self.rate(pool, threadCount, kernels) { context, task in
      guard let work = context?.assumingMemoryBound(to: Work.self) else { return }
      let done = work.pointee.kernels.pointee.qu8_peak(work.pointee.steps)
      if task == 0 { work.pointee.done = done }
    }
    floatRate = Self.rate(pool, threadCount, kernels) { context, task in
      guard let work = context?.assumingMemoryBound(to: Work.self) else { return }
      let done = work.pointee.kernels.pointee.f32_peak(work.pointee.steps)
      if task == 0 { work.pointee.done = done }
    }
    bfloat16Rate = Self.rate(pool, threadCount, kernels) { context, task in
      guard let work = context?.assumingMemoryBound(to: Work.self) else { return }
      let done = work.pointee.kernels.pointee.bf16_peak(work.pointee.steps)
      if task == 0 { work.pointee.done = done }
    }
    readRate = Self.readRate(pool, threadCount, kernels)
  }

  /// Multiply-adds a second.
  func rate(_ arithmetic: NodeWork.Arithmetic) -> Double {
    switch arithmetic {
    case .integer: integerRate
    case .bfloat16: bfloat16Rate
    case .float: floatRate
    }
  }

  /// What the threads do, a part each.
  private struct Work {
    let kernels: UnsafePointer<clip_kernel_set>
    var steps = 1000
    var floats: UnsafePointer<Float>?
    var floatCount = 0
    /// Multiply-adds of the first thread.
    var done = 0

    /// Seconds of `task` on all threads.
    mutating func seconds(
      _ pool: OpaquePointer?, _ threadCount: Int,
      _ task: @convention(c) (UnsafeMutableRawPointer?, Int) -> Void
    ) -> Double {
      withUnsafeMutablePointer(to: &self) { work in
        ContinuousClock().measure { clip_pool_run(pool, task, work, threadCount) } / .seconds(1)
      }
    }
  }

  private static func rate(
    _ pool: OpaquePointer?, _ threadCount: Int, _ kernels: UnsafePointer<clip_kernel_set>,
    _ task: @convention(c) (UnsafeMutableRawPointer?, Int) -> Void
  ) -> Double {
    var work = Work(kernels: kernels)
    var best = 0.0
    var longCount = 0
    while longCount < 40 {
      let seconds = work.seconds(pool, threadCount, task)
      if seconds < 0.005 {
        work.steps *= 2
        continue
      }
      best = max(best, Double(work.done * threadCount) / seconds)
      longCount += 1
    }
    return best
  }

  private static func readRate(
    _ pool: OpaquePointer?, _ threadCount: Int, _ kernels: UnsafePointer<clip_kernel_set>
  ) -> Double {
    let count = readByteCount / 4
    let floats = UnsafeMutablePointer<Float>.allocate(capacity: count)
    floats.initialize(repeating: 1, count: count)
    defer { floats.deallocate() }
    var work = Work(kernels: kernels, floats: UnsafePointer(floats))
    work.floatCount = count / threadCount
    let least = (0..<4).map { _ in
      work.seconds(pool, threadCount) { context, task in
        guard let work = context?.assumingMemoryBound(to: Work.self).pointee,
          let floats = work.floats
        else { return }
        work.kernels.pointee.f32_read(floats + task * work.floatCount, work.floatCount)
      }
    }.min()
    return Double(readByteCount) / (least ?? .infinity)
  }
}
