import Export
import GraphIR
import ModelFormat
import Operators
import TensorCore
import TestSupport
import Testing

@Suite struct BakedLabelTests {
  private func labels(_ width: Int, count: Int = 3) -> BakedLabels {
    var random = SplitMix64(seed: 17)
    let rows = (0..<count).flatMap { _ in
      let row = (0..<width).map { _ in Float(random.nextIndex(below: 2_001)) / 1_000 - 1 }
      let norm = row.reduce(0) { $0 + $1 * $1 }.squareRoot()
      return row.map { $0 / norm }
    }
    return BakedLabels(
      names: (0..<count).map { "class \($0)" }, embeddings: rows, templates: ["a {}", "the {}"],
      sourceSHA256: "abc")
  }

  @Test(arguments: [[Tower.image], [.image, .text]])
  func aFileHoldsItsLabelsInPlace(_ towers: [Tower]) throws {
    let model = CLIPModel(
      graph: try RandomCLIP().graph(seed: 3), tokenizer: nil, imageTransform: [])
    let labels = labels(RandomCLIP().projection)
    let bytes = try RuntimeFile(model, towers: Set(towers), labels: labels).serialized()
    let file = try Mapped(bytes)
    let found = try #require(file.reader.labels)
    #expect(found.allNames == labels.names)
    #expect(Array(found.embeddings) == labels.embeddings)
    #expect((file.reader.textProgram == nil) == (towers == [.image]))
    let metadata = try #require(file.reader.section(.metadata))
    let text = String(decoding: metadata, as: UTF8.self)
    #expect(text.contains("a {} | the {}") && text.contains("\"labels\""))
  }

  @Test func labelsOfAnotherWidthAreRefused() throws {
    let model = CLIPModel(
      graph: try RandomCLIP().graph(seed: 3), tokenizer: nil, imageTransform: [])
    #expect(throws: ExportError.self) {
      _ = try RuntimeFile(model, labels: labels(RandomCLIP().projection + 1))
    }
  }
}
