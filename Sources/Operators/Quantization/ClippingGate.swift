import CKernels
import GraphIR
import TensorCore

/// What passes of a gradient where elements were rounded to codes: all of it within the range of the
/// codes, and beyond as much as the estimator says.
///
/// - Shapes: `x`: any; `scales`: `[]` for one that serves all, `[rows]`, or `[rows, groups]` with a
///   group size; `g` and the result: as `x`.
/// - Source: Sakr et al., arXiv:2206.06501, section 4.
package struct ClippingGate: Op {
  package static let name = "clipping_gate"

  /// The codes in use, counted from the code of zero.
  package let codes: ClosedRange<Int>
  /// Elements of a row that share a scale; nil for whole rows or the whole tensor.
  package let groupSize: Int?
  /// What passes beyond the range.
  package let estimator: GradientEstimator

  /// Makes the operation.
  ///
  /// - Precondition: zero is a code.
  package init(codes: ClosedRange<Int>, groupSize: Int? = nil, estimator: GradientEstimator) {
    precondition(codes.contains(0), "zero has a code")
    self.codes = codes
    self.groupSize = groupSize
    self.estimator = estimator
  }

  package init(attributes: inout Attributes) throws(GraphError) {
    codes = try attributes.codes()
    groupSize =
      attributes.has("group_size") ? try attributes.integer("group_size", in: 1...Int.max) : nil
    let name = try attributes.word("estimator", of: GradientEstimator.allCases.map(\.rawValue))
    estimator = GradientEstimator(rawValue: name) ?? .magnitudeAware
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    let group = groupSize.map { [("group_size", AttributeValue.integer($0))] } ?? []
    return [
      ("lowest", .integer(codes.lowerBound)), ("highest", .integer(codes.upperBound)),
    ] + group + [("estimator", .word(estimator.rawValue))]
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 3...3)
    try requireFloats(inputs, 0, rank: 0...4)
    try requireFloats(inputs, 2, extents: inputs[0].extents)
    if inputs[1].rank == 0 {
      try requireFloats(inputs, 1, extents: [])
    } else {
      try requireFloats(inputs, 0, rank: 1...4)
      try requireScales(inputs, 1, of: 0, groupSize: groupSize)
    }
    return [inputs[0]]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let runs = ScaleRuns(
      of: inputs.shape(0), scaleRank: inputs.shape(1).count, groupSize: groupSize)
    let x = inputs.span(0, of: type)
    let scales = inputs.span(1, of: type)
    let g = inputs.span(2, of: type)
    var y = outputs.span(0, of: type)
    for index in 0..<x.count {
      let scale = scales[runs.scale(of: index)]
      let (a, b) = (Element(codes.lowerBound) * scale, Element(codes.upperBound) * scale)
      let bound = x[index] < min(a, b) ? min(a, b) : max(a, b)
      let isClipped = x[index] < min(a, b) || x[index] > max(a, b)
      switch estimator {
      case .straightThrough: y[index] = g[index]
      case .piecewiseLinear: y[index] = isClipped ? 0 : g[index]
      case .magnitudeAware: y[index] = isClipped ? g[index] * (bound / x[index]) : g[index]
      }
    }
  }
}

extension ClippingGate: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    guard estimator != .straightThrough else {
      return evaluate(inputs, &outputs, as: Float.self)
    }
    let runs = ScaleRuns(
      of: inputs.shape(0), scaleRank: inputs.shape(1).count, groupSize: groupSize)
    let scales = inputs.pointer(1, of: Float.self)
    let threadCount = outputs.threadCount
    guard let x = inputs.pointer(0, of: Float.self).baseAddress,
      let g = inputs.pointer(2, of: Float.self).baseAddress,
      let y = outputs.pointer(0, of: Float.self).baseAddress
    else { return }
    let kernel = Kernels.training.f32_clipping_gate
    let gate =
      estimator == .magnitudeAware
      ? CLIP_CLIPPING_GATE_MAGNITUDE_AWARE : CLIP_CLIPPING_GATE_PIECEWISE_LINEAR
    let (lowest, highest) = (Float(codes.lowerBound), Float(codes.upperBound))
    runs.forEach(threadCount: threadCount) { elements, scale in
      let (a, b) = (lowest * scales[scale], highest * scales[scale])
      let start = elements.lowerBound
      kernel(
        x + start, g + start, elements.count,
        clip_code_range(lowest: min(a, b), highest: max(a, b)),
        gate, y + start)
    }
  }
}

extension ClippingGate: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    [nil, nil, try passing(node.gradient, node.inputs[0], node.inputs[1], &builder)]
  }

  /// What passes of `gradient` where `x` was rounded with `scales`; the gradient itself where all of it
  /// does.
  func passing(
    _ gradient: Value, _ x: Value, _ scales: Value, _ builder: inout GraphBuilder
  ) throws(GraphError) -> Value {
    estimator == .straightThrough ? gradient : try builder.add(self, x, scales, gradient)
  }
}

extension Attributes {
  /// The codes `lowest...highest` counted from that of zero, which is among them.
  mutating func codes() throws(GraphError) -> ClosedRange<Int> {
    let lowest = try integer("lowest", in: -255...0)
    return lowest...(try integer("highest", in: 0...255))
  }
}
