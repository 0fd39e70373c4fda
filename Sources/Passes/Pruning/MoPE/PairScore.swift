/// How well embeddings tell images and texts apart.
package struct PairScore: Sendable, Equatable {
  /// The share that is right: of images whose class comes first; for captions, the mean of that of
  /// images whose caption comes first and of captions one of whose images comes first.
  package let quality: Double
  /// The cross entropy of the scaled cosines, in nats.
  package let loss: Double
  /// How far the probabilities are from those of the whole model: the Kullback-Leibler divergence
  /// in nats, 0 for that model itself.
  package let divergence: Double

  /// What a share of right answers weighs against a nat.
  private static let lossWeight = 0.1

  /// The number that modules are judged by: right answers come in steps, the loss does not.
  package var value: Double { quality - Self.lossWeight * loss }

  /// Holds a score.
  package init(quality: Double, loss: Double, divergence: Double = 0) {
    self.quality = quality
    self.loss = loss
    self.divergence = divergence
  }
}
