import CKernels
import GraphIR
import TensorCore

/// `y = g * f'(x)` for the activation function `f` of a block's MLP.
///
/// - Shapes: `x`, `g` and the result have the same extents.
package struct ActivationGradient: Op {
  package static let name = "activation_gradient"

  /// The activation functions.
  package enum Function: String, Hashable, Sendable, CaseIterable {
    case gelu
    case quickGELU = "quick_gelu"
  }

  /// The activation function.
  package let function: Function

  /// Makes the operation.
  package init(of function: Function) { self.function = function }

  package init(attributes: inout Attributes) throws(GraphError) {
    let word = try attributes.word("function", of: Function.allCases.map(\.rawValue))
    function = Function(rawValue: word) ?? .gelu
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    [("function", .word(function.rawValue))]
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...2)
    try requireFloats(inputs, 0, rank: 0...4)
    try requireFloats(inputs, 1, extents: inputs[0].extents)
    return [inputs[0]]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let x = inputs.span(0, of: type)
    let g = inputs.span(1, of: type)
    var y = outputs.span(0, of: type)
    for index in 0..<x.count { y[index] = g[index] * slope(at: x[index]) }
  }

  private func slope<Element: FloatingElement>(at x: Element) -> Element {
    switch function {
    case .gelu:
      let distribution = (1 + Element.erf(x * Element(0.5).squareRoot())) / 2
      return distribution + x * Element.exp(-x * x / 2) / (2 * Element.pi).squareRoot()
    case .quickGELU:
      let gate = 1 / (1 + Element.exp(-1.702 * x))
      return gate * (1 + 1.702 * x * (1 - gate))
    }
  }
}

extension ActivationGradient: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    let source = inputs.pointer(0, of: Float.self)
    guard let x = source.baseAddress, let g = inputs.pointer(1, of: Float.self).baseAddress,
      let y = outputs.pointer(0, of: Float.self).baseAddress
    else { return }
    let kernel = Kernels.training.f32_activation_gradient
    let activation = function == .gelu ? CLIP_ACTIVATION_GELU : CLIP_ACTIVATION_QUICK_GELU
    forEachRange(
      of: source.count, threadCount: outputs.threadCount, minimumCount: 1 << 15
    ) { range in
      let start = range.lowerBound
      kernel(x + start, g + start, range.count, activation, y + start)
    }
  }
}

extension ActivationGradient: DecomposableOp {
  package func decomposition(
    of inputs: [Value], _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value] {
    let x = inputs[0]
    let slope: Value
    switch function {
    case .gelu:
      let argument = try builder.scaled(x, by: Float(0.5).squareRoot())
      let odd = try builder.scaled(try builder.add(ErrorFunction(), argument), by: 0.5)
      let distribution = try builder.add(Offset(by: 0.5), odd)
      let square = try builder.scaled(try builder.product(x, x), by: -0.5)
      let density = try builder.scaled(
        try builder.add(Exponential(), square), by: 1 / (2 * Float.pi).squareRoot())
      slope = try builder.sum(distribution, try builder.product(x, density))
    case .quickGELU:
      let scaled = try builder.scaled(x, by: 1.702)
      let gate = try builder.add(Sigmoid(), scaled)
      let rest = try builder.add(Offset(by: 1), try builder.scaled(gate, by: -1))
      let second = try builder.add(Offset(by: 1), try builder.product(scaled, rest))
      slope = try builder.product(gate, second)
    }
    return [try builder.product(inputs[1], slope)]
  }
}
