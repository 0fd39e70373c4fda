import GraphIR
import Operators
import TensorCore

/// Which of some candidates each of some images belongs to, and what that makes of embeddings.
package struct PairTask: Sendable {
  /// What the candidates are.
  package let task: PairSet.Task
  /// For each candidate the rows of its texts.
  package let candidates: [[Int]]
  /// For each image its candidate.
  package let targets: [Int]
  /// For each candidate its images.
  private let owners: [[Int]]

  /// Relates images to candidates.
  ///
  /// - Precondition: every target is a candidate, and each has a text.
  package init(task: PairSet.Task, candidates: [[Int]], targets: [Int]) {
    self.task = task
    self.candidates = candidates
    self.targets = targets
    var owners = [[Int]](repeating: [], count: candidates.count)
    for (image, target) in targets.enumerated() { owners[target].append(image) }
    self.owners = owners
  }

  /// The relation of `pairs`.
  package init(_ pairs: PairSet) {
    self.init(task: pairs.task, candidates: pairs.candidates, targets: pairs.targets)
  }

  /// The relation between some of the images and what they are told apart by: all classes, or
  /// their own captions.
  ///
  /// - Returns: The relation, and which text each of its texts is.
  package func selecting(_ images: some Sequence<Int>) -> (task: PairTask, texts: [Int]) {
    let images = Array(images)
    let kept: [Int] =
      task == .zeroShot
      ? Array(candidates.indices) : Set(images.map { targets[$0] }).sorted()
    let texts = Set(kept.flatMap { candidates[$0] }).sorted()
    let newText = Dictionary(uniqueKeysWithValues: texts.enumerated().map { ($1, $0) })
    let newCandidate = Dictionary(uniqueKeysWithValues: kept.enumerated().map { ($1, $0) })
    let relation = PairTask(
      task: task, candidates: kept.map { candidates[$0].compactMap { newText[$0] } },
      targets: images.compactMap { newCandidate[targets[$0]] })
    return (relation, texts)
  }

  /// The score of embeddings.
  ///
  /// - Parameters:
  ///   - images: rows of length one, one for each image.
  ///   - texts: rows of length one, one for each text.
  ///   - width: the length of a row.
  ///   - scale: the factor from cosine to logit.
  ///   - reference: what ``logits(images:texts:width:scale:)`` says of the whole model's embeddings.
  /// - Returns: The share of right answers, the loss, and the distance from the reference.
  package func score(
    images: [Float], texts: [Float], width: Int, scale: Float, reference: [Float]? = nil
  ) -> PairScore {
    let logits = logits(images: images, texts: texts, width: width, scale: scale)
    var sums = RowSums()
    forEachImageRow(logits, reference) { image, row, reference in
      sums.add(row, [targets[image]], reference)
    }
    guard task == .retrieval else { return sums.score }
    var back = RowSums()
    forEachCandidateRow(logits, reference) { candidate, row, reference in
      back.add(row, owners[candidate], reference)
    }
    let (first, second) = (sums.score, back.score)
    return PairScore(
      quality: (first.quality + second.quality) / 2, loss: (first.loss + second.loss) / 2,
      divergence: (first.divergence + second.divergence) / 2)
  }

  /// The scaled cosines, `[images, candidates]`.
  package func logits(
    images: [Float], texts: [Float], width: Int, scale: Float
  ) -> [Float] {
    logits(
      images, CandidateRows(candidates, texts: texts, width: width).values, width: width,
      scale: scale)
  }

  /// The gradients of the loss of ``score(images:texts:width:scale:)`` with respect to `images`
  /// and `texts`.
  package func gradients(
    images: [Float], texts: [Float], width: Int, scale: Float
  ) -> (images: [Float], texts: [Float]) {
    let rows = CandidateRows(candidates, texts: texts, width: width)
    let logits = logits(images, rows.values, width: width, scale: scale)
    var slopes = [Double](repeating: 0, count: logits.count)
    let share = (task == .retrieval ? 0.5 : 1) * Double(scale)
    let count = candidates.count
    forEachImageRow(logits) { image, row, _ in
      let slope = crossEntropyGradient(row, of: [targets[image]])
      for k in 0..<count { slopes[image * count + k] += share / Double(targets.count) * slope[k] }
    }
    if task == .retrieval {
      let asked = Double(max(owners.count { !$0.isEmpty }, 1))
      forEachCandidateRow(logits) { candidate, row, _ in
        let slope = crossEntropyGradient(row, of: owners[candidate])
        for image in row.indices {
          slopes[image * count + candidate] += share / asked * slope[image]
        }
      }
    }
    var imageGradient = [Double](repeating: 0, count: images.count)
    var candidateGradient = [Double](repeating: 0, count: rows.values.count)
    for image in targets.indices {
      for candidate in 0..<count {
        let slope = slopes[image * count + candidate]
        for k in 0..<width {
          imageGradient[image * width + k] += slope * Double(rows.values[candidate * width + k])
          candidateGradient[candidate * width + k] += slope * Double(images[image * width + k])
        }
      }
    }
    return (imageGradient.map { Float($0) }, rows.pullback(candidateGradient))
  }

  private func logits(
    _ images: [Float], _ rows: [Float], width: Int, scale: Float
  ) -> [Float] {
    let cosines = Matrix.productTransposed(
      m: targets.count, n: candidates.count, k: width, images, rows)
    return cosines.map { $0 * scale }
  }

  private func forEachImageRow(
    _ logits: [Float], _ others: [Float]? = nil, _ body: (Int, [Float], [Float]?) -> Void
  ) {
    let count = candidates.count
    func row(_ values: [Float], _ image: Int) -> [Float] {
      Array(values[(image * count)..<((image + 1) * count)])
    }
    for image in targets.indices {
      body(image, row(logits, image), others.map { row($0, image) })
    }
  }

  /// Calls `body` with the logits of all images for each candidate that has one.
  private func forEachCandidateRow(
    _ logits: [Float], _ others: [Float]? = nil, _ body: (Int, [Float], [Float]?) -> Void
  ) {
    func column(_ values: [Float], _ candidate: Int) -> [Float] {
      targets.indices.map { values[$0 * candidates.count + candidate] }
    }
    for candidate in candidates.indices where !owners[candidate].isEmpty {
      body(candidate, column(logits, candidate), others.map { column($0, candidate) })
    }
  }
}

/// What rows of logits add up to.
private struct RowSums {
  private var loss = 0.0
  private var divergence = 0.0
  private var right = 0
  private var count = 0

  /// The means.
  var score: PairScore {
    let count = Double(max(count, 1))
    return PairScore(
      quality: Double(right) / count, loss: loss / count, divergence: divergence / count)
  }

  mutating func add(_ row: [Float], _ wanted: [Int], _ reference: [Float]?) {
    loss += crossEntropy(row, of: wanted)
    right += Self.isFirst(row, wanted) ? 1 : 0
    if let reference { divergence += Self.divergence(of: row, from: reference) }
    count += 1
  }

  /// Whether one of `wanted` comes first; the lower of equal numbers does.
  private static func isFirst(_ row: [Float], _ wanted: [Int]) -> Bool {
    guard let best = wanted.max(by: { row[$0] < row[$1] || (row[$0] == row[$1] && $0 > $1) })
    else { return false }
    return row.indices.allSatisfy { index in
      index == best || row[index] < row[best] || (row[index] == row[best] && index > best)
    }
  }

  private static func divergence(of row: [Float], from reference: [Float]) -> Double {
    guard row != reference else { return 0 }
    let (own, other) = (logSum(row, row.indices), logSum(reference, reference.indices))
    return row.indices.reduce(0) { sum, index in
      let logarithm = Double(reference[index]) - other
      return sum + Double.exp(logarithm) * (logarithm - Double(row[index]) + own)
    }
  }
}

/// The negated logarithm of the share of `wanted` in `softmax(row)`.
private func crossEntropy(_ row: [Float], of wanted: [Int]) -> Double {
  logSum(row, row.indices) - logSum(row, wanted)
}

/// The gradient of ``crossEntropy(_:of:)`` with respect to `row`.
private func crossEntropyGradient(_ row: [Float], of wanted: [Int]) -> [Double] {
  let whole = logSum(row, row.indices)
  let part = logSum(row, wanted)
  var gradient = row.map { Double.exp(Double($0) - whole) }
  for index in wanted { gradient[index] -= Double.exp(Double(row[index]) - part) }
  return gradient
}

private func logSum(_ row: [Float], _ indices: some Sequence<Int>) -> Double {
  var largest = -Double.infinity
  for index in indices {
    let value = Double(row[index])
    guard !value.isNaN else { return .nan }
    largest = max(largest, value)
  }
  guard largest.isFinite else { return largest }
  let sum = indices.reduce(0.0) { $0 + Double.exp(Double(row[$1]) - largest) }
  return largest + Double.log(sum)
}

/// A normalized row for each candidate: the mean of its texts' rows.
private struct CandidateRows {
  let values: [Float]
  private let candidates: [[Int]]
  private let norms: [Double]
  private let width: Int
  private let textCount: Int

  init(_ candidates: [[Int]], texts: [Float], width: Int) {
    var values = [Float](repeating: 0, count: candidates.count * width)
    var norms: [Double] = []
    for (candidate, members) in candidates.enumerated() {
      // A caption's row is its text's, to the bit.
      if members.count == 1 {
        for k in 0..<width { values[candidate * width + k] = texts[members[0] * width + k] }
        norms.append(1)
        continue
      }
      var mean = [Double](repeating: 0, count: width)
      for text in members {
        for k in 0..<width { mean[k] += Double(texts[text * width + k]) / Double(members.count) }
      }
      let norm = mean.reduce(0) { $0 + $1 * $1 }.squareRoot()
      for k in 0..<width { values[candidate * width + k] = norm > 0 ? Float(mean[k] / norm) : 0 }
      norms.append(norm)
    }
    self.values = values
    self.candidates = candidates
    self.norms = norms
    self.width = width
    textCount = width > 0 ? texts.count / width : 0
  }

  /// The gradient with respect to the texts' rows for that of the candidates'.
  func pullback(_ gradient: [Double]) -> [Float] {
    var result = [Double](repeating: 0, count: textCount * width)
    for (candidate, members) in candidates.enumerated() {
      let start = candidate * width
      if members.count == 1 {
        for k in 0..<width { result[members[0] * width + k] += gradient[start + k] }
        continue
      }
      guard norms[candidate] > 0 else { continue }
      let along = (0..<width).reduce(0.0) { $0 + Double(values[start + $1]) * gradient[start + $1] }
      let factor = 1 / (norms[candidate] * Double(members.count))
      for text in members {
        for k in 0..<width {
          let rest = gradient[start + k] - along * Double(values[start + k])
          result[text * width + k] += factor * rest
        }
      }
    }
    return result.map { Float($0) }
  }
}
