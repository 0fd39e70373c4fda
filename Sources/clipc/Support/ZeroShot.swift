import Datasets
import Evaluation
import Operators

/// Class embeddings from prompts.
struct ZeroShot {
  /// A normalized row for each class: the mean of its prompts' normalized embeddings.
  static func classEmbeddings(
    _ names: [String], templates: Prompts, _ inputs: ModelInputs
  ) throws -> Embeddings {
    let width = inputs.encoder.embeddingWidth
    try Matrix.open()
    let prompts = names.flatMap { templates.prompts(for: $0) }
    let rows = Embeddings(
      width: width, values: try inputs.encoder.encodeTexts(try inputs.tokenIDs(prompts)))
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
