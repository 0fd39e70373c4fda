import TensorCore

/// Images and the texts that they are to be told apart by: what cross-modal quality is measured on.
package struct PairSet: Sendable {
  /// What the candidates are.
  package enum Task: String, Codable, Sendable {
    /// Classes, each a mean of the embeddings of its prompts.
    case zeroShot = "zero-shot"
    /// Distinct captions.
    case retrieval
  }

  /// What the candidates are.
  package let task: Task
  /// The images, float32 `[images, channels, rows, columns]`.
  package let pixels: Tensor
  /// The texts, each from its start to its end token, unpadded.
  package let texts: [[Int32]]
  /// For each candidate the indices of its texts; one index for a caption.
  package let candidates: [[Int]]
  /// For each image the index of the candidate it belongs to.
  package let targets: [Int]

  /// Puts images, texts and their relation together.
  ///
  /// - Precondition: every index lies within what it points into, and no candidate is empty.
  package init(
    task: Task, pixels: Tensor, texts: [[Int32]], candidates: [[Int]], targets: [Int]
  ) {
    precondition(pixels.shape.count == 4 && pixels.shape[0] == targets.count)
    precondition(targets.allSatisfy(candidates.indices.contains))
    precondition(
      candidates.allSatisfy { !$0.isEmpty && $0.allSatisfy(texts.indices.contains) })
    self.task = task
    self.pixels = pixels
    self.texts = texts
    self.candidates = candidates
    self.targets = targets
  }

  /// How many images there are.
  package var imageCount: Int { targets.count }

  /// The ids of `rows` of ``texts``, int32 `[rows, tokens]`, padded with zeros behind the end.
  package func tokenIDs(of rows: some Collection<Int>) -> Tensor {
    let length = rows.map { texts[$0].count }.max() ?? 0
    var ids: [Int32] = []
    for row in rows {
      ids += texts[row]
      ids += [Int32](repeating: 0, count: length - texts[row].count)
    }
    return Tensor(shape: [rows.count, length], ids)
  }
}
