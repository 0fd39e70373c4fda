import CKernels
import GraphIR
import TensorCore

/// The gradients of attention's queries, keys and values.
///
/// With `P = softmax(q kᵀ * scale)` of a head, computed anew: `dv = Pᵀ g`, `dS = P * (g vᵀ - the
/// row sums of P * g vᵀ)`, `dq = dS k * scale` and `dk = dSᵀ q * scale`.
///
/// - Shapes: `q`, `k`, `v`, `g` and the three results: `[batch, tokens, heads * headWidth]`.
package struct AttentionGradient: Op {
  package static let name = "attention_gradient"

  /// The attention whose gradients these are.
  package let attention: Attention

  /// Makes the operation.
  package init(of attention: Attention) { self.attention = attention }

  package init(attributes: inout Attributes) throws(GraphError) {
    attention = try Attention(attributes: &attributes)
  }

  package var attributes: [(name: String, value: AttributeValue)] { attention.attributes }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 4...4)
    let type = try attention.outputTypes(for: Array(inputs.prefix(3)))[0]
    try requireFloats(inputs, 3, extents: type.extents)
    return [type, type, type]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let shape = inputs.shape(0)
    let (tokens, width) = (shape[1], shape[2])
    let headWidth = attention.headWidth
    let scale = Element(attention.scale)
    var gradients = [[Element]](
      repeating: [Element](repeating: 0, count: shape.reduce(1, *)), count: 3)
    let q = inputs.span(0, of: type)
    let k = inputs.span(1, of: type)
    let v = inputs.span(2, of: type)
    let g = inputs.span(3, of: type)
    var weights = [Element](repeating: 0, count: tokens)
    var slopes = [Element](repeating: 0, count: tokens)
    for item in 0..<shape[0] {
      for head in 0..<(width / headWidth) {
        let base = item * tokens * width + head * headWidth
        for row in 0..<tokens {
          let seen = attention.isCausal ? row + 1 : tokens
          let here = base + row * width
          var largest = -Element.infinity
          for column in 0..<seen {
            var product: Element = 0
            for d in 0..<headWidth { product += q[here + d] * k[base + column * width + d] }
            weights[column] = product * scale
            largest = max(largest, weights[column])
          }
          var sum: Element = 0
          for column in 0..<seen {
            weights[column] = Element.exp(weights[column] - largest)
            sum += weights[column]
          }
          var mean: Element = 0
          for column in 0..<seen {
            weights[column] /= sum
            var product: Element = 0
            for d in 0..<headWidth { product += g[here + d] * v[base + column * width + d] }
            slopes[column] = product
            mean += product * weights[column]
          }
          for column in 0..<seen {
            let there = base + column * width
            let slope = weights[column] * (slopes[column] - mean) * scale
            for d in 0..<headWidth {
              gradients[0][here + d] += slope * k[there + d]
              gradients[1][there + d] += slope * q[here + d]
              gradients[2][there + d] += weights[column] * g[here + d]
            }
          }
        }
      }
    }
    for output in 0..<3 {
      var target = outputs.span(output, of: type)
      for index in 0..<target.count { target[index] = gradients[output][index] }
    }
  }

  package func multiplyAccumulateCount(inputs: [[Int]], outputs: [[Int]]) -> Int {
    5 * inputs[0][0] * inputs[0][1] * inputs[0][1] * inputs[0][2]
  }
}

extension AttentionGradient: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    let shape = inputs.shape(0)
    let (tokens, width) = (shape[1], shape[2])
    let headWidth = attention.headWidth
    let heads = width / headWidth
    guard let q = inputs.pointer(0, of: Float.self).baseAddress,
      let k = inputs.pointer(1, of: Float.self).baseAddress,
      let v = inputs.pointer(2, of: Float.self).baseAddress,
      let g = inputs.pointer(3, of: Float.self).baseAddress,
      let dq = outputs.pointer(0, of: Float.self).baseAddress,
      let dk = outputs.pointer(1, of: Float.self).baseAddress,
      let dv = outputs.pointer(2, of: Float.self).baseAddress, shape[0] * tokens * width > 0
    else { return }
    let kernel = Kernels.training.f32_attention_gradient
    let scratchCount = clip_f32_attention_gradient_scratch_count(tokens, headWidth)
    forEachRange(of: shape[0] * heads, threadCount: outputs.threadCount) { range in
      withUnsafeTemporaryAllocation(
        byteCount: scratchCount * MemoryLayout<Float>.stride, alignment: 64
      ) { scratch in
        guard let scratch = scratch.bindMemory(to: Float.self).baseAddress else { return }
        for index in range {
          let base = index / heads * tokens * width + index % heads * headWidth
          var arguments = clip_f32_attention_gradient_arguments(
            query: q + base, query_stride: width, key: k + base, key_stride: width,
            value: v + base, value_stride: width, upstream: g + base, upstream_stride: width,
            token_count: tokens, head_width: headWidth, scale: attention.scale,
            causal: attention.isCausal, query_gradient: dq + base, query_gradient_stride: width,
            key_gradient: dk + base, key_gradient_stride: width, value_gradient: dv + base,
            value_gradient_stride: width)
          kernel(&arguments, scratch)
        }
      }
    }
  }
}

extension AttentionGradient: DecomposableOp {
  package func decomposition(
    of inputs: [Value], _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value] {
    var heads: [Value] = []
    for input in inputs {
      heads.append(try builder.add(SplitHeads(headWidth: attention.headWidth), input))
    }
    let (q, k, v, g) = (heads[0], heads[1], heads[2], heads[3])
    let logits = try builder.scaled(
      try builder.add(MatMul(transposesB: true), q, k), by: attention.scale)
    let weights = try builder.add(Softmax(isCausal: attention.isCausal), logits)
    let slopes = try builder.add(MatMul(transposesB: true), g, v)
    let weighted = try builder.product(weights, slopes)
    let mean = try builder.add(Sum(over: .last), weighted)
    let spread = try builder.add(Broadcast(over: .last), mean, weights)
    let inner = try builder.scaled(
      try builder.difference(weighted, try builder.product(weights, spread)), by: attention.scale)
    return [
      try builder.add(MergeHeads(), try builder.add(MatMul(), inner, k)),
      try builder.add(MergeHeads(), try builder.add(MatMul(transposesA: true), inner, q)),
      try builder.add(MergeHeads(), try builder.add(MatMul(transposesA: true), weights, g)),
    ]
  }
}
