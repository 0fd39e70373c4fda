import Glibc

/// What the system says of this process's memory.
enum ProcessMemory {
  /// The most bytes that were resident at a time.
  static var peakByteCount: Int {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return usage.ru_maxrss * 1024
  }
}
