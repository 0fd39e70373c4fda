import Datasets
import Evaluation
import Operators

/// Class embeddings from prompts.
struct ZeroShot {
  /// A normalized row for each class: the mean of its prompts' normalized embeddings, or what a file
  /// without a text tower has for the class.
  static func classEmbeddings(
    _ names: [String], templates: Prompts, _ inputs: ModelInputs
  ) throws -> Embeddings {
    if inputs.encoder.vocabularyCount == nil, let labels = try inputs.opened.fileLabels() {
      try Matrix.open()
      return try labels.rows(of: names, path: inputs.opened.path)
    }
    return try classEmbeddings(names, templates: templates, inputs.encoder, inputs.tokenIDs)
  }

  /// A normalized row for each class: the mean of its prompts' normalized embeddings.
  static func classEmbeddings(
    _ names: [String], templates: Prompts, _ encoder: any Encoder,
    _ tokenIDs: ([String]) throws -> [[Int32]]
  ) throws -> Embeddings {
    let width = encoder.embeddingWidth
    try Matrix.open()
    let prompts = names.flatMap { templates.prompts(for: $0) }
    let rows = Embeddings(
      width: width, values: try encoder.encodeTexts(try tokenIDs(prompts)))
    var classes = Embeddings(width: width)
    let count = prompts.count / max(names.count, 1)
    for index in names.indices {
      let start = index * count * width
      let values = Array(rows.values[start..<(start + count * width)])
      classes.append(Embeddings(width: width, values: values).normalizedMean())
    }
    return classes
  }
}
