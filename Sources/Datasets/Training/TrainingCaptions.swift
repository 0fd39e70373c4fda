import Synchronization
import TensorCore

/// The token ids that go with a sample in training.
///
/// Ids are kept for each distinct text, so that a text is tokenized once.
package final class TrainingCaptions: Sendable {
  /// Texts whose ids are kept.
  private static let mostTexts = 1 << 17

  private let text: @Sendable (Sample, inout SplitMix64) throws -> String
  private let tokenize: @Sendable (String) throws -> [Int32]
  private let ids = Mutex<[String: [Int32]]>([:])

  /// A sample's own caption; where it has none, a template with the name of its class, another one
  /// each epoch where there are several.
  ///
  /// - Parameters:
  ///   - prompts: the templates.
  ///   - classNames: of the data.
  ///   - tokenize: makes ids of a text, the end token last, no more than the model takes; runs on
  ///     several threads.
  package convenience init(
    prompts: Prompts = .standard, classNames: [String],
    tokenize: @escaping @Sendable (String) throws -> [Int32]
  ) {
    let texts = classNames.map { prompts.prompts(for: $0) }
    self.init(
      text: { sample, generator in
        if let caption = sample.caption { return caption }
        guard let classIndex = sample.classIndex, texts.indices.contains(classIndex) else {
          throw DataError.malformed(
            place: sample.name, expected: "a caption, or a class with a name", found: "neither")
        }
        let choices = texts[classIndex]
        return choices[generator.nextIndex(below: choices.count)]
      }, tokenize: tokenize)
  }

  /// Texts that the caller chooses.
  ///
  /// - Parameters:
  ///   - text: the text of a sample; what it draws is decided by seed, sample and epoch alone.
  ///   - tokenize: makes ids of a text, the end token last, no more than the model takes; runs on
  ///     several threads.
  package init(
    text: @escaping @Sendable (Sample, inout SplitMix64) throws -> String,
    tokenize: @escaping @Sendable (String) throws -> [Int32]
  ) {
    self.text = text
    self.tokenize = tokenize
  }

  /// The ids of `sample`, the one at `index`, in `epoch`; one at least.
  ///
  /// - Throws: what the closures throw, and ``DataError/malformed(place:expected:found:)`` for a
  ///   sample without words.
  func ids(of sample: Sample, index: Int, epoch: Int, seed: UInt64) throws -> [Int32] {
    var generator = SplitMix64(seed: seed, stream: .caption, index, epoch)
    let text = try text(sample, &generator)
    if let known = ids.withLock({ $0[text] }) { return known }
    let made = try tokenize(text)
    guard !made.isEmpty else {
      throw DataError.malformed(
        place: sample.name, expected: "a caption of one token at least", found: "'\(text)'")
    }
    ids.withLock { if $0.count < Self.mostTexts { $0[text] = made } }
    return made
  }
}
