import Checkpoints
import Datasets
import Evaluation
import Execution
import GraphIR
import Operators
import Passes
import TensorCore
import Training

/// Groups of training pairs that the experts so far find alike.
///
/// Each expert in turn, as a dense model, embeds all pairs; images and texts are clustered apart, and
/// a pair's group is that of both and of all experts before. A batch of one group makes an expert
/// tell apart what the ones before it could not.
///
/// - Source: Zhang et al., "CLIP-MoE: Towards Building Mixture of Experts for CLIP with Diversified
///   Multiplet Upcycling", 2024, arXiv:2409.19291, whose groups come from multistage contrastive
///   learning (Zhang et al., "Avoiding Feature Suppression in Contrastive Learning", ECCV 2024,
///   arXiv:2402.11816). Differs: where too few pairs lie in groups of a batch or more, only the last
///   expert's clusters count.
final class PairClusters {
  private let clusterCount: Int
  private let batch: Int
  private unowned let run: TrainingRun
  /// The cluster of each pair by the experts in turn; -1 for pairs that were not embedded.
  private var clusters: [[Int]] = []

  /// Makes groups for batches of `batch` pairs.
  init(clusterCount: Int, batch: Int, _ run: TrainingRun) {
    self.clusterCount = clusterCount
    self.batch = batch
    self.run = run
  }

  /// The group of each pair for the training of expert `expert` of `graph`, those before which are
  /// trained; -1 for pairs of groups that are smaller than a batch.
  func groups(forExpert expert: Int, of graph: Graph) throws -> [Int] {
    let count = run.inputs.dataset.sampleCount
    guard clusterCount > 1 else { return [Int](repeating: 0, count: count) }
    while clusters.count < expert {
      clusters.append(try clustered(by: try graph.withSingleExpert(clusters.count)))
    }
    // Groups of groups grow fast: they are numbered as they come.
    var numbers: [[Int]: Int] = [:]
    let all = (0..<count).map { sample -> Int in
      let key = clusters[..<expert].map { $0[sample] }
      guard !key.contains(-1) else { return -1 }
      if let number = numbers[key] { return number }
      numbers[key] = numbers.count
      return numbers.count - 1
    }
    let joint = withoutSmall(all)
    guard joint.count(where: { $0 >= 0 }) * 2 < count else { return joint }
    let last = withoutSmall(clusters[expert - 1])
    guard last.contains(where: { $0 >= 0 }) else {
      run.note("expert \(expert): no group has a batch of pairs, so that batches mix")
      return [Int](repeating: 0, count: count)
    }
    if expert > 1 {
      run.note(
        "expert \(expert): groups of all experts before are too small for batches of \(batch); "
          + "those of expert \(expert - 1) are taken")
    }
    return last
  }

  /// `groups` with -1 in place of those that are smaller than a batch.
  private func withoutSmall(_ groups: [Int]) -> [Int] {
    let sizes = groups.reduce(into: [Int: Int]()) { $0[$1, default: 0] += 1 }
    return groups.map { $0 >= 0 && sizes[$0, default: 0] >= batch ? $0 : -1 }
  }

  /// The cluster of each pair: that of its text times their number, plus that of its image.
  private func clustered(by dense: Graph) throws -> [Int] {
    let (samples, images, texts) = try embeddings(by: dense)
    let common = run.job.common
    let byImage = KMeans(
      images, count: clusterCount, seed: common.seed, threadCount: common.threads)
    let byText = KMeans(
      texts, count: clusterCount, seed: common.seed &+ 1, threadCount: common.threads)
    var clusters = [Int](repeating: -1, count: run.inputs.dataset.sampleCount)
    for (row, sample) in samples.enumerated() {
      clusters[sample] = byText.assignments[row] * clusterCount + byImage.assignments[row]
    }
    return clusters
  }

  /// What `dense` makes of all pairs but the remainder of a batch, and which pairs these are.
  private func embeddings(
    by dense: Graph
  ) throws -> (samples: [Int], images: Embeddings, texts: Embeddings) {
    let pairing = try dense.pairing()
    let executor = try Executor(
      pairing, outputs: ["image_embeds", "text_embeds"], threadCount: run.job.common.threads)
    let width = pairing.embeddingWidth ?? 1
    var (images, texts) = (Embeddings(width: width), Embeddings(width: width))
    var samples: [Int] = []
    let rows = min(batch, 256)
    let batches = try run.inputs.batches(
      count: rows, seed: run.job.common.seed, threads: run.job.common.threads, firstStep: 0,
      isVaried: false)
    defer { batches.stop() }
    let progress = Progress("clustering", total: batches.stepsPerEpoch * rows)
    for _ in 0..<batches.stepsPerEpoch {
      let batch = try batches.next()
      let made = try executor.run(["pixel_values": batch.pixels, "input_ids": batch.tokens])
      images.append(made["image_embeds"]?.elements(of: Float.self) ?? [])
      texts.append(made["text_embeds"]?.elements(of: Float.self) ?? [])
      samples += batch.sampleIndices
      progress.update(samples.count)
      if Interruption.isRequested {
        throw Failure(.interrupted, "interrupted while clustering; --resume begins the phase anew")
      }
    }
    progress.finish()
    return (samples, images, texts)
  }
}
