import ArgumentParser
import Datasets
import Evaluation
import TensorCore

/// How calibration samples are chosen.
enum CalibrationSelection: String, CaseIterable, ExpressibleByArgument {
  /// At random.
  case random
  /// From every cluster of what the model itself finds alike, more from those that vary more.
  case clusters

  /// Images that are looked at for each that is chosen.
  static let candidatesPerSample = 8
  /// Samples for each cluster.
  static let samplesPerCluster = 8
}

extension Dataset {
  /// `count` samples from clusters of the embeddings that `opened` gives a random part of the
  /// images, each cluster with a share in proportion to its size and spread.
  func selectingClusters(
    count: Int, seed: UInt64, _ opened: OpenedModel, threadCount: Int
  ) throws -> Dataset {
    guard count < sampleCount else { return self }
    let candidates = selecting(
      count: min(sampleCount, count * CalibrationSelection.candidatesPerSample), seed: seed)
    let inputs = try ModelInputs(opened, threadCount: threadCount)
    var rows = Embeddings(width: inputs.encoder.embeddingWidth)
    var names: [String] = []
    var pixels: [Float] = []
    var waiting = 0
    let progress = Progress("choosing images", total: candidates.sampleCount)
    func flush() throws {
      guard waiting > 0 else { return }
      rows.append(try inputs.encoder.encodeImages(pixels, count: waiting))
      pixels.removeAll(keepingCapacity: true)
      waiting = 0
    }
    try ImagePipeline.forEachDecoded(
      candidates, threads: threadCount, transform: try inputs.pixelFunction()
    ) { sample, result in
      guard case .success(let values) = result else { return }
      pixels += values
      names.append(sample.name)
      waiting += 1
      if waiting == ModelInputs.batch { try flush() }
      progress.update(names.count)
    }
    try flush()
    progress.finish()
    guard rows.count > 0 else {
      throw Failure(.malformedInput, "\(path): no calibration image could be read")
    }
    guard rows.values.allSatisfy(\.isFinite) else {
      throw Failure(.malformedInput, "\(opened.path): gives embeddings that are not finite")
    }
    let clusters = KMeans(
      rows, count: max(2, count / CalibrationSelection.samplesPerCluster), seed: seed,
      threadCount: threadCount)
    var generator = SplitMix64(seed: seed &+ 1)
    var chosen = Set<String>()
    for (cluster, wanted) in clusters.allocation(of: count).enumerated() {
      var members = names.indices.filter { clusters.assignments[$0] == cluster }
      for place in 0..<wanted {
        members.swapAt(place, place + generator.nextIndex(below: members.count - place))
        chosen.insert(names[members[place]])
      }
    }
    return try candidates.filtered { chosen.contains($0.name) }
  }
}
