import CKernels
import GraphIR
import TensorCore

/// Attention in which a key counts as often as the tokens it was merged from.
///
/// The logarithm of its size is added to a key's logits, as if its tokens were still there side by
/// side: `softmax(q kᵀ * scale + ln(sizes)) v`.
///
/// - Shapes: `q`, `k`, `v` and the result: `[batch, tokens, heads * headWidth]`; `sizes`:
///   `[batch, tokens]`, positive.
/// - Source: Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023, arXiv:2210.09461.
package struct ProportionalAttention: Op {
  package static let name = "proportional_attention"

  /// What is computed beside the sizes; never causal.
  package let attention: Attention

  /// Weighs the keys of `attention`.
  package init(_ attention: Attention) { self.attention = attention }

  package init(attributes: inout Attributes) throws(GraphError) {
    attention = Attention(
      headWidth: try attributes.integer("head_width", in: 1...65_536),
      scale: try attributes.real("scale"), isCausal: false)
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    [("head_width", .integer(attention.headWidth)), ("scale", .real(attention.scale))]
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 4...4)
    let types = try attention.outputTypes(for: Array(inputs.prefix(3)))
    try requireFloats(inputs, 3, extents: Array(inputs[0].extents.prefix(2)))
    return types
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let shape = inputs.shape(0)
    let (tokens, width, headWidth) = (shape[1], shape[2], attention.headWidth)
    let (q, k, v) = (inputs.span(0, of: type), inputs.span(1, of: type), inputs.span(2, of: type))
    let sizes = inputs.span(3, of: type)
    var y = outputs.span(0, of: type)
    var weights = [Element](repeating: 0, count: tokens)
    for index in 0..<(shape[0] * (width / headWidth)) {
      let item = index / (width / headWidth)
      let base = item * tokens * width + index % (width / headWidth) * headWidth
      for row in 0..<tokens {
        var largest = -Element.infinity
        for column in 0..<tokens {
          var product: Element = 0
          for d in 0..<headWidth {
            product += q[base + row * width + d] * k[base + column * width + d]
          }
          weights[column] =
            product * Element(attention.scale) + Element.log(sizes[item * tokens + column])
          largest = max(largest, weights[column])
        }
        var sum: Element = 0
        for column in 0..<tokens {
          weights[column] = Element.exp(weights[column] - largest)
          sum += weights[column]
        }
        for d in 0..<headWidth {
          var mixed: Element = 0
          for column in 0..<tokens { mixed += weights[column] * v[base + column * width + d] }
          y[base + row * width + d] = mixed / sum
        }
      }
    }
  }

  package func multiplyAccumulateCount(inputs: [[Int]], outputs: [[Int]]) -> Int {
    attention.multiplyAccumulateCount(inputs: inputs, outputs: outputs)
  }
}

extension ProportionalAttention: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    attention.evaluateFast(inputs, &outputs, keySizes: inputs.pointer(3, of: Float.self))
  }
}

extension ProportionalAttention: PrunableOp {
  package func axisLinks(inputs: [TensorType], outputs: [TensorType]) -> [AxisLink] {
    var links = attention.axisLinks(inputs: Array(inputs.prefix(3)), outputs: outputs)
    for axis in 0..<2 { links[axis].members.append(.input(3, axis)) }
    return links
  }
}
