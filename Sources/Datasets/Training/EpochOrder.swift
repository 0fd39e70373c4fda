import TensorCore

/// Which samples each training step has: a fresh permutation of all of them every epoch, its
/// remainder dropped; or batches of one group each, by turns, the remainder of every group dropped.
struct EpochOrder: Sendable {
  /// Samples of the data.
  let sampleCount: Int
  /// Samples of a step, at most all of them.
  let batchCount: Int
  /// Decides the permutations.
  let seed: UInt64

  /// The group of each sample, negative for one that is left out; nil where all mix.
  let groups: [Int]?
  /// Whole batches of an epoch.
  let stepsPerEpoch: Int

  /// Orders `sampleCount` samples for batches of `batchCount`.
  init(sampleCount: Int, batchCount: Int, seed: UInt64, groups: [Int]? = nil) {
    self.sampleCount = sampleCount
    self.batchCount = batchCount
    self.seed = seed
    self.groups = groups
    let sizes = groups.map { groups in
      groups.reduce(into: [Int: Int]()) { if $1 >= 0 { $0[$1, default: 0] += 1 } }.values.map { $0 }
    }
    stepsPerEpoch = (sizes ?? [sampleCount]).reduce(0) { $0 + $1 / batchCount }
  }

  /// The samples of an epoch in their order, decided by the seed and the epoch alone.
  ///
  /// - Source: Knuth, "The Art of Computer Programming", volume 2, 3.4.2, algorithm P.
  func permutation(ofEpoch epoch: Int) -> [Int] {
    var generator = SplitMix64(seed: seed, stream: .order, epoch)
    var order = Array(0..<sampleCount)
    for last in stride(from: sampleCount - 1, to: 0, by: -1) {
      order.swapAt(last, generator.nextIndex(below: last + 1))
    }
    guard let groups else { return order }
    var members: [Int: [Int]] = [:]
    for sample in order where groups[sample] >= 0 {
      members[groups[sample], default: []].append(sample)
    }
    let names = members.keys.sorted()
    return (0..<stepsPerEpoch).flatMap { turn in
      names.flatMap { name -> ArraySlice<Int> in
        let own = members[name] ?? []
        let first = turn * batchCount
        return first + batchCount <= own.count ? own[first..<first + batchCount] : []
      }
    }
  }

  /// Where the samples of `step` lie in the permutation of its epoch.
  func range(ofStep step: Int) -> Range<Int> {
    let first = step % stepsPerEpoch * batchCount
    return first..<first + batchCount
  }

  /// The samples to try in the place of `sample`, all others at most once, in an order that its
  /// index and the seed decide.
  func replacements(of sample: Int, limit: Int = 1000) -> some Sequence<Int> {
    var generator = SplitMix64(seed: seed, stream: .replacement, sample)
    // Steps that share no factor with the count visit everything, and leave the neighbours of a
    // damaged file, which are often damaged too.
    var stride = 1 + generator.nextIndex(below: max(1, sampleCount - 1))
    while Self.greatestCommonDivisor(stride, sampleCount) != 1 { stride += 1 }
    return (1..<max(1, min(sampleCount, limit))).lazy.map { (sample + $0 * stride) % sampleCount }
  }

  private static func greatestCommonDivisor(_ first: Int, _ second: Int) -> Int {
    var (first, second) = (first, second)
    while second != 0 { (first, second) = (second, first % second) }
    return first
  }
}
