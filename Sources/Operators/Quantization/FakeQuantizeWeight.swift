import CKernels
import GraphIR
import TensorCore

/// Rounds a weight to the grid of its integer codes: `y = clamp(rint(w / scale)) * scale`.
///
/// - Shapes: `w`: `[rows, ...]`; `scales`: `[rows]`, or `[rows, groups]` with a group size, not zero;
///   result: as `w`. A negative scale turns the longer side of the full grid towards positive values.
/// - Source: Sakr et al., "Optimal Clipping and Magnitude-aware Differentiation for Improved
///   Quantization-aware Training", ICML 2022, arXiv:2206.06501.
package struct FakeQuantizeWeight: Op {
  package static let name = "fake_quantize_weight"

  /// Bits of a code.
  package let bitCount: Int
  /// Which integers codes are.
  package let grid: CodeGrid
  /// Elements of a row that share a scale; nil for whole rows.
  package let groupSize: Int?
  /// How gradients pass.
  package let estimator: GradientEstimator

  /// Makes the operation.
  package init(
    bitCount: Int, grid: CodeGrid = .symmetric, groupSize: Int? = nil,
    estimator: GradientEstimator = .magnitudeAware
  ) {
    self.bitCount = bitCount
    self.grid = grid
    self.groupSize = groupSize
    self.estimator = estimator
  }

  /// Makes the operation that rounds as `quantization` does.
  package init(_ quantization: WeightQuantization, estimator: GradientEstimator) {
    self.init(
      bitCount: quantization.bitCount, grid: quantization.grid, groupSize: quantization.groupSize,
      estimator: estimator)
  }

  package init(attributes: inout Attributes) throws(GraphError) {
    bitCount = try attributes.integer("bits", in: 2...8)
    let word = try attributes.word("grid", of: CodeGrid.allCases.map(\.rawValue))
    grid = CodeGrid(rawValue: word) ?? .symmetric
    groupSize =
      attributes.has("group_size") ? try attributes.integer("group_size", in: 1...Int.max) : nil
    let name = try attributes.word("estimator", of: GradientEstimator.allCases.map(\.rawValue))
    estimator = GradientEstimator(rawValue: name) ?? .magnitudeAware
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    let group = groupSize.map { [("group_size", AttributeValue.integer($0))] } ?? []
    return [("bits", .integer(bitCount)), ("grid", .word(grid.rawValue))] + group + [
      ("estimator", .word(estimator.rawValue))
    ]
  }

  /// The codes in use.
  package var codes: ClosedRange<Int> {
    let highest = (1 << (bitCount - 1)) - 1
    return (grid == .symmetric ? -highest : -highest - 1)...highest
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...2)
    try requireFloats(inputs, 0, rank: 1...4)
    try requireScales(inputs, 1, of: 0, groupSize: groupSize)
    return [inputs[0]]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let runs = ScaleRuns(of: inputs.shape(0), scaleRank: 1, groupSize: groupSize)
    let (low, high) = (Element(codes.lowerBound), Element(codes.upperBound))
    let w = inputs.span(0, of: type)
    let scales = inputs.span(1, of: type)
    var y = outputs.span(0, of: type)
    for index in 0..<w.count {
      let scale = scales[runs.scale(of: index)]
      let code = (w[index] / scale).rounded(.toNearestOrEven)
      y[index] = min(max(code, low), high) * scale
    }
  }
}

extension FakeQuantizeWeight: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    let runs = ScaleRuns(of: inputs.shape(0), scaleRank: 1, groupSize: groupSize)
    let scales = inputs.pointer(1, of: Float.self)
    let threadCount = outputs.threadCount
    guard let w = inputs.pointer(0, of: Float.self).baseAddress,
      let y = outputs.pointer(0, of: Float.self).baseAddress
    else { return }
    let range = clip_code_range(lowest: Float(codes.lowerBound), highest: Float(codes.upperBound))
    let kernel = Kernels.training.f32_round_to_codes
    runs.forEach(threadCount: threadCount) { elements, scale in
      kernel(
        w + elements.lowerBound, elements.count, range, scales[scale], y + elements.lowerBound)
    }
  }
}

extension FakeQuantizeWeight: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    let gate = ClippingGate(codes: codes, groupSize: groupSize, estimator: estimator)
    return [try gate.passing(node.gradient, node.inputs[0], node.inputs[1], &builder), nil]
  }
}

extension Op {
  /// Throws unless input `index` holds a scale for each row of input `weight`, or for each group of
  /// `groupSize` elements in it.
  func requireScales(
    _ inputs: [TensorType], _ index: Int, of weight: Int, groupSize: Int?
  ) throws(GraphError) {
    let extents = inputs[weight].extents
    guard let groupSize else { return try requireFloats(inputs, index, extents: [extents[0]]) }
    var width = 1
    for axis in 1..<max(extents.count, 1) { width *= try fixedExtent(inputs, weight, axis: axis) }
    let groups = (width + groupSize - 1) / groupSize
    try requireFloats(inputs, index, extents: [extents[0], .fixed(groups)])
  }
}
