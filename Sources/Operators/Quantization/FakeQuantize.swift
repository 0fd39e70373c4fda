import CKernels
import GraphIR
import TensorCore

/// Rounds a value to the grid of its codes of up to 8 bits, as the integer runtime does.
///
/// - Shapes: any; the result has the input's extents.
package struct FakeQuantize: Op {
  package static let name = "fake_quantize"

  /// The codes.
  package let parameters: ActivationQuantization

  /// Makes the operation.
  package init(parameters: ActivationQuantization) { self.parameters = parameters }

  package init(attributes: inout Attributes) throws(GraphError) {
    let scale = try attributes.real("scale")
    guard scale > 0, (1 / scale).isFinite else {
      throw .attribute(op: Self.name, name: "scale", expected: "a positive number")
    }
    let zeroPoint = try attributes.integer("zero_point", in: 0...255)
    let lowest = try attributes.integer("lowest", in: 0...255)
    let highest =
      attributes.has("highest") ? try attributes.integer("highest", in: lowest...255) : 255
    parameters = ActivationQuantization(
      scale: scale, zeroPoint: UInt8(zeroPoint), lowest: UInt8(lowest), highest: UInt8(highest))
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    let range =
      parameters.highest == 255
      ? [] : [("highest", AttributeValue.integer(Int(parameters.highest)))]
    return [
      ("scale", .real(parameters.scale)), ("zero_point", .integer(Int(parameters.zeroPoint))),
      ("lowest", .integer(Int(parameters.lowest))),
    ] + range
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 1...1)
    try requireFloats(inputs, 0, rank: 0...4)
    return inputs
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let x = inputs.span(0, of: type)
    var y = outputs.span(0, of: type)
    for index in 0..<x.count { y[index] = Element(parameters.simulated(Float(x[index]))) }
  }
}

extension FakeQuantize: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    let source = inputs.pointer(0, of: Float.self)
    guard let x = source.baseAddress, let y = outputs.pointer(0, of: Float.self).baseAddress
    else { return }
    let kernel = Kernels.best.f32_simulate
    let codes = clip_quantization(
      inverse_scale: parameters.inverseScale, zero_point: parameters.zeroPoint,
      lowest: parameters.lowest, highest: parameters.highest)
    forEachRange(
      of: source.count, threadCount: outputs.threadCount, minimumCount: 1 << 15
    ) { range in
      kernel(
        x + range.lowerBound, range.count, codes, parameters.scale, y + range.lowerBound)
    }
  }
}

extension FakeQuantize: PrunableOp {
  package func axisLinks(inputs: [TensorType], outputs: [TensorType]) -> [AxisLink] {
    elementwiseLinks(inputs)
  }
}

extension FakeQuantize: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    // Clipped activations learn nothing: the piecewise linear estimator of arXiv:2206.06501.
    let codes = parameters
    let margin = codes.scale / 2
    return [
      try builder.add(
        Gate(codes.value(of: codes.lowest) - margin, codes.value(of: codes.highest) + margin),
        node.inputs[0], node.gradient)
    ]
  }
}

extension FakeQuantize: RowwiseOp {
  package var rowInputs: [Int] { [0] }
}
