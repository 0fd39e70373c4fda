import GraphIR
import TensorCore

/// `y = x Wᵀ + b` along the last axis.
///
/// - Shapes: `x`: `[..., in]`; `W`: `[out, in]`; `b`: `[out]`, optional; result: `[..., out]`.
package struct Linear: Op {
  package static let name = "linear"

  /// Makes the operation; it has no attributes.
  package init() {}

  package init(attributes: inout Attributes) throws(GraphError) {}

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...3)
    try requireFloats(inputs, 0, rank: 1...4)
    try requireFloats(inputs, 1, rank: 2...2)
    guard let width = inputs[0].extents.last, inputs[1].extents[1] == width else {
      throw mismatch(inputs, 1, "f32[out, \(inputs[0].extents.last ?? 0)]")
    }
    let out = inputs[1].extents[0]
    if inputs.count == 3 { try requireFloats(inputs, 2, extents: [out]) }
    return [TensorType(.float32, inputs[0].extents.dropLast() + [out])]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let (rows, width) = matrixExtents(inputs.shape(0))
    let out = inputs.shape(1)[0]
    let x = inputs.span(0, of: type)
    let weight = inputs.span(1, of: type)
    var y = outputs.span(0, of: type)
    for row in 0..<rows {
      for channel in 0..<out {
        var sum: Element = 0
        for k in 0..<width { sum += x[row * width + k] * weight[channel * width + k] }
        if inputs.count == 3 { sum += inputs.span(2, of: type)[channel] }
        y[row * out + channel] = sum
      }
    }
  }

  package func multiplyAccumulateCount(inputs: [[Int]], outputs: [[Int]]) -> Int {
    outputs[0].reduce(1, *) * (inputs[0].last ?? 0)
  }
}

extension Linear: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    let (rows, width) = matrixExtents(inputs.shape(0))
    let out = inputs.shape(1)[0]
    Matrix.product(
      m: rows, n: out, k: width, MatrixView(inputs.pointer(0, of: Float.self), stride: width),
      MatrixView(inputs.pointer(1, of: Float.self), stride: width, isTransposed: true),
      bias: inputs.count == 3 ? inputs.pointer(2, of: Float.self) : nil,
      isRounded: outputs.roundsFactors, into: outputs.pointer(0, of: Float.self),
      threadCount: outputs.threadCount)
  }
}

extension Linear: PrunableOp {
  package func axisLinks(inputs: [TensorType], outputs: [TensorType]) -> [AxisLink] {
    let last = inputs[0].rank - 1
    var made: [OperandAxis] = [.input(1, 0), .output(0, last)]
    if inputs.count == 3 { made.append(.input(2, 0)) }
    let leading = (0..<last).map { AxisLink([.input(0, $0), .output(0, $0)]) }
    return leading + [AxisLink([.input(0, last), .input(1, 1)]), AxisLink(made)]
  }
}

extension Linear: QuantizableOp {
  package var weightInputs: [Int] { [1] }
  package var activationInputs: [Int] { [0] }
}

extension Linear: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    let gradient = node.gradient
    var gradients: [Value?] = [
      node.isWanted[0] ? try builder.add(LinearTransposed(), gradient, node.inputs[1]) : nil,
      node.isWanted[1] ? try builder.add(ContractLeading(), gradient, node.inputs[0]) : nil,
    ]
    if node.inputs.count == 3 {
      gradients.append(
        node.isWanted[2] ? try builder.add(Sum(over: .leading), gradient) : nil)
    }
    return gradients
  }
}

extension Linear: RowwiseOp {
  package var rowInputs: [Int] { [0] }
}
