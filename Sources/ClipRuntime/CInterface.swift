// swift-format-ignore-file: AlwaysUseLowerCamelCase

import CClip
import CKernels
import ModelFormat

// `clipc.h` has the contract of these functions; the compiler holds them against it.

/// What a `clip_model` points to.
struct ModelBox {
  /// The model.
  let model: Model
  /// What ends its bytes behind it.
  var release: (@convention(c) (UnsafeRawPointer?, Int) -> Void)?

  /// The box behind a pointer of the interface.
  static func at(_ model: OpaquePointer) -> UnsafeMutablePointer<ModelBox> {
    UnsafeMutablePointer<ModelBox>(model)
  }
}

extension clip_status {
  init(_ error: ModelError) {
    switch error {
    case .unsupportedVersion, .unsupportedSection, .compressedContainer:
      self = CLIP_STATUS_UNSUPPORTED_MODEL
    case .misalignedMemory: self = CLIP_STATUS_INVALID_ARGUMENT
    default: self = CLIP_STATUS_MALFORMED_MODEL
    }
  }

  init(_ error: RuntimeError) {
    switch error {
    case .noSuchTower: self = CLIP_STATUS_NO_SUCH_TOWER
    case .outOfMemory: self = CLIP_STATUS_OUT_OF_MEMORY
    case .textTooLong: self = CLIP_STATUS_TEXT_TOO_LONG
    case .tokenOutOfRange: self = CLIP_STATUS_TOKEN_OUT_OF_RANGE
    default: self = CLIP_STATUS_INVALID_ARGUMENT
    }
  }
}

/// Validates a runtime file in memory, see `clipc.h`.
@c @implementation
public func clip_model_open(
  _ bytes: UnsafeRawPointer?, _ byteCount: Int, _ model: UnsafeMutablePointer<OpaquePointer?>?
) -> clip_status {
  guard let bytes, byteCount >= 0, let model else { return CLIP_STATUS_INVALID_ARGUMENT }
  do throws(ModelError) {
    let opened = try Model(UnsafeRawBufferPointer(start: bytes, count: byteCount))
    let box = UnsafeMutablePointer<ModelBox>.allocate(capacity: 1)
    box.initialize(to: ModelBox(model: opened))
    model.pointee = OpaquePointer(box)
    return CLIP_STATUS_OK
  } catch {
    return clip_status(error)
  }
}

/// Ends a model, see `clipc.h`.
@c @implementation
public func clip_model_close(_ model: OpaquePointer?) {
  guard let model else { return }
  let box = ModelBox.at(model)
  let (bytes, release) = (box.pointee.model.reader.bytes, box.pointee.release)
  box.deinitialize(count: 1)
  box.deallocate()
  release?(bytes.baseAddress, bytes.count)
}

/// Has the bytes ended with the model, see `clip_file.h`.
@c @implementation
public func clip_model_set_release(
  _ model: OpaquePointer?, _ release: (@convention(c) (UnsafeRawPointer?, Int) -> Void)?
) {
  guard let model else { return }
  ModelBox.at(model).pointee.release = release
}

/// Tells the facts of a model, see `clipc.h`.
@c @implementation
public func clip_model_query(
  _ model: OpaquePointer?, _ properties: UnsafeMutablePointer<clip_model_properties>?
) -> clip_status {
  guard let model, let properties else { return CLIP_STATUS_INVALID_ARGUMENT }
  let reader = ModelBox.at(model).pointee.model.reader
  let info = reader.info
  properties.pointee = clip_model_properties(
    embedding_width: info.embeddingWidth, has_image_tower: reader.imageProgram != nil,
    image_channel_count: info.imageChannelCount, image_height: info.imageHeight,
    image_width: info.imageWidth, has_text_tower: reader.textProgram != nil,
    context_length: info.contextLength, vocabulary_count: info.vocabularyCount,
    start_token: Int32(info.startToken), end_token: Int32(info.endToken),
    logit_scale: info.logitScale)
  return CLIP_STATUS_OK
}

/// Makes an interpreter, see `clipc.h`.
@c @implementation
public func clip_interpreter_create(
  _ model: OpaquePointer?, _ threadCount: Int, _ batchLimit: Int, _ tokenLimit: Int,
  _ interpreter: UnsafeMutablePointer<OpaquePointer?>?
) -> clip_status {
  guard let model, let interpreter, batchLimit >= 1 else { return CLIP_STATUS_INVALID_ARGUMENT }
  let limits = Limits(
    imageCount: batchLimit, textCount: tokenLimit == 0 ? 0 : batchLimit, tokenCount: tokenLimit)
  do throws(RuntimeError) {
    let made = try Interpreter(
      ModelBox.at(model).pointee.model, limits: limits, threadCount: threadCount)
    let box = UnsafeMutablePointer<Interpreter>.allocate(capacity: 1)
    box.initialize(to: made)
    interpreter.pointee = OpaquePointer(box)
    return CLIP_STATUS_OK
  } catch {
    return clip_status(error)
  }
}

/// Ends an interpreter, see `clipc.h`.
@c @implementation
public func clip_interpreter_destroy(_ interpreter: OpaquePointer?) {
  guard let interpreter else { return }
  let box = UnsafeMutablePointer<Interpreter>(interpreter)
  box.deinitialize(count: 1)
  box.deallocate()
}

/// Tells what an interpreter is made of, see `clipc.h`.
@c @implementation
public func clip_interpreter_query(
  _ interpreter: OpaquePointer?,
  _ properties: UnsafeMutablePointer<clip_interpreter_properties>?
) -> clip_status {
  guard let interpreter, let properties else { return CLIP_STATUS_INVALID_ARGUMENT }
  let box = UnsafeMutablePointer<Interpreter>(interpreter)
  let limits = box.pointee.limits
  properties.pointee = clip_interpreter_properties(
    arena_byte_count: box.pointee.arenaByteCount,
    thread_count: box.pointee.threadCount, batch_limit: max(limits.imageCount, limits.textCount),
    token_limit: limits.tokenCount,
    kernel_set: clip_kernel_sets_name(box.pointee.kernelSet))
  return CLIP_STATUS_OK
}

/// Embeds preprocessed images, see `clipc.h`.
@c @implementation
public func clip_encode_images(
  _ interpreter: OpaquePointer?, _ pixels: UnsafePointer<Float>?, _ count: Int,
  _ embeddings: UnsafeMutablePointer<Float>?
) -> clip_status {
  guard let interpreter, let pixels, let embeddings else { return CLIP_STATUS_INVALID_ARGUMENT }
  let box = UnsafeMutablePointer<Interpreter>(interpreter)
  let model = box.pointee.model
  let (pixelCount, overflow) = count.multipliedReportingOverflow(by: model.pixelCount)
  let (width, widthOverflow) = count.multipliedReportingOverflow(by: model.info.embeddingWidth)
  guard count >= 0, !overflow, !widthOverflow else { return CLIP_STATUS_INVALID_ARGUMENT }
  let input = UnsafeBufferPointer(start: pixels, count: pixelCount)
  let output = UnsafeMutableBufferPointer(start: embeddings, count: width)
  var span = output.mutableSpan
  do throws(RuntimeError) {
    try box.pointee.encodeImages(input.span, count: count, into: &span)
    return CLIP_STATUS_OK
  } catch {
    return clip_status(error)
  }
}

/// Embeds texts, see `clipc.h`.
@c @implementation
public func clip_encode_texts(
  _ interpreter: OpaquePointer?, _ tokens: UnsafePointer<Int32>?, _ count: Int,
  _ tokenCount: Int, _ embeddings: UnsafeMutablePointer<Float>?
) -> clip_status {
  guard let interpreter, let tokens, let embeddings else { return CLIP_STATUS_INVALID_ARGUMENT }
  let box = UnsafeMutablePointer<Interpreter>(interpreter)
  let info = box.pointee.model.info
  let (idCount, overflow) = count.multipliedReportingOverflow(by: tokenCount)
  let (width, widthOverflow) = count.multipliedReportingOverflow(by: info.embeddingWidth)
  guard count >= 0, tokenCount >= 1, !overflow, !widthOverflow else {
    return CLIP_STATUS_INVALID_ARGUMENT
  }
  let input = UnsafeBufferPointer(start: tokens, count: idCount)
  let output = UnsafeMutableBufferPointer(start: embeddings, count: width)
  var span = output.mutableSpan
  do throws(RuntimeError) {
    try box.pointee.encodeTexts(
      input.span, count: count, tokenCount: tokenCount, into: &span)
    return CLIP_STATUS_OK
  } catch {
    return clip_status(error)
  }
}

/// A sentence about a status, see `clipc.h`.
@c @implementation
public func clip_status_message(_ status: clip_status) -> UnsafePointer<CChar>? {
  let message: StaticString =
    switch status {
    case CLIP_STATUS_OK: "done"
    case CLIP_STATUS_INVALID_ARGUMENT: "an argument is null, out of range or misaligned"
    case CLIP_STATUS_MALFORMED_MODEL: "the bytes are no runtime file, or a damaged one"
    case CLIP_STATUS_UNSUPPORTED_MODEL: "the runtime file needs another version of the library"
    case CLIP_STATUS_OUT_OF_MEMORY: "the memory asked for is not there"
    case CLIP_STATUS_NO_SUCH_TOWER: "the model or the interpreter has no such tower"
    case CLIP_STATUS_TOKEN_OUT_OF_RANGE: "a token id is not in the vocabulary"
    case CLIP_STATUS_TEXT_TOO_LONG: "a text is longer than the interpreter's limit"
    case CLIP_STATUS_UNREADABLE_FILE: "the file cannot be opened or mapped"
    default: "unknown status"
    }
  return UnsafeRawPointer(message.utf8Start).assumingMemoryBound(to: CChar.self)
}

/// Tells the version of the library, see `clipc.h`.
@c @implementation
public func clip_version() -> UnsafePointer<CChar>? {
  UnsafeRawPointer(RuntimeVersion.text.utf8Start).assumingMemoryBound(to: CChar.self)
}

/// Tells the newest format that is known, see `clipc.h`.
@c @implementation
public func clip_format_version() -> UInt32 {
  UInt32(Layout.majorVersion) << 16 | UInt32(Layout.minorVersion)
}
