import CKernels
import GraphIR
import TensorCore

/// The gradients of a layer norm's operands.
///
/// With `s = sqrt(variance + epsilon)`, `x̂ = (x - mean) / s` and `h = g * gamma`:
/// `dx = (h - mean(h) - x̂ * mean(h * x̂)) / s`, `dgamma = Σ g * x̂` and `dbeta = Σ g`, sums over the
/// rows. With a mask, means are over the channels whose mask is one, and the others get zero.
///
/// - Shapes: `x`, `g`: `[..., width]`; `gamma`, `mask` (optional): `[width]`; results: `dx` as `x`,
///   `dgamma` and `dbeta` as `gamma`.
package struct LayerNormGradient: Op {
  package static let name = "layer_norm_gradient"

  /// What the norm adds to the variance.
  package let epsilon: Float

  /// Makes the operation with a positive `epsilon`.
  package init(epsilon: Float) { self.epsilon = epsilon }

  package init(attributes: inout Attributes) throws(GraphError) {
    epsilon = try LayerNorm(attributes: &attributes).epsilon
  }

  package var attributes: [(name: String, value: AttributeValue)] { [("epsilon", .real(epsilon))] }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 3...4)
    try requireFloats(inputs, 0, rank: 1...4)
    try requireFloats(inputs, 1, extents: inputs[0].extents)
    let width = try fixedExtent(inputs, 0, axis: inputs[0].rank - 1)
    for index in 2..<inputs.count { try requireFloats(inputs, index, extents: [.fixed(width)]) }
    return [inputs[0], inputs[2], inputs[2]]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let (rows, width) = matrixExtents(inputs.shape(0))
    let x = inputs.span(0, of: type)
    let g = inputs.span(1, of: type)
    let gamma = inputs.span(2, of: type)
    var mask = [Element](repeating: 1, count: width)
    if inputs.count == 4 {
      let given = inputs.span(3, of: type)
      for k in 0..<width { mask[k] = given[k] }
    }
    let count = max(mask.reduce(0, +), 1)
    var sums = [Element](repeating: 0, count: 2 * width)
    var dx = outputs.span(0, of: type)
    for row in 0..<rows {
      let start = row * width
      var mean: Element = 0
      for k in 0..<width { mean += x[start + k] * mask[k] }
      mean /= count
      var variance: Element = 0
      for k in 0..<width { variance += (x[start + k] - mean) * (x[start + k] - mean) * mask[k] }
      let scale = 1 / (variance / count + Element(epsilon)).squareRoot()
      var plain: Element = 0
      var along: Element = 0
      for k in 0..<width {
        let h = g[start + k] * gamma[k] * mask[k]
        plain += h
        along += h * (x[start + k] - mean) * scale
      }
      for k in 0..<width {
        let normalized = (x[start + k] - mean) * scale
        let h = g[start + k] * gamma[k]
        dx[start + k] = (h - plain / count - normalized * along / count) * scale * mask[k]
        sums[k] += g[start + k] * normalized * mask[k]
        sums[width + k] += g[start + k] * mask[k]
      }
    }
    for (output, offset) in [(1, 0), (2, width)] {
      var target = outputs.span(output, of: type)
      for k in 0..<width { target[k] = sums[offset + k] }
    }
  }
}

extension LayerNormGradient: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    let (rows, width) = matrixExtents(inputs.shape(0))
    let dgamma = outputs.pointer(1, of: Float.self)
    let dbeta = outputs.pointer(2, of: Float.self)
    guard rows > 0, let x = inputs.pointer(0, of: Float.self).baseAddress,
      let g = inputs.pointer(1, of: Float.self).baseAddress,
      let gamma = inputs.pointer(2, of: Float.self).baseAddress,
      let dx = outputs.pointer(0, of: Float.self).baseAddress
    else {
      dgamma.update(repeating: 0)
      return dbeta.update(repeating: 0)
    }
    let mask = inputs.count == 4 ? inputs.pointer(3, of: Float.self).baseAddress : nil
    let kernel = Kernels.training.f32_layer_norm_gradient
    withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 * width) { sums in
      Kernels.accumulate(
        rows: rows, threadCount: outputs.threadCount, into: sums
      ) { range, target in
        var arguments = clip_f32_layer_norm_gradient_arguments(
          input: x, input_stride: width, upstream: g, upstream_stride: width, mask: mask,
          width: width, gamma: gamma, epsilon: epsilon, input_gradient: dx,
          input_gradient_stride: width, gamma_gradient: target, beta_gradient: target + width)
        kernel(&arguments, range)
      }
      _ = dgamma.update(fromContentsOf: sums[..<width])
      _ = dbeta.update(fromContentsOf: sums[width...])
    }
  }
}

extension LayerNormGradient: DecomposableOp {
  package func decomposition(
    of inputs: [Value], _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value] {
    let (x, g) = (inputs[0], inputs[1])
    let mean = try RowMean(x, mask: inputs.count == 4 ? inputs[3] : nil, &builder)
    let centered = try builder.difference(x, try mean.spread(x, &builder))
    let square = try mean(try builder.product(centered, centered), &builder)
    let scale = try builder.add(
      ReciprocalSquareRoot(), try builder.add(Offset(by: epsilon), square))
    let spreadScale = try builder.add(Broadcast(over: .last), scale, x)
    let normalized = try builder.product(centered, spreadScale)
    let gamma = try builder.add(Broadcast(over: .leading), inputs[2], x)
    let h = try builder.product(g, gamma)
    let plain = try mean.spread(h, &builder)
    let along = try mean.spread(try builder.product(h, normalized), &builder)
    let rest = try builder.difference(
      try builder.difference(h, plain), try builder.product(normalized, along))
    let dx = try mean.masked(try builder.product(rest, spreadScale), &builder)
    let dgamma = try mean.masked(try builder.product(g, normalized), &builder)
    let dbeta = try mean.masked(g, &builder)
    return [
      dx, try builder.add(Sum(over: .leading), dgamma),
      try builder.add(Sum(over: .leading), dbeta),
    ]
  }
}

/// Means along the last axis, over the channels of a mask where there is one.
struct RowMean {
  private let mask: Value?
  private let inverseCount: Value?

  /// Prepares means of values with the extents of `x`.
  init(
    _ x: Value, mask: Value?, _ builder: inout GraphBuilder
  ) throws(GraphError) {
    guard let mask else {
      self.mask = nil
      inverseCount = nil
      return
    }
    self.mask = try builder.add(Broadcast(over: .leading), mask, x)
    let root = try builder.add(ReciprocalSquareRoot(), try builder.add(Sum(over: .all), mask))
    inverseCount = try builder.product(root, root)
  }

  /// `x` with the channels outside the mask zero.
  func masked(_ x: Value, _ builder: inout GraphBuilder) throws(GraphError) -> Value {
    guard let mask else { return x }
    return try builder.product(x, mask)
  }

  /// The mean of every row.
  func callAsFunction(_ x: Value, _ builder: inout GraphBuilder) throws(GraphError) -> Value {
    guard let inverseCount else { return try builder.add(Sum(over: .last, isMean: true), x) }
    let sum = try builder.add(Sum(over: .last), try masked(x, &builder))
    return try builder.product(sum, try builder.add(Broadcast(over: .all), inverseCount, sum))
  }

  /// The mean of every row at each of its elements.
  func spread(_ x: Value, _ builder: inout GraphBuilder) throws(GraphError) -> Value {
    try builder.add(Broadcast(over: .last), try self(x, &builder), x)
  }
}
