import GraphIR
import TensorCore

/// The part of a ``PairSet`` that one product with second derivatives is taken over.
package struct PairBatch: Sendable {
  /// The inputs of a ``PairLoss``, the targets as the labels say.
  package private(set) var inputs: [String: Tensor]
  /// How many images the part has.
  package let imageCount: Int

  /// Takes part `part` of the `partCount` into which the first `imageCount` images are dealt out.
  ///
  /// In zero-shot classification every part has all candidates, so that the mean of the parts'
  /// losses, weighted by their images, is the loss of all; captions are told apart within a part.
  /// Where the candidates have more than `textLimit` texts, each takes turns with its own, and where
  /// they are more than that themselves, those that no image of the part belongs to take turns.
  ///
  /// - Precondition: `part` is below `partCount`, which is at most `imageCount`.
  package init(
    _ pairs: PairSet, part: Int, of partCount: Int, imageCount: Int, textLimit: Int, turn: Int
  ) {
    let rows = Array(stride(from: part, to: imageCount, by: partCount))
    let candidates = Self.candidates(of: rows, pairs, limit: textLimit, turn: turn)
    let perCandidate = max(1, textLimit / max(candidates.count, 1))
    var texts: [Int] = []
    var spans: [[Int]] = []
    for candidate in candidates {
      let own = pairs.candidates[candidate]
      let count = min(own.count, perCandidate)
      spans.append(Array(texts.count..<(texts.count + count)))
      texts += (0..<count).map { own[(turn * count + $0) % own.count] }
    }
    let mixture = Tensor(shape: [candidates.count, texts.count], of: Float.self) { target in
      for (row, span) in spans.enumerated() {
        for column in span { target[row * texts.count + column] += 1 / Float(span.count) }
      }
    }
    self.imageCount = rows.count
    let places = Dictionary(uniqueKeysWithValues: candidates.enumerated().map { ($1, $0) })
    let targets = Tensor(shape: [rows.count, candidates.count], of: Float.self) { target in
      for (row, image) in rows.enumerated() {
        if let place = places[pairs.targets[image]] { target[row * candidates.count + place] = 1 }
      }
    }
    inputs = [
      "pixel_values": pairs.pixels.selecting(rows, onAxis: 0),
      "input_ids": pairs.tokenIDs(of: texts),
      PairLoss.mixtureName: mixture, PairLoss.targetsName: targets,
    ]
    if pairs.task == .retrieval {
      inputs[PairLoss.reverseTargetsName] = Self.normalizedRows(
        targets.transposed(of: Float.self))
    }
  }

  /// Lets the model's own `logits`, `[batch, candidates]`, say what the targets are.
  package mutating func distill(_ logits: Tensor) {
    inputs[PairLoss.targetsName] = Self.softmax(logits)
    if inputs[PairLoss.reverseTargetsName] != nil {
      inputs[PairLoss.reverseTargetsName] = Self.softmax(logits.transposed(of: Float.self))
    }
  }

  /// The candidates that the images in `rows` are told apart by, ascending.
  private static func candidates(
    of rows: [Int], _ pairs: PairSet, limit: Int, turn: Int
  ) -> [Int] {
    var chosen = Set(rows.map { pairs.targets[$0] })
    guard pairs.task == .zeroShot else { return chosen.sorted() }
    let all = pairs.candidates.count
    guard all > limit else { return Array(0..<all) }
    var next = turn * limit % all
    while chosen.count < limit {
      chosen.insert(next)
      next = (next + 1) % all
    }
    return chosen.sorted()
  }

  /// `S r`, `[batch, candidates]`, for random signs `r` and an `S` with `S Sᵀ` the second derivatives
  /// of the loss by the logits at these targets, where the targets are the model's own.
  ///
  /// For a row with probabilities `p`, `diag p - p pᵀ = S Sᵀ` for `S = diag √p - p √pᵀ`.
  package func factor(signs random: inout SplitMix64) -> Tensor {
    func factored(_ name: String, _ share: Double) -> Tensor? {
      guard let targets = inputs[name] else { return nil }
      return Self.rows(of: targets) { row in
        let terms = row.map { (random.next() & 1 == 0 ? 1 : -1) * $0.squareRoot() }
        let sum = terms.reduce(0, +)
        let scale = (share / Double(targets.shape[0])).squareRoot()
        return zip(terms, row).map { scale * ($0 - $1 * sum) }
      }
    }
    let isSymmetric = inputs[PairLoss.reverseTargetsName] != nil
    let rows = factored(PairLoss.targetsName, isSymmetric ? 0.5 : 1)
    guard let rows else { return Tensor(scalar: 0) }
    guard let columns = factored(PairLoss.reverseTargetsName, 0.5) else { return rows }
    let back = columns.transposed(of: Float.self).elements(of: Float.self)
    return Tensor(shape: rows.shape, zip(rows.elements(of: Float.self), back).map { $0 + $1 })
  }

  private static func normalizedRows(_ matrix: Tensor) -> Tensor {
    rows(of: matrix) { row in
      let sum = row.reduce(0, +)
      return sum > 0 ? row.map { $0 / sum } : row
    }
  }

  private static func softmax(_ matrix: Tensor) -> Tensor {
    rows(of: matrix) { row in
      let largest = row.max() ?? 0
      let powers = row.map { Double.exp($0 - largest) }
      let sum = powers.reduce(0, +)
      return powers.map { $0 / sum }
    }
  }

  private static func rows(of matrix: Tensor, _ body: ([Double]) -> [Double]) -> Tensor {
    let width = matrix.shape[1]
    let elements = matrix.elements(of: Float.self)
    var result: [Float] = []
    result.reserveCapacity(elements.count)
    for row in 0..<matrix.shape[0] {
      result += body(elements[(row * width)..<((row + 1) * width)].map(Double.init)).map(Float.init)
    }
    return Tensor(shape: matrix.shape, result)
  }
}
