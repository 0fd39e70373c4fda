import GraphIR
import TensorCore

/// The weight of each slot's expert in a token's result; zero where there is none or it is full.
///
/// Normalized, the softmax over the experts that the token chose, full ones among them, so that
/// what finds no room is lost; otherwise the chosen expert's share of the softmax over all.
///
/// - Shapes: `logits`: `[..., experts]`; `assignment`: int32 `[..., slots]`; result:
///   `[..., slots]`.
/// - Source: Zhang et al., "CLIP-MoE: Towards Building Mixture of Experts for CLIP with Diversified
///   Multiplet Upcycling", EMNLP 2025, arXiv:2409.19291, normalized; Fedus et al., "Switch
///   Transformers", JMLR 2022, arXiv:2101.03961, otherwise.
package struct ExpertGates: Op {
  package static let name = "expert_gates"

  /// Whether the weights of a token whose experts all have room sum to one.
  package let isNormalized: Bool

  /// Makes the operation.
  package init(isNormalized: Bool) { self.isNormalized = isNormalized }

  package init(attributes: inout Attributes) throws(GraphError) {
    isNormalized = try attributes.flag("normalized")
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    [("normalized", .flag(isNormalized))]
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...2)
    try requireAssignment(inputs, 1)
    _ = try requireBeside(inputs, 0, assignment: 1)
    return [TensorType(.float32, inputs[1].extents)]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let (rows, experts) = matrixExtents(inputs.shape(0))
    let slots = inputs.shape(1).last ?? 1
    let x = inputs.span(0, of: type)
    let codes = inputs.span(1, of: Int32.self)
    var y = outputs.span(0, of: type)
    for row in 0..<rows {
      // The experts that share the weight, as slots or as they stand.
      let (start, count) = isNormalized ? (row * slots, slots) : (row * experts, experts)
      func logit(_ index: Int) -> Element? {
        guard isNormalized else { return x[index] }
        guard let expert = SlotCode.choice(codes[index]), expert < experts else { return nil }
        return x[row * experts + expert]
      }
      var largest = -Element.infinity
      for index in start..<(start + count) {
        if let logit = logit(index) { largest = max(largest, logit) }
      }
      var sum: Element = 0
      for index in start..<(start + count) {
        if let logit = logit(index) { sum += Element.exp(logit - largest) }
      }
      for slot in (row * slots)..<((row + 1) * slots) {
        let expert = Int(codes[slot])
        y[slot] =
          expert >= 0 && expert < experts
          ? Element.exp(x[row * experts + expert] - largest) / sum : 0
      }
    }
  }
}

extension ExpertGates: AcceleratedOp {}

extension ExpertGates: PrunableOp {
  package func axisLinks(inputs: [TensorType], outputs: [TensorType]) -> [AxisLink] {
    leadingLinks([0, 1], rank: inputs[1].rank - 1)
  }
}

extension ExpertGates: DecomposableOp {
  package func decomposition(
    of inputs: [Value], _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value] {
    let (logits, assignment) = (inputs[0], inputs[1])
    let shares: Value
    if isNormalized {
      let chosen = try builder.add(SelectSlots(fill: -1e30), logits, assignment)
      shares = try builder.add(Softmax(), chosen)
    } else {
      shares = try builder.add(SelectSlots(), try builder.add(Softmax(), logits), assignment)
    }
    return [try builder.product(shares, try builder.add(SlotMask(), assignment))]
  }
}

extension ExpertGates: RowwiseOp {
  package var rowInputs: [Int] { [0, 1] }
}
