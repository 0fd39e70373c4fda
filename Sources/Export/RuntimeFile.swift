import Evaluation
import Foundation
import GraphIR
import ModelFormat
import Operators
import TensorCore

/// The runtime form of a model: its towers as programs over packed weights.
package struct RuntimeFile {
  private let writer: ModelWriter

  /// Lowers the towers of `model`.
  ///
  /// - Parameters:
  ///   - model: a verified graph with its tokenizer and image preprocessing.
  ///   - towers: which towers; both by default.
  ///   - labels: classes that the file knows by itself.
  ///   - expands: stores pruned weights as they are multiplied, even where that takes more bytes, so
  ///     that nothing is to be made of them when the file is opened.
  /// - Throws: ``ExportError`` when a node has no instruction or the graph lacks something.
  package init(
    _ model: CLIPModel, towers: Set<Tower> = [.image, .text], labels: BakedLabels? = nil,
    expands: Bool = false
  ) throws(ExportError) {
    let facts = try ModelFacts(model, towers: towers)
    var writer = ModelWriter(info: facts.info)
    for tower in Tower.allCases where towers.contains(tower) {
      let name = tower == .image ? "image_embeds" : "text_embeds"
      let graph: Graph
      do { graph = try model.graph.extracting(outputs: [name]) } catch { throw .graph(error) }
      let builder = ProgramBuilder(
        poolingRule: tower == .image ? .firstRow : facts.poolingRule, endToken: facts.endToken)
      var lowering = Lowering(graph, writer: writer, builder: builder, expands: expands)
      try lowering.lower()
      writer = lowering.writer
      writer.set(lowering.builder.build(), names: lowering.builder.names, for: tower)
    }
    if towers.contains(.text), let tokenizer = model.tokenizer {
      writer.set(tokenizer, for: .tokenizer)
    }
    if towers.contains(.image) { writer.set(model.imageTransform, for: .imageTransform) }
    var summary = ModelSummary(model.graph)
    if let labels {
      guard labels.embeddings.count == labels.names.count * facts.info.embeddingWidth else {
        throw .missing("label embeddings of its width")
      }
      writer.setLabels(labels.names, embeddings: labels.embeddings)
      summary.provenance.append(labels.provenance)
    }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    do {
      writer.set([UInt8](try encoder.encode(summary)), for: .metadata)
    } catch {
      throw .missing("encodable summary: \(error)")
    }
    self.writer = writer
  }

  /// Hands the file's bytes to `sink` piece by piece.
  package func write(
    to sink: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    do {
      try writer.write(to: sink)
    } catch {
      switch error {
      case .model(let fault): throw ExportError.format(fault)
      case .sink(let fault): throw fault
      }
    }
  }

  /// The whole file in memory.
  package func serialized() throws(ExportError) -> [UInt8] {
    do { return try writer.serialized() } catch { throw .format(error) }
  }
}
