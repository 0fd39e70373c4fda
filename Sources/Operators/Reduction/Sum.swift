import CKernels
import GraphIR
import TensorCore

/// The axes over which elements are summed or repeated.
package enum ReducedAxes: String, Hashable, Sendable, CaseIterable {
  /// The last axis: `[..., n]` and `[...]`.
  case last
  /// All axes but the last: `[..., n]` and `[n]`.
  case leading
  /// All axes: any extents and a scalar.
  case all

  /// The extents that are left of `extents`.
  func remaining(_ extents: [Extent]) -> [Extent] {
    switch self {
    case .last: Array(extents.dropLast())
    case .leading: Array(extents.suffix(1))
    case .all: []
    }
  }

  /// How many elements of a row-major `shape` fall together.
  func count(in shape: [Int]) -> Int {
    switch self {
    case .last: shape.last ?? 1
    case .leading: shape.dropLast().reduce(1, *)
    case .all: shape.reduce(1, *)
    }
  }

  /// Where element `index` of a value whose last axis has `width` goes.
  func target(of index: Int, width: Int) -> Int {
    switch self {
    case .last: index / width
    case .leading: index % width
    case .all: 0
    }
  }
}

/// The sum, or the mean, of the elements over some axes.
///
/// - Shapes: `x`: `[..., n]`; result: what ``ReducedAxes`` leaves.
package struct Sum: Op {
  package static let name = "sum"

  /// Over which axes.
  package let axes: ReducedAxes
  /// Whether the sum is divided by the number of elements.
  package let isMean: Bool

  /// Makes the operation.
  package init(over axes: ReducedAxes, isMean: Bool = false) {
    self.axes = axes
    self.isMean = isMean
  }

  package init(attributes: inout Attributes) throws(GraphError) {
    let word = try attributes.word("over", of: ReducedAxes.allCases.map(\.rawValue))
    axes = ReducedAxes(rawValue: word) ?? .all
    isMean = try attributes.flag("mean")
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    [("over", .word(axes.rawValue)), ("mean", .flag(isMean))]
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 1...1)
    try requireFloats(inputs, 0, rank: (axes == .all ? 0 : 1)...4)
    return [TensorType(.float32, axes.remaining(inputs[0].extents))]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let shape = inputs.shape(0)
    let width = shape.last ?? 1
    let x = inputs.span(0, of: type)
    var y = outputs.span(0, of: type)
    for index in 0..<y.count { y[index] = 0 }
    for index in 0..<x.count { y[axes.target(of: index, width: width)] += x[index] }
    guard isMean else { return }
    let count = Element(max(axes.count(in: shape), 1))
    for index in 0..<y.count { y[index] /= count }
  }
}

extension Sum: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    let (rows, width) = matrixExtents(inputs.shape(0))
    guard axes == .leading, !isMean, rows > 0,
      let x = inputs.pointer(0, of: Float.self).baseAddress
    else { return evaluate(inputs, &outputs, as: Float.self) }
    let kernel = Kernels.training.f32_column_sums
    Kernels.accumulate(
      rows: rows, threadCount: outputs.threadCount, into: outputs.pointer(0, of: Float.self)
    ) { range, target in
      kernel(x, width, width, range, target)
    }
  }
}

extension Sum: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    [try builder.add(Broadcast(over: axes, isMean: isMean), node.gradient, node.inputs[0])]
  }
}
