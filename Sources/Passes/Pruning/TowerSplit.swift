import GraphIR

/// Finds how two towers share what goes.
///
/// Text towers are known to bear more than image towers; how much more depends on the model. Shares
/// of the text tower are tried from little to much, and the best one is looked for again between its
/// neighbours.
package enum TowerSplit {
  /// How the shares are found.
  package enum Rule: String, Codable, Sendable, CaseIterable {
    /// Both towers lose what importances compared over both say.
    case none
    /// The shares that cost a cross-modal task least.
    case auto
  }

  /// The shares of one try.
  package struct Shares: Hashable, Sendable {
    /// Of the image tower.
    package let image: Double
    /// Of the text tower.
    package let text: Double
  }

  /// The most that one tower may lose.
  private static let most = 0.9

  /// Tries shares.
  ///
  /// - Parameters:
  ///   - sparsity: what goes of both towers together.
  ///   - sizes: what the shares are shares of, for the image and for the text tower.
  ///   - loss: what a model with the given shares loses; lower is better. Called some ten times.
  /// - Returns: the shares, of those tried, for which `loss` is least.
  package static func best(
    sparsity: Double, sizes: (image: Int, text: Int), loss: (Shares) throws -> Double
  ) rethrows -> Shares {
    let (image, text) = (Double(max(sizes.image, 1)), Double(max(sizes.text, 1)))
    let total = sparsity * (image + text)
    func shares(_ share: Double) -> Shares {
      Shares(image: min(max((total - share * text) / image, 0), 1), text: share)
    }
    let low = max((total - most * image) / text, 0)
    let high = max(min(total / text, most), low)
    var tried: [(share: Double, loss: Double)] = []
    func measure(_ share: Double) throws {
      guard !tried.contains(where: { abs($0.share - share) < 1e-9 }) else { return }
      tried.append((share, try loss(shares(share))))
    }
    for part in 0...4 { try measure(low + (high - low) * Double(part) / 4) }
    var step = (high - low) / 8
    for _ in 0..<2 {
      let best = tried.min { ($0.loss, $0.share) < ($1.loss, $1.share) }?.share ?? low
      if best - step >= low { try measure(best - step) }
      if best + step <= high { try measure(best + step) }
      step /= 2
    }
    let best = tried.min { ($0.loss, $0.share) < ($1.loss, $1.share) }
    return shares(best?.share ?? sparsity)
  }
}
