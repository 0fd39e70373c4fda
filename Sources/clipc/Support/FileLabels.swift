import Datasets
import Evaluation
import Export
import GraphIR
import ModelFormat
import Preprocessing

/// The classes that a runtime file knows by itself, with their embeddings.
struct FileLabels {
  /// The names in the file's order.
  let names: [String]
  /// A row for each name.
  let embeddings: Embeddings

  /// Copies a file's table.
  init(_ table: LabelTable) {
    names = table.allNames
    embeddings = Embeddings(
      width: table.embeddings.count / table.count, values: Array(table.embeddings))
  }

  /// The rows of `classes`, which are those of the file in any order.
  ///
  /// - Throws: ``Failure`` naming a class that only one side has. Underscores are spaces, as they are
  ///   in prompts.
  func rows(of classes: [String], path: String) throws -> Embeddings {
    func key(_ name: String) -> String { String(name.map { $0 == "_" ? " " : $0 }) }
    let places = Dictionary(
      names.enumerated().map { (key($0.element), $0.offset) },
      uniquingKeysWith: { first, _ in first })
    let keys = classes.map(key)
    var rows = Embeddings(width: embeddings.width)
    for (name, key) in zip(classes, keys) {
      guard let place = places[key] else {
        throw Failure(
          .malformedInput,
          "\(path): it has no text tower, and no label for the class '\(name)' of the data")
      }
      rows.append(embeddings[place])
    }
    if let other = names.first(where: { !keys.contains(key($0)) }) {
      throw Failure(
        .malformedInput,
        "\(path): it has no text tower, and its label '\(other)' is no class of the data")
    }
    return rows
  }
}

extension OpenedModel {
  /// The classes that the model knows by itself; nil where it knows none.
  func fileLabels() throws -> FileLabels? {
    guard case .runtime(let content) = content else { return nil }
    do { return try ModelReader(content.bytes).labels.map(FileLabels.init) } catch {
      throw Failure(.malformedInput, "\(path): \(error)")
    }
  }
}

extension BakedLabels {
  /// Computes class embeddings with the text tower that a runtime file of `opened` has, so that they
  /// are those that its interpreter gives.
  init(
    _ names: [String], templates: Prompts, of opened: OpenedModel, _ model: CLIPModel,
    threadCount: Int
  ) throws {
    guard model.graph.output(named: "text_embeds") != nil else {
      throw Failure(.malformedInput, "\(opened.path): --labels needs a model with a text tower")
    }
    let content = RuntimeBytes(try RuntimeFile(model, towers: [.text]).serialized())
    let encoder = try RuntimeEncoder(
      ModelReader(content.bytes), owner: content, threadCount: threadCount)
    let tokenizer = try opened.tokenizer()
    let rows = try ZeroShot.classEmbeddings(names, templates: templates, encoder) { prompts in
      prompts.map { tokenizer.ids(of: $0) }
    }
    self.init(
      names: names, embeddings: rows.values, templates: templates.templates,
      sourceSHA256: try opened.sha256())
  }
}
