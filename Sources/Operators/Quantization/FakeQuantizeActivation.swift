import CKernels
import GraphIR
import TensorCore

/// Rounds an activation to the grid of its codes, as ``FakeQuantize`` does, with a step that is an
/// operand: in training it follows the batch.
///
/// - Shapes: `x`: any; `scale`: `[]`, positive; result: as `x`.
package struct FakeQuantizeActivation: Op {
  package static let name = "fake_quantize_activation"

  /// The code of zero.
  package let zeroPoint: Int
  /// The codes in use.
  package let codes: ClosedRange<Int>
  /// How gradients pass.
  package let estimator: GradientEstimator

  /// Makes the operation that rounds to the codes of `parameters`.
  package init(_ parameters: ActivationQuantization, estimator: GradientEstimator) {
    zeroPoint = Int(parameters.zeroPoint)
    codes = Int(parameters.lowest)...Int(parameters.highest)
    self.estimator = estimator
  }

  package init(attributes: inout Attributes) throws(GraphError) {
    let lowest = try attributes.integer("lowest", in: 0...255)
    codes = lowest...(try attributes.integer("highest", in: lowest...255))
    zeroPoint = try attributes.integer("zero_point", in: codes)
    let name = try attributes.word("estimator", of: GradientEstimator.allCases.map(\.rawValue))
    estimator = GradientEstimator(rawValue: name) ?? .piecewiseLinear
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    [
      ("lowest", .integer(codes.lowerBound)), ("highest", .integer(codes.upperBound)),
      ("zero_point", .integer(zeroPoint)), ("estimator", .word(estimator.rawValue)),
    ]
  }

  /// The codes in use, counted from the code of zero.
  package var centeredCodes: ClosedRange<Int> {
    (codes.lowerBound - zeroPoint)...(codes.upperBound - zeroPoint)
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...2)
    try requireFloats(inputs, 0, rank: 0...4)
    try requireFloats(inputs, 1, extents: [])
    return [inputs[0]]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let x = inputs.span(0, of: type)
    let scale = inputs.span(1, of: type)[0]
    let (low, high) = (Element(centeredCodes.lowerBound), Element(centeredCodes.upperBound))
    var y = outputs.span(0, of: type)
    for index in 0..<x.count {
      let code = (x[index] * (1 / scale)).rounded(.toNearestOrEven)
      y[index] = min(max(code, low), high) * scale
    }
  }
}

extension FakeQuantizeActivation: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    let source = inputs.pointer(0, of: Float.self)
    let scale = inputs.span(1, of: Float.self)[0]
    let threadCount = outputs.threadCount
    guard let x = source.baseAddress, let y = outputs.pointer(0, of: Float.self).baseAddress
    else { return }
    let kernel = Kernels.best.f32_simulate
    let quantization = clip_quantization(
      inverse_scale: 1 / scale, zero_point: UInt8(zeroPoint), lowest: UInt8(codes.lowerBound),
      highest: UInt8(codes.upperBound))
    forEachRange(of: source.count, threadCount: threadCount, minimumCount: 1 << 15) { range in
      kernel(x + range.lowerBound, range.count, quantization, scale, y + range.lowerBound)
    }
  }
}

extension FakeQuantizeActivation: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    let gate = ClippingGate(codes: centeredCodes, estimator: estimator)
    return [try gate.passing(node.gradient, node.inputs[0], node.inputs[1], &builder), nil]
  }
}

extension FakeQuantizeActivation: RowwiseOp {
  package var rowInputs: [Int] { [0] }
}
