import CAllocationCounter
import CClip
import ClipRuntime
import Foundation
import ModelFormat
import RuntimeFixtures
import Testing

@Suite struct ClassificationTests {
  private static var tiny: TinyModel {
    var tiny = TinyModel()
    tiny.labels = ["cat", "dog", "na\u{EF}ve", "owl", "fox"]
    tiny.embeddingWidth = 37
    return tiny
  }

  /// Softmax of logit scale times cosine, in float64.
  private func expected(
    _ images: [Float], _ classes: [Float], width: Int, scale: Float
  ) -> [Double] {
    func rows(_ values: [Float]) -> [[Double]] {
      stride(from: 0, to: values.count, by: width).map { start in
        let row = values[start..<(start + width)].map { Double($0) }
        let norm = row.reduce(0) { $0 + $1 * $1 }.squareRoot()
        return norm == 0 ? row : row.map { $0 / norm }
      }
    }
    return rows(images).flatMap { image in
      let logits = rows(classes).map { zip(image, $0).reduce(0) { $0 + $1.0 * $1.1 } }
      let weights = logits.map { exp(Double(scale) * $0) }
      return weights.map { $0 / weights.reduce(0, +) }
    }
  }

  @Test(arguments: [1, 2, 5], [1, 3, 40])
  func probabilitiesAreTheSoftmaxOfScaledCosines(_ imageCount: Int, _ classCount: Int) throws {
    let file = try TinyFile(Self.tiny)
    let width = Self.tiny.embeddingWidth
    var numbers = Numbers(seed: UInt64(imageCount * 100 + classCount))
    var images = numbers.floats(imageCount * width, scale: 3)
    let classes = numbers.floats(classCount * width, scale: 0.2)
    if imageCount == 5 { images.replaceSubrange(0..<width, with: repeatElement(0, count: width)) }
    var found = [Float](repeating: .nan, count: imageCount * classCount)
    var span = found.mutableSpan
    try file.model.classify(images.span, classes: classes.span, into: &span)
    let wanted = expected(images, classes, width: width, scale: file.model.info.logitScale)
    #expect(largestDifference(found, wanted) < 2e-6)
    for row in stride(from: 0, to: found.count, by: classCount) {
      #expect(abs(found[row..<(row + classCount)].reduce(0, +) - 1) < 1e-5)
    }
  }

  @Test func labelsAreReadThroughTheInterface() throws {
    let file = try TinyFile(Self.tiny)
    var model: OpaquePointer?
    #expect(clip_model_open(file.bytes.raw.baseAddress, file.bytes.count, &model) == CLIP_STATUS_OK)
    defer { clip_model_close(model) }
    let count = clip_model_label_count(model)
    #expect(count == 5)
    let names = try (0..<count).map {
      String(cString: try #require(clip_model_label_name(model, $0)))
    }
    #expect(names == Self.tiny.labels)
    #expect(clip_model_label_name(model, 5) == nil && clip_model_label_name(model, -1) == nil)
    let rows = try #require(clip_model_label_embeddings(model))
    let values = Array(UnsafeBufferPointer(start: rows, count: 5 * Self.tiny.embeddingWidth))
    #expect(values == file.parts.labelEmbeddings)
    var own = try file.interpreter()
    let images = try file.images(3, &own)
    var found = [Float](repeating: 0, count: 15)
    #expect(clip_classify(model, images, 3, rows, 5, &found) == CLIP_STATUS_OK)
    let wanted = expected(
      images, values, width: Self.tiny.embeddingWidth, scale: file.model.info.logitScale)
    #expect(largestDifference(found, wanted) < 2e-6)
    let plain = try TinyFile(TinyModel())
    var other: OpaquePointer?
    #expect(
      clip_model_open(plain.bytes.raw.baseAddress, plain.bytes.count, &other) == CLIP_STATUS_OK)
    defer { clip_model_close(other) }
    #expect(clip_model_label_count(other) == 0 && clip_model_label_count(nil) == 0)
    #expect(clip_model_label_embeddings(other) == nil && clip_model_label_name(other, 0) == nil)
  }

  @Test func wrongCallsAreRefused() throws {
    let file = try TinyFile(Self.tiny)
    var model: OpaquePointer?
    #expect(clip_model_open(file.bytes.raw.baseAddress, file.bytes.count, &model) == CLIP_STATUS_OK)
    defer { clip_model_close(model) }
    let rows = [Float](repeating: 1, count: 37)
    var found = [Float](repeating: 5, count: 4)
    func classify(_ images: Int, _ classes: Int) -> clip_status {
      clip_classify(model, rows, images, rows, classes, &found)
    }
    #expect(classify(1, 0) == CLIP_STATUS_INVALID_ARGUMENT)
    #expect(classify(-1, 1) == CLIP_STATUS_INVALID_ARGUMENT)
    #expect(classify(.max, 1) == CLIP_STATUS_INVALID_ARGUMENT)
    #expect(classify(1, .max) == CLIP_STATUS_INVALID_ARGUMENT)
    #expect(clip_classify(nil, rows, 1, rows, 1, &found) == CLIP_STATUS_INVALID_ARGUMENT)
    #expect(clip_classify(model, nil, 1, rows, 1, &found) == CLIP_STATUS_INVALID_ARGUMENT)
    #expect(classify(0, 1) == CLIP_STATUS_OK)
    #expect(found == [5, 5, 5, 5])
    func error(_ images: [Float], _ classes: [Float]) -> RuntimeError? {
      var span = found.mutableSpan
      do throws(RuntimeError) {
        try file.model.classify(images.span, classes: classes.span, into: &span)
        return nil
      } catch { return error }
    }
    #expect(error([1, 2], rows) == .embeddingCount(expected: 0, found: 2))
    #expect(error(rows, []) == .embeddingCount(expected: 37, found: 0))
    #expect(error(rows, rows) == .probabilityCount(expected: 1, found: 4))
    #expect(found == [5, 5, 5, 5])
  }

  @Test(.enabled(if: allocation_counter_is_available(), "a sanitizer has the allocator"))
  func classificationAllocatesNothing() throws {
    let file = try TinyFile(Self.tiny)
    var model: OpaquePointer?
    #expect(clip_model_open(file.bytes.raw.baseAddress, file.bytes.count, &model) == CLIP_STATUS_OK)
    defer { clip_model_close(model) }
    let images = Numbers(seed: 4).drawn(3 * 37)
    let rows = try #require(clip_model_label_embeddings(model))
    var found = [Float](repeating: 0, count: 15)
    // Other tests may allocate meanwhile, but not in every one of so many tries.
    var least = Int.max
    for _ in 0..<200 where least > 0 {
      let before = allocation_counter_count()
      _ = clip_classify(model, images, 3, rows, 5, &found)
      least = min(least, Int(allocation_counter_count() - before))
    }
    #expect(least == 0)
  }
}

extension Numbers {
  fileprivate func drawn(_ count: Int) -> [Float] {
    var copy = self
    return copy.floats(count)
  }
}
