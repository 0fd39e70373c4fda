import GraphIR
import TensorCore

/// Puts patches back where ``UnfoldPatches`` cut them from.
///
/// - Shapes: `x`: `[batch, patches, channels * patchSize²]`; result:
///   `[batch, channels, height, width]`.
package struct FoldPatches: Op {
  package static let name = "fold_patches"

  /// Pixels along a side of a patch.
  package let patchSize: Int
  /// Rows of the image.
  package let height: Int
  /// Columns of the image.
  package let width: Int

  /// Makes the operation.
  package init(patchSize: Int, height: Int, width: Int) {
    self.patchSize = patchSize
    self.height = height
    self.width = width
  }

  package init(attributes: inout Attributes) throws(GraphError) {
    patchSize = try attributes.integer("patch_size", in: 1...4096)
    height = try attributes.integer("height", in: 1...65_536)
    width = try attributes.integer("width", in: 1...65_536)
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    [("patch_size", .integer(patchSize)), ("height", .integer(height)), ("width", .integer(width))]
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 1...1)
    try requireFloats(inputs, 0, rank: 3...3)
    let elements = try fixedExtent(inputs, 0, axis: 2)
    let area = patchSize * patchSize
    guard height % patchSize == 0, width % patchSize == 0, elements % area == 0,
      inputs[0].extents[1] == .fixed(height / patchSize * (width / patchSize))
    else {
      throw mismatch(inputs, 0, "the patches of images of \(height) x \(width) pixels")
    }
    return [
      TensorType(
        .float32,
        [inputs[0].extents[0], .fixed(elements / area), .fixed(height), .fixed(width)])
    ]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let shape = outputs.shape(0)
    let channels = shape[1]
    let x = inputs.span(0, of: type)
    var y = outputs.span(0, of: type)
    var source = 0
    for item in 0..<shape[0] {
      for top in stride(from: 0, to: height, by: patchSize) {
        for left in stride(from: 0, to: width, by: patchSize) {
          for channel in 0..<channels {
            for row in 0..<patchSize {
              let target = ((item * channels + channel) * height + top + row) * width + left
              for column in 0..<patchSize { y[target + column] = x[source + column] }
              source += patchSize
            }
          }
        }
      }
    }
  }
}

extension FoldPatches: AcceleratedOp {}

extension FoldPatches: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    [try builder.add(UnfoldPatches(patchSize: patchSize), node.gradient)]
  }
}
