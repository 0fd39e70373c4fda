// swift-format-ignore-file: AlwaysUseLowerCamelCase

import CClip
import ModelFormat

/// Holds every byte against the format, see `clipc.h`.
@c @implementation
public func clip_model_verify(
  _ bytes: UnsafeRawPointer?, _ byteCount: Int, _ message: UnsafeMutablePointer<CChar>?,
  _ messageByteCount: Int
) -> clip_status {
  guard let bytes, byteCount >= 0, messageByteCount >= 0 else {
    return CLIP_STATUS_INVALID_ARGUMENT
  }
  var status = CLIP_STATUS_OK
  var text = Sentence(message, messageByteCount)
  do throws(ModelError) {
    _ = try ModelReader(
      UnsafeRawBufferPointer(start: bytes, count: byteCount), integrity: .everything)
  } catch {
    status = clip_status(error)
    text.append(error, status)
  }
  text.end()
  return status
}

/// A sentence in the caller's memory, cut to what fits there.
private struct Sentence {
  private let start: UnsafeMutablePointer<CChar>?
  private let room: Int
  private var count = 0

  init(_ start: UnsafeMutablePointer<CChar>?, _ byteCount: Int) {
    self.start = start
    room = byteCount - 1
  }

  /// Without a standard library there are no sentences with numbers, only one for each status.
  mutating func append(_ error: ModelError, _ status: clip_status) {
    #if hasFeature(Embedded)
      guard var next = clip_status_message(status) else { return }
      while next.pointee != 0 {
        append(next.pointee)
        next += 1
      }
    #else
      for byte in error.description.utf8 { append(CChar(bitPattern: byte)) }
    #endif
  }

  private mutating func append(_ character: CChar) {
    guard let start, count < room else { return }
    start[count] = character
    count += 1
  }

  func end() {
    if let start, room >= 0 { start[count] = 0 }
  }
}
