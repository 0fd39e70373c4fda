import CClip
import CKernels
import ClipRuntime
import Foundation
import ModelFormat
import RuntimeFixtures
import Testing

/// Models in files, and the rest of what users of the library call.
@Suite struct FileTests {
  /// A file that goes away with the test.
  private final class TemporaryFile {
    let url = FileManager.default.temporaryDirectory.appending(path: "clipc-\(UUID().uuidString)")
    var path: String { url.path }

    init(_ bytes: [UInt8]) throws { try Data(bytes).write(to: url) }

    deinit { try? FileManager.default.removeItem(at: url) }
  }

  /// How many mappings of the process name `path`.
  private func mappingCount(_ path: String) throws -> Int {
    let maps = try #require(fopen("/proc/self/maps", "r"))
    defer { fclose(maps) }
    var line = [CChar](repeating: 0, count: 4096)
    var count = 0
    while fgets(&line, Int32(line.count), maps) != nil {
      let text = line.withUnsafeBytes { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if text.hasSuffix(path + "\n") { count += 1 }
    }
    return count
  }

  @Test func aFileIsMappedUntilItsModelIsClosed() throws {
    let tiny = try TinyFile(TinyModel())
    let file = try TemporaryFile([UInt8](tiny.bytes.raw))
    var model: OpaquePointer?
    #expect(clip_model_open_file(file.path, &model) == CLIP_STATUS_OK)
    var interpreter: OpaquePointer?
    #expect(clip_interpreter_create(model, 1, 2, 8, &interpreter) == CLIP_STATUS_OK)
    var found = [Float](repeating: 0, count: 18)
    #expect(clip_encode_images(interpreter, tiny.tiny.pixels(3), 3, &found) == CLIP_STATUS_OK)
    var own = try tiny.interpreter()
    #expect(try found == tiny.images(3, &own))
    clip_interpreter_destroy(interpreter)
    #expect(try mappingCount(file.path) == 1)
    clip_model_close(model)
    #expect(try mappingCount(file.path) == 0)
  }

  @Test func filesThatAreNoModelsAreNotKept() throws {
    var model: OpaquePointer?
    func open(_ path: String) -> clip_status { clip_model_open_file(path, &model) }
    let folder = FileManager.default.temporaryDirectory.path
    #expect(open(folder + "/nowhere-at-all") == CLIP_STATUS_UNREADABLE_FILE)
    #expect(open(folder) == CLIP_STATUS_UNREADABLE_FILE)
    #expect(open("/dev/null") == CLIP_STATUS_UNREADABLE_FILE)
    let empty = try TemporaryFile([])
    #expect(open(empty.path) == CLIP_STATUS_MALFORMED_MODEL)
    withExtendedLifetime(empty) {}
    let damaged = try TemporaryFile([UInt8](repeating: 7, count: 5_000))
    #expect(open(damaged.path) == CLIP_STATUS_MALFORMED_MODEL)
    #expect(try mappingCount(damaged.path) == 0)
    #expect(model == nil)
    #expect(clip_model_open_file(nil, &model) == CLIP_STATUS_INVALID_ARGUMENT)
    #expect(clip_model_open_file("x", nil) == CLIP_STATUS_INVALID_ARGUMENT)
  }

  @Test func aMappedModelLastsAsLongAsItsObject() throws {
    let tiny = try TinyFile(TinyModel())
    let file = try TemporaryFile([UInt8](tiny.bytes.raw))
    do {
      let mapped = try MappedModel(path: file.path, integrity: .everything)
      #expect(mapped.model.info == tiny.model.info)
      #expect(try mappingCount(file.path) == 1)
      withExtendedLifetime(mapped) {}
    }
    #expect(try mappingCount(file.path) == 0)
    #expect(throws: MappingError.unreadable(path: "/nowhere", code: ENOENT)) {
      _ = try MappedModel(path: "/nowhere")
    }
    let empty = try TemporaryFile([])
    #expect(throws: MappingError.model(path: empty.path, .tooShort(byteCount: 0))) {
      _ = try MappedModel(path: empty.path)
    }
    let sentence = MappingError.unreadable(path: "/nowhere", code: ENOENT).description
    #expect(sentence == "/nowhere: No such file or directory")
  }

  @Test func verifyTellsWhatIsWrongInTheCallersRoom() throws {
    let tiny = try TinyFile(TinyModel())
    var bytes = [UInt8](tiny.bytes.raw)
    func verify(_ room: Int) -> (clip_status, String) {
      let aligned = AlignedBytes(bytes)
      var text = [CChar](repeating: 65, count: max(1, room) + 1)
      let status = clip_model_verify(aligned.raw.baseAddress, aligned.count, &text, room)
      #expect(text[room] == 65, "nothing is written behind the room")
      let bytes = text.prefix(room).prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
      return (status, String(decoding: bytes, as: UTF8.self))
    }
    #expect(verify(200) == (CLIP_STATUS_OK, ""))
    bytes[bytes.count - 64] ^= 1
    let (status, sentence) = verify(200)
    #expect(status == CLIP_STATUS_MALFORMED_MODEL)
    #expect(sentence.contains("section weights: expected checksum"))
    #expect(verify(12).1 == String(sentence.prefix(11)))
    #expect(verify(1) == (status, ""))
    #expect(verify(0) == (status, ""))
    #expect(clip_model_verify(nil, 0, nil, 0) == CLIP_STATUS_INVALID_ARGUMENT)
  }

  @Test func anInterpreterTellsWhatItIsMadeOf() throws {
    let tiny = try TinyFile(TinyModel())
    var model: OpaquePointer?
    #expect(clip_model_open(tiny.bytes.raw.baseAddress, tiny.bytes.count, &model) == CLIP_STATUS_OK)
    defer { clip_model_close(model) }
    var interpreter: OpaquePointer?
    #expect(clip_interpreter_create(model, 3, 2, 77, &interpreter) == CLIP_STATUS_OK)
    defer { clip_interpreter_destroy(interpreter) }
    var facts = clip_interpreter_properties()
    #expect(clip_interpreter_query(interpreter, &facts) == CLIP_STATUS_OK)
    #expect(facts.thread_count == 3 && facts.batch_limit == 2 && facts.token_limit == 8)
    let limits = Limits(imageCount: 2, textCount: 2, tokenCount: 8)
    let size = try Interpreter.arenaByteCount(tiny.model, limits: limits, threadCount: 3)
    #expect(facts.arena_byte_count == size)
    let best = String(cString: clip_kernel_sets_name(clip_kernel_sets_best()))
    #expect(facts.kernel_set.map { String(cString: $0) } == best)
    #expect(clip_interpreter_query(interpreter, nil) == CLIP_STATUS_INVALID_ARGUMENT)
    #expect(clip_interpreter_query(nil, &facts) == CLIP_STATUS_INVALID_ARGUMENT)
  }

  @Test func versionsAreTold() throws {
    let version = String(cString: try #require(clip_version()))
    #expect(version == "\(RuntimeVersion.text)")
    #expect(version.split(separator: ".").compactMap { Int($0) }.count == 3)
    #expect(clip_format_version() == 1 << 16 | UInt32(Layout.minorVersion))
  }

  /// Four threads with an interpreter each over one model compute what one does alone.
  @Test(arguments: TinyPrecision.allCases)
  func interpretersOverOneModelRunAtTheSameTime(_ precision: TinyPrecision) throws {
    var tiny = TinyModel()
    tiny.precision = precision
    tiny.labels = ["cat", "dog", "owl"]
    let file = try TinyFile(tiny)
    var model: OpaquePointer?
    #expect(clip_model_open(file.bytes.raw.baseAddress, file.bytes.count, &model) == CLIP_STATUS_OK)
    defer { clip_model_close(model) }
    let alone = results(model, file)
    #expect(alone.allSatisfy(\.isFinite) && alone.count == 30 + 30 + 15)
    let shared = Shared(model: model, file: file)
    for _ in 0..<8 {
      let threads = (0..<4).map { index in
        let thread = Thread {
          shared.finish(index, results(shared.model, shared.file))
        }
        thread.start()
        return thread
      }
      #expect(threads.count == 4)
      for _ in 0..<4 { shared.done.wait() }
      for index in 0..<4 { #expect(shared.take(index) == alone) }
    }
  }

  /// What the threads share; every thread writes a place of its own under the lock.
  private final class Shared: @unchecked Sendable {
    let model: OpaquePointer?
    let file: TinyFile
    let done = DispatchSemaphore(value: 0)
    private let lock = NSLock()
    private var found: [Int: [Float]] = [:]

    init(model: OpaquePointer?, file: TinyFile) {
      self.model = model
      self.file = file
    }

    func finish(_ index: Int, _ values: [Float]) {
      lock.withLock { found[index] = values }
      done.signal()
    }

    func take(_ index: Int) -> [Float]? { lock.withLock { found.removeValue(forKey: index) } }
  }
}

/// Embeddings of images and texts and probabilities of labels, by an interpreter of the call's own.
private func results(_ model: OpaquePointer?, _ file: TinyFile) -> [Float] {
  var interpreter: OpaquePointer?
  guard clip_interpreter_create(model, 2, 2, 8, &interpreter) == CLIP_STATUS_OK else { return [] }
  defer { clip_interpreter_destroy(interpreter) }
  var images = [Float](repeating: .nan, count: 5 * 6)
  var texts = images
  var probabilities = [Float](repeating: .nan, count: 5 * 3)
  let pixels = file.tiny.pixels(5)
  let ids = file.tiny.texts(5, tokenCount: 8)
  for _ in 0..<5 {
    guard clip_encode_images(interpreter, pixels, 5, &images) == CLIP_STATUS_OK,
      clip_encode_texts(interpreter, ids, 5, 8, &texts) == CLIP_STATUS_OK,
      clip_classify(model, images, 5, clip_model_label_embeddings(model), 3, &probabilities)
        == CLIP_STATUS_OK
    else { return [] }
  }
  return images + texts + probabilities
}
