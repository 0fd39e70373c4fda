import CKernels
import GraphIR
import TensorCore

/// Scaled dot-product attention of every head: `softmax(q kᵀ * scale) v`, heads side by side.
///
/// The scale is an attribute because it stays that of the original head count when heads are
/// removed.
///
/// - Shapes: `q`, `k`, `v` and the result: `[batch, tokens, heads * headWidth]`.
/// - Source: Vaswani et al., "Attention Is All You Need", NeurIPS 2017, arXiv:1706.03762.
package struct Attention: Op {
  package static let name = "attention"

  /// Elements of one head.
  package let headWidth: Int
  /// What the products of queries and keys are multiplied by.
  package let scale: Float
  /// Whether a token sees only itself and what stands before it.
  package let isCausal: Bool
  /// Whether probabilities are rounded to codes of 8 bits, as where both products are of codes:
  /// `c / Σ c` for `c = rint(255 e)`, e the exponential of a score less the row's greatest.
  package let quantizesProbabilities: Bool

  /// Makes the operation.
  package init(
    headWidth: Int, scale: Float, isCausal: Bool, quantizesProbabilities: Bool = false
  ) {
    self.headWidth = headWidth
    self.scale = scale
    self.isCausal = isCausal
    self.quantizesProbabilities = quantizesProbabilities
  }

  package init(attributes: inout Attributes) throws(GraphError) {
    headWidth = try attributes.integer("head_width", in: 1...65_536)
    scale = try attributes.real("scale")
    isCausal = try attributes.flag("causal")
    quantizesProbabilities =
      attributes.has("quantizes_probabilities")
      ? try attributes.flag("quantizes_probabilities") : false
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    [
      ("head_width", .integer(headWidth)), ("scale", .real(scale)), ("causal", .flag(isCausal)),
    ] + (quantizesProbabilities ? [("quantizes_probabilities", .flag(true))] : [])
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 3...3)
    try requireFloats(inputs, 0, rank: 3...3)
    let width = try fixedExtent(inputs, 0, axis: 2)
    guard width % headWidth == 0 else {
      throw mismatch(inputs, 0, "f32[batch, tokens, a multiple of \(headWidth)]")
    }
    try requireFloats(inputs, 1, extents: inputs[0].extents)
    try requireFloats(inputs, 2, extents: inputs[0].extents)
    return [inputs[0]]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let shape = inputs.shape(0)
    let (tokens, width) = (shape[1], shape[2])
    let (q, k, v) = (inputs.span(0, of: type), inputs.span(1, of: type), inputs.span(2, of: type))
    var y = outputs.span(0, of: type)
    var weights = [Element](repeating: 0, count: tokens)
    for item in 0..<shape[0] {
      for head in 0..<(width / headWidth) {
        let base = item * tokens * width + head * headWidth
        for row in 0..<tokens {
          let seen = isCausal ? row + 1 : tokens
          var largest = -Element.infinity
          for column in 0..<seen {
            var product: Element = 0
            for d in 0..<headWidth {
              product += q[base + row * width + d] * k[base + column * width + d]
            }
            weights[column] = product * Element(scale)
            largest = max(largest, weights[column])
          }
          var sum: Element = 0
          for column in 0..<seen {
            weights[column] = Element.exp(weights[column] - largest)
            sum += weights[column]
          }
          if quantizesProbabilities {
            sum = 0
            for column in 0..<seen {
              weights[column] = (weights[column] * 255).rounded(.toNearestOrEven)
              sum += weights[column]
            }
          }
          for d in 0..<headWidth {
            var mixed: Element = 0
            for column in 0..<seen { mixed += weights[column] * v[base + column * width + d] }
            y[base + row * width + d] = mixed / sum
          }
        }
      }
    }
  }

  package func multiplyAccumulateCount(inputs: [[Int]], outputs: [[Int]]) -> Int {
    // Two products over the whole square; a causal mask does not lessen the usual count.
    2 * inputs[0][0] * inputs[0][1] * inputs[0][1] * inputs[0][2]
  }
}

extension Attention: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    evaluateFast(inputs, &outputs, keySizes: nil)
  }

  /// As ``evaluateFast(_:_:)``, each key counting as often as `keySizes`, `[batch, tokens]`, says.
  func evaluateFast(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands,
    keySizes: UnsafeBufferPointer<Float>?
  ) {
    let shape = inputs.shape(0)
    let (tokens, width) = (shape[1], shape[2])
    let heads = width / headWidth
    guard let q = inputs.pointer(0, of: Float.self).baseAddress,
      let k = inputs.pointer(1, of: Float.self).baseAddress,
      let v = inputs.pointer(2, of: Float.self).baseAddress,
      let y = outputs.pointer(0, of: Float.self).baseAddress, shape[0] * tokens * width > 0
    else { return }
    let kernel = Kernels.best.f32_attention
    let scratchCount = clip_f32_attention_scratch_count(tokens, headWidth)
    forEachRange(of: shape[0] * heads, threadCount: outputs.threadCount) { range in
      withUnsafeTemporaryAllocation(
        byteCount: scratchCount * MemoryLayout<Float>.stride, alignment: 64
      ) { scratch in
        guard let scratch = scratch.bindMemory(to: Float.self).baseAddress else { return }
        for index in range {
          let base = index / heads * tokens * width + index % heads * headWidth
          var head = clip_f32_attention_arguments(
            query: q + base, query_stride: width, key: k + base, key_stride: width,
            value: v + base, value_stride: width, prefix_key: nil, prefix_value: nil,
            prefix_count: 0, query_count: tokens, key_count: tokens,
            head_width: headWidth, scale: scale, causal: isCausal, first_query: 0,
            output: Kernels.floats(y + base, stride: width),
            key_sizes: keySizes?.baseAddress.map { $0 + index / heads * tokens },
            quantizes_probabilities: quantizesProbabilities)
          kernel(&head, scratch)
        }
      }
    }
  }
}

extension Attention: PrunableOp {
  package func axisLinks(inputs: [TensorType], outputs: [TensorType]) -> [AxisLink] {
    var links = (0..<2).map { axis in
      AxisLink([.input(0, axis), .input(1, axis), .input(2, axis), .output(0, axis)])
    }
    links.append(
      AxisLink([.input(0, 2), .input(1, 2), .input(2, 2), .output(0, 2)], unit: headWidth))
    return links
  }
}

extension Attention: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    try builder.addNode(AttentionGradient(of: self), node.inputs + [node.gradient])
  }
}
