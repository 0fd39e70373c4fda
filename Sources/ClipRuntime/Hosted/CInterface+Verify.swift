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
  var text = ""
  var status = CLIP_STATUS_OK
  do throws(ModelError) {
    _ = try ModelReader(
      UnsafeRawBufferPointer(start: bytes, count: byteCount), integrity: .everything)
  } catch {
    text = error.description
    status = clip_status(error)
  }
  if let message, messageByteCount > 0 {
    var count = 0
    for byte in text.utf8.prefix(messageByteCount - 1) {
      message[count] = CChar(bitPattern: byte)
      count += 1
    }
    message[count] = 0
  }
  return status
}
