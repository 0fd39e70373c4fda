import Glibc
import Synchronization

/// Sees to it that a process which is interrupted leaves no unfinished file.
package enum Interruption {
  /// The address of the unfinished file's path, or 0: all that a signal handler may touch.
  private static let path = Atomic<UInt>(0)
  private static let isDeferred = Atomic<Bool>(false)
  private static let wasAsked = Atomic<Bool>(false)

  /// Whether the process was told to end while ``deferred(_:)`` was at work.
  package static var isRequested: Bool { wasAsked.load(ordering: .relaxed) }

  /// Does `body`, during which the first request to end is only noted, so that work of long can
  /// be saved; a second one ends the process.
  package static func deferred<Result>(_ body: () throws -> Result) rethrows -> Result {
    isDeferred.store(true, ordering: .relaxed)
    defer { isDeferred.store(false, ordering: .relaxed) }
    return try body()
  }

  /// Removes the unfinished file, if there is one, when the process is told to end.
  package static func removeUnfinishedFile() {
    // Made here, since a signal handler must not be the first to ask for it.
    _ = path.load(ordering: .relaxed)
    _ = isDeferred.load(ordering: .relaxed)
    _ = wasAsked.load(ordering: .relaxed)
    // Who starts us from a thread that takes no signals does not mean us to take none.
    var ours = sigset_t()
    sigemptyset(&ours)
    for number in [SIGINT, SIGTERM, SIGHUP] { sigaddset(&ours, number) }
    sigprocmask(SIG_UNBLOCK, &ours, nil)
    for number in [SIGINT, SIGTERM, SIGHUP] {
      let former = signal(number) { number in
        if Interruption.isDeferred.load(ordering: .relaxed),
          !Interruption.wasAsked.exchange(true, ordering: .relaxed)
        {
          return
        }
        if let path = UnsafePointer<CChar>(
          bitPattern: Interruption.path.load(ordering: .relaxed))
        {
          unlink(path)
        }
        signal(number, SIG_DFL)
        raise(number)
      }
      // Who starts a command to outlive its terminal has the signal ignored: so it stays.
      if unsafeBitCast(former, to: Int.self) == unsafeBitCast(SIG_IGN, to: Int.self) {
        signal(number, SIG_IGN)
      }
    }
  }

  /// Takes note of the file that is being written, nil for none.
  static func watch(_ file: String?) {
    // Never freed: a handler on another thread may be reading the former one.
    path.store(UInt(bitPattern: file.flatMap { strdup($0) }), ordering: .relaxed)
  }
}
