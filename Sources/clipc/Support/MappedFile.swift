import CClip
import Glibc

/// A file's bytes in place, read-only.
final class MappedFile {
  /// The bytes.
  let bytes: UnsafeRawBufferPointer

  /// Maps the file at `path`.
  init(path: String) throws {
    var (start, count) = (UnsafeRawPointer?.none, 0)
    guard clip_file_map(path, &start, &count) else {
      let code = clip_file_error()
      guard code == EISDIR || code == EINVAL else {
        throw Failure(.missingInput, "\(path): \(String(cString: strerror(code)))")
      }
      throw Failure(.malformedInput, "\(path): expected a file, found something else")
    }
    guard count > 0 else { throw Failure(.malformedInput, "\(path): the file is empty") }
    bytes = UnsafeRawBufferPointer(start: start, count: count)
  }

  deinit { clip_file_unmap(bytes.baseAddress, bytes.count) }
}
