import GraphIR
import TensorCore

extension GraphBuilder {
  /// Adds the loss that is least where experts take equal shares of the tokens: `E Σₑ fₑ Pₑ`, for
  /// the share `fₑ` of the tokens that chose expert `e` and its mean probability `Pₑ`.
  ///
  /// It is the number of choices of a token where routing is uniform. Gradients pass through the
  /// probabilities alone.
  ///
  /// - Parameters:
  ///   - logits: the router's, `[..., experts]`.
  ///   - assignment: what ``RouteTokens`` made of them.
  ///   - mask: `[...]`, one for the tokens that count and zero for the others; nil for all.
  /// - Returns: A scalar.
  /// - Throws: ``GraphError`` when the values do not fit together.
  /// - Source: Fedus et al., "Switch Transformers", JMLR 2022, arXiv:2101.03961; Zhang et al.,
  ///   "CLIP-MoE", EMNLP 2025, arXiv:2409.19291, for several choices.
  package mutating func loadBalancingLoss(
    logits: Value, assignment: Value, mask: Value?
  ) throws(GraphError) -> Value {
    let extents = graph.tensorType(of: logits).extents
    guard let experts = extents.last?.fixedCount else {
      throw .invariant(node: graph.name(of: logits), "has an unknown number of experts")
    }
    let weights = try mask.map { value throws(GraphError) in try shares(of: value) }
    let probabilities = try add(Softmax(), logits)
    let chosen = try add(ExpertMask(experts: experts), assignment)
    let means = try tokenMean(probabilities, weights)
    let product = try product(try tokenMean(chosen, weights), means)
    return try scaled(try add(Sum(over: .all), product), by: Float(experts))
  }

  /// Adds the loss that keeps the logits of a router small: the mean over tokens of the square of
  /// `ln Σₑ exp(logitₑ)`.
  ///
  /// - Parameters:
  ///   - logits: the router's, `[..., experts]`.
  ///   - mask: `[...]`, one for the tokens that count and zero for the others; nil for all.
  /// - Returns: A scalar.
  /// - Throws: ``GraphError`` when the values do not fit together.
  /// - Source: Zoph et al., "ST-MoE", 2022, arXiv:2202.08906.
  package mutating func routerZLoss(logits: Value, mask: Value?) throws(GraphError) -> Value {
    // Each element of a row differs from its logarithmic softmax by the same number.
    let rest = try difference(logits, try add(LogSoftmax(), logits))
    let exponents = try add(Sum(over: .last, isMean: true), rest)
    let squares = try product(exponents, exponents)
    guard let mask else { return try add(Sum(over: .all, isMean: true), squares) }
    return try add(Sum(over: .all), try product(squares, try shares(of: mask)))
  }

  /// `mask` divided by its sum.
  private mutating func shares(of mask: Value) throws(GraphError) -> Value {
    let root = try add(ReciprocalSquareRoot(), try add(Sum(over: .all), mask))
    return try product(mask, try add(Broadcast(over: .all), try product(root, root), mask))
  }

  /// The mean over tokens of `x`, `[..., n]`, with `weights`, `[...]`, or equal ones: `[n]`.
  private mutating func tokenMean(_ x: Value, _ weights: Value?) throws(GraphError) -> Value {
    guard let weights else { return try add(Sum(over: .leading, isMean: true), x) }
    let weighted = try product(x, try add(Broadcast(over: .last), weights, x))
    return try add(Sum(over: .leading), weighted)
  }
}
