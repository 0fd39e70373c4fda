/// What decides what goes.
package enum PruningMethod: String, Codable, Sendable, CaseIterable {
  /// The smallest.
  case magnitude
  /// Chance.
  case random
  /// What a cross-modal task loses least without: module-wise pruning error.
  case mope
  /// What the second derivatives of the loss say matters least: Hessian-aware pruning.
  case hap
  /// The smallest products of weights and the activations that meet them.
  case wanda
  /// What the layer's own output loses least without, the rest making up for it.
  case sparsegpt
  /// The optimal brain surgeon over whole units.
  case obs
  /// The sparsest weights that keep a layer's outputs within a tolerance.
  case netTrim = "net-trim"
  /// Masks learned for a task over frozen weights.
  case maskTuning = "mask-tuning"
}
