import Execution
import GraphIR
import Operators
import TensorCore

/// A part of one tower that is taken out to see what it is worth.
package struct PrunedModule: Sendable {
  /// What it is called in records, unlike any other of the same model.
  package let name: String
  /// Where it stands.
  package let tower: Tower
  /// What goes, heads or neurons.
  package let removals: [UnitRemoval]

  /// The module of `removals`.
  package init(name: String, tower: Tower, removals: [UnitRemoval]) {
    self.name = name
    self.tower = tower
    self.removals = removals
  }
}

/// Scores of a model with each of some modules taken out.
///
/// What stands before a module is run once: the residual stream behind the module's branch is kept
/// for all items, what the module adds is taken from it, and the rest of the tower runs anew. The
/// other tower's embeddings stay. That equals a mask over the module within rounding, and a module
/// that adds nothing changes no bit.
///
/// - Source: Lin et al., "MoPE-CLIP: Structured Pruning for Efficient Vision-Language Models with
///   Module-wise Pruning Error Metric", CVPR 2024, arXiv:2403.07839.
package struct MoPESweep {
  /// Bytes of activations that are kept; what does not fit is computed again.
  package var memoryBudget = 1 << 30

  private let scorer: PairScorer

  /// Prepares to take modules out of `scorer`'s model.
  package init(_ scorer: PairScorer) { self.scorer = scorer }

  /// The score of the model without each of `modules`.
  ///
  /// Each is kept in the records of `context` as soon as it is known, and not computed again where
  /// it stands there.
  ///
  /// - Throws: ``PassError`` when a module's units do not leave by products that are added to a
  ///   residual stream.
  package func scores(
    without modules: [PrunedModule], context: borrowing PassContext
  ) throws(PassError) -> [PairScore] {
    let fingerprint = scorer.graph.fingerprint
    let (records, report) = (context.records, context.report)
    var scores = modules.map { module in
      records?.values(for: "mope \(fingerprint) \(module.name)").flatMap {
        $0.count == 3 ? PairScore(quality: $0[0], loss: $0[1], divergence: $0[2]) : nil
      }
    }
    var done = scores.count { $0 != nil }
    for tower in Tower.allCases {
      let open = modules.indices.filter { modules[$0].tower == tower && scores[$0] == nil }
      guard !open.isEmpty else { continue }
      do {
        let sweep = try TowerSweep(
          tower, scorer, removing: open.map { modules[$0].removals }, memoryBudget: memoryBudget,
          threadCount: context.threadCount)
        try sweep.forEachModule { index, rows in
          let score =
            tower == .image ? scorer.score(images: rows) : scorer.score(texts: rows)
          let place = open[index]
          scores[place] = score
          try records?.keep(
            [score.quality, score.loss, score.divergence],
            for: "mope \(fingerprint) \(modules[place].name)")
          done += 1
          report(.progress(stage: "module-wise errors", done: done, total: modules.count))
        }
      } catch let error as PassError {
        throw error
      } catch {
        throw .calibration(error)
      }
    }
    return scores.map { $0 ?? PairScore(quality: .nan, loss: .nan, divergence: .nan) }
  }
}

extension Graph {
  /// A number that changes with the graph's parameters: what records of an unchanged model go by.
  var fingerprint: String {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    func add(_ byte: UInt8) { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
    for value in parameterValues {
      guard let parameter = parameter(value) else { continue }
      for byte in name(of: value).utf8 { add(byte) }
      for extent in parameter.tensor.shape {
        for part in 0..<8 { add(UInt8(truncatingIfNeeded: extent >> (8 * part))) }
      }
      for tensor in [parameter.tensor, parameter.mask].compactMap({ $0 }) {
        tensor.withBytes { bytes in
          // Samples suffice to tell rounds of one run apart.
          let step = max(1, bytes.count / 4096)
          for place in stride(from: 0, to: bytes.count, by: step) { add(bytes[place]) }
        }
      }
    }
    return String(hash, radix: 16)
  }
}
