import ArgumentParser
import Evaluation
import Foundation
import Operators

/// `clipc classify`: says which label fits an image best.
struct Classify: Command {
  static let configuration = CommandConfiguration(
    abstract: "Say which label fits each image best.",
    discussion: "A runtime file that was exported with --labels needs none here.")

  @Argument(help: "Any model.") var model: String
  @OptionGroup var labels: LabelOptions
  @Flag(help: "Turn images upright as their EXIF orientation says.") var exif = false
  @Argument(help: "JPEG or PNG files.") var images: [String]
  @OptionGroup var common: CommonOptions

  func execute() throws {
    let given = try labels.names()
    guard !images.isEmpty else { throw Failure(.usage, "give at least one image") }
    let inputs = try ModelInputs(
      try OpenedModel(path: model), threadCount: common.threads, appliesOrientation: exif)
    let (names, classes) = try classes(given, inputs)
    var rows = Embeddings(width: inputs.encoder.embeddingWidth)
    try inputs.encodeImages(paths: images) { rows.append($0) }
    let scores = rows.similarities(to: classes)
    var results: [JSON] = []
    for (index, image) in images.enumerated() {
      let row = scores[(index * names.count)..<((index + 1) * names.count)]
      let ranked = Self.ranked(names, row, scale: inputs.encoder.logitScale)
      if common.json {
        results.append(
          .object([
            ("image", .text(image)), ("label", .text(ranked[0].label)),
            (
              "labels",
              .array(
                ranked.map { entry in
                  .object([
                    ("label", .text(entry.label)),
                    ("probability", .rounded(entry.probability, 6)),
                    ("cosine", .rounded(Double(entry.cosine), 6)),
                  ])
                })
            ),
          ]))
      } else {
        let best = ranked.prefix(3).map {
          String(format: "%@ %.1f%%", printable($0.label), 100 * $0.probability)
        }
        Terminal.print("\(printable(image)): \(best.joined(separator: ", "))")
      }
    }
    if common.json { Terminal.print(JSON.object([("images", .array(results))]).text) }
  }

  /// The labels of the command line, or those of the file, with their embeddings.
  private func classes(
    _ given: [String]?, _ inputs: ModelInputs
  ) throws -> (names: [String], embeddings: Embeddings) {
    if let given {
      guard inputs.encoder.vocabularyCount != nil else {
        throw Failure(
          .usage, "\(model): it has no text tower to make embeddings of --labels with")
      }
      return (
        given, try ZeroShot.classEmbeddings(given, templates: try labels.prompts(), inputs)
      )
    }
    guard let known = try inputs.opened.fileLabels() else {
      throw Failure(.usage, "give --labels: \(model) has none of its own")
    }
    try Matrix.open()
    return (known.names, known.embeddings)
  }

  private struct Ranked {
    let label: String
    let probability: Double
    let cosine: Float
  }

  private static func ranked(
    _ names: [String], _ cosines: ArraySlice<Float>, scale: Float
  ) -> [Ranked] {
    let largest = cosines.max() ?? 0
    let weights = cosines.map { exp(Double(scale) * Double($0 - largest)) }
    let sum = weights.reduce(0, +)
    let entries = zip(names, zip(weights, cosines)).map {
      Ranked(label: $0, probability: $1.0 / sum, cosine: $1.1)
    }
    return entries.enumerated().sorted {
      ($1.element.probability, $0.offset) < ($0.element.probability, $1.offset)
    }.map(\.element)
  }
}
