import GraphIR

/// Classes that a runtime file is to know by itself.
package struct BakedLabels: Sendable {
  /// Their names, each once.
  package let names: [String]
  /// Their embeddings, `[names, embedding width]`, each row of norm 1.
  package let embeddings: [Float]
  /// How they came to be, for the file's metadata.
  package let provenance: ProvenanceStep

  /// Gathers names and rows.
  ///
  /// - Parameters:
  ///   - names: one at least.
  ///   - embeddings: `[names, embedding width]`, each row of norm 1.
  ///   - templates: the prompts that the embeddings are the mean of, `{}` for the name.
  ///   - sourceSHA256: SHA-256 of the model file whose text tower made them.
  package init(
    names: [String], embeddings: [Float], templates: [String], sourceSHA256: String
  ) {
    self.names = names
    self.embeddings = embeddings
    provenance = ProvenanceStep(
      pass: "labels",
      options: ["count": "\(names.count)", "templates": templates.joined(separator: " | ")],
      seed: 0, inputSHA256: sourceSHA256)
  }
}
