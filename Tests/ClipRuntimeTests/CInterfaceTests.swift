import CClip
import ClipRuntime
import ModelFormat
import RuntimeFixtures
import Testing

@Suite struct CInterfaceTests {
  @Test func aModelIsOpenedQueriedAndRun() throws {
    let file = try TinyFile(TinyModel())
    var model: OpaquePointer?
    #expect(clip_model_open(file.bytes.raw.baseAddress, file.bytes.count, &model) == CLIP_STATUS_OK)
    defer { clip_model_close(model) }
    var properties = clip_model_properties()
    #expect(clip_model_query(model, &properties) == CLIP_STATUS_OK)
    #expect(properties.embedding_width == 6)
    #expect(properties.has_image_tower && properties.has_text_tower)
    #expect(properties.image_height == 9 && properties.image_channel_count == 3)
    #expect(properties.context_length == 8 && properties.vocabulary_count == 19)
    #expect(properties.end_token == 18 && properties.logit_scale == 14.3)
    var interpreter: OpaquePointer?
    #expect(clip_interpreter_create(model, 2, 2, 77, &interpreter) == CLIP_STATUS_OK)
    defer { clip_interpreter_destroy(interpreter) }
    var own = try file.interpreter()
    var found = [Float](repeating: 0, count: 18)
    #expect(clip_encode_images(interpreter, file.tiny.pixels(3), 3, &found) == CLIP_STATUS_OK)
    #expect(try found == file.images(3, &own))
    let ids = file.tiny.texts(3, tokenCount: 8)
    #expect(clip_encode_texts(interpreter, ids, 3, 8, &found) == CLIP_STATUS_OK)
    #expect(try found == file.texts(3, tokens: 8, &own))
  }

  @Test func wrongCallsHaveTheirStatus() throws {
    let file = try TinyFile(TinyModel())
    var damaged = [UInt8](file.bytes.raw)
    damaged[100] ^= 1
    var newer = [UInt8](file.bytes.raw)
    newer[8] = 2
    var model: OpaquePointer?
    func open(_ bytes: [UInt8]) -> clip_status {
      let aligned = AlignedBytes(bytes)
      return clip_model_open(aligned.raw.baseAddress, aligned.count, &model)
    }
    #expect(open(damaged) == CLIP_STATUS_MALFORMED_MODEL)
    #expect(open(newer) == CLIP_STATUS_UNSUPPORTED_MODEL)
    #expect(open([]) == CLIP_STATUS_MALFORMED_MODEL)
    #expect(clip_model_open(nil, 0, &model) == CLIP_STATUS_INVALID_ARGUMENT)
    #expect(clip_model_open(file.bytes.raw.baseAddress, -1, &model) == CLIP_STATUS_INVALID_ARGUMENT)
    #expect(model == nil)
    #expect(clip_model_query(nil, nil) == CLIP_STATUS_INVALID_ARGUMENT)
    clip_model_close(nil)
    clip_interpreter_destroy(nil)

    #expect(clip_model_open(file.bytes.raw.baseAddress, file.bytes.count, &model) == CLIP_STATUS_OK)
    defer { clip_model_close(model) }
    var interpreter: OpaquePointer?
    for (threads, batch, tokens) in [(0, 1, 8), (65, 1, 8), (1, 0, 8), (1, -1, 8), (1, 1, -1)] {
      let status = clip_interpreter_create(model, threads, batch, tokens, &interpreter)
      #expect(status == CLIP_STATUS_INVALID_ARGUMENT && interpreter == nil)
    }
    #expect(clip_interpreter_create(model, 1, 1, 4, &interpreter) == CLIP_STATUS_OK)
    defer { clip_interpreter_destroy(interpreter) }
    var result = [Float](repeating: 0, count: 6)
    func texts(_ ids: [Int32], _ count: Int, _ tokens: Int) -> clip_status {
      clip_encode_texts(interpreter, ids, count, tokens, &result)
    }
    #expect(texts([0, 1, 2, 3, 4], 1, 5) == CLIP_STATUS_TEXT_TOO_LONG)
    #expect(texts([0, 19], 1, 2) == CLIP_STATUS_TOKEN_OUT_OF_RANGE)
    #expect(texts([0], .max, .max) == CLIP_STATUS_INVALID_ARGUMENT)
    #expect(texts([0], -1, 1) == CLIP_STATUS_INVALID_ARGUMENT)
    #expect(texts([0], 1, 0) == CLIP_STATUS_INVALID_ARGUMENT)
    #expect(clip_encode_images(interpreter, nil, 1, &result) == CLIP_STATUS_INVALID_ARGUMENT)
    #expect(clip_encode_images(interpreter, [0], .max, &result) == CLIP_STATUS_INVALID_ARGUMENT)
  }

  @Test func everyStatusHasItsMessage() throws {
    var messages: Set<String> = []
    for value in 0...8 {
      let message = try #require(clip_status_message(clip_status(UInt32(value))))
      messages.insert(String(cString: message))
    }
    #expect(messages.count == 9)
  }
}
