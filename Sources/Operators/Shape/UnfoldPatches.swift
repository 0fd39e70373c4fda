import GraphIR
import TensorCore

/// Cuts images into square patches, each a row of its pixels.
///
/// A convolution whose stride is its kernel is this followed by a linear. A row holds the channels
/// one after the other, each row by row; patches go row by row too.
///
/// - Shapes: `x`: `[batch, channels, height, width]`, height and width multiples of `patchSize`;
///   result: `[batch, patches, channels * patchSize²]`.
package struct UnfoldPatches: Op {
  package static let name = "unfold_patches"

  /// Pixels along a side of a patch.
  package let patchSize: Int

  /// Makes the operation.
  package init(patchSize: Int) { self.patchSize = patchSize }

  package init(attributes: inout Attributes) throws(GraphError) {
    patchSize = try attributes.integer("patch_size", in: 1...4096)
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    [("patch_size", .integer(patchSize))]
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 1...1)
    try requireFloats(inputs, 0, rank: 4...4)
    let channels = try fixedExtent(inputs, 0, axis: 1)
    let height = try fixedExtent(inputs, 0, axis: 2)
    let width = try fixedExtent(inputs, 0, axis: 3)
    guard height % patchSize == 0, width % patchSize == 0, height <= 1 << 16, width <= 1 << 16,
      channels <= 1 << 16
    else {
      throw mismatch(inputs, 0, "f32[batch, channels, multiples of \(patchSize)]")
    }
    let patches = (height / patchSize) * (width / patchSize)
    return [
      TensorType(
        .float32,
        [inputs[0].extents[0], .fixed(patches), .fixed(channels * patchSize * patchSize)])
    ]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let shape = inputs.shape(0)
    let (channels, height, width) = (shape[1], shape[2], shape[3])
    let x = inputs.span(0, of: type)
    var y = outputs.span(0, of: type)
    var target = 0
    for item in 0..<shape[0] {
      for top in stride(from: 0, to: height, by: patchSize) {
        for left in stride(from: 0, to: width, by: patchSize) {
          for channel in 0..<channels {
            for row in 0..<patchSize {
              let source = ((item * channels + channel) * height + top + row) * width + left
              for column in 0..<patchSize { y[target + column] = x[source + column] }
              target += patchSize
            }
          }
        }
      }
    }
  }
}

extension UnfoldPatches: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    evaluate(inputs, &outputs, as: Float.self)
  }
}

extension UnfoldPatches: PrunableOp {
  package func axisLinks(inputs: [TensorType], outputs: [TensorType]) -> [AxisLink] {
    [AxisLink([.input(0, 0), .output(0, 0)])]
  }
}

extension UnfoldPatches: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    guard node.isWanted[0] else { return [nil] }
    let extents = builder.graph.tensorType(of: node.inputs[0]).extents.map { $0.fixedCount ?? 0 }
    let fold = FoldPatches(patchSize: patchSize, height: extents[2], width: extents[3])
    return [try builder.add(fold, node.gradient)]
  }
}
