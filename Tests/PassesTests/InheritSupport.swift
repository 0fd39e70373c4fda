import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport

/// Teachers of the shape of real models, and what follows from it by the published formulas.
enum InheritSupport {
  /// A model whose MLPs are four times as wide as its blocks, as CLIP's are.
  static var teacher: RandomCLIP {
    var extents = RandomCLIP()
    (extents.imageWidth, extents.imageHeads, extents.imageNeurons) = (48, 6, 192)
    (extents.textWidth, extents.textHeads, extents.textNeurons) = (32, 4, 128)
    (extents.imageLayers, extents.textLayers) = (4, 3)
    return extents
  }

  static func inherit(
    from teacher: Graph, _ options: InheritManual.Options, seed: UInt64 = 0,
    report: @escaping (PassEvent) -> Void = { _ in }
  ) throws -> Graph {
    try PassPipeline([InheritManual(options: options)])
      .run(on: teacher, inputSHA256: "", in: PassContext(seed: seed, report: report))
  }

  /// The parameters of a block of width `d` with `h` heads of width `w` and `m` neurons.
  static func blockCount(_ d: Int, _ h: Int, _ w: Int, _ m: Int) -> Int {
    let attention = 3 * (d * h * w + h * w) + h * w * d + d
    let mlp = d * m + m + m * d + d
    return attention + mlp + 4 * d
  }

  /// The parameters of the image tower: convolution, class token, positions, two norms, blocks,
  /// projection.
  static func imageCount(_ e: RandomCLIP, headWidth: Int? = nil) -> Int {
    let d = e.imageWidth
    let grid = e.imageSize / e.patchSize
    return 3 * e.patchSize * e.patchSize * d + d + (1 + grid * grid) * d + 4 * d
      + e.imageLayers * blockCount(d, e.imageHeads, headWidth ?? d / e.imageHeads, e.imageNeurons)
      + d * e.projection
  }

  /// The parameters of the text tower but for the token embedding.
  static func textCount(_ e: RandomCLIP, headWidth: Int? = nil) -> Int {
    let d = e.textWidth
    return e.context * d + 2 * d
      + e.textLayers * blockCount(d, e.textHeads, headWidth ?? d / e.textHeads, e.textNeurons)
      + d * e.projection
  }

  /// The elements of `tensor` whose indices are below `shape`, one index after the other.
  static func leadingSlice(_ tensor: Tensor, _ shape: [Int]) -> [Float] {
    let elements = tensor.elements(of: Float.self)
    return (0..<shape.reduce(1, *)).map { place in
      var (rest, index, stride) = (place, 0, 1)
      for (extent, full) in zip(shape, tensor.shape).reversed() {
        index += rest % extent * stride
        rest /= extent
        stride *= full
      }
      return elements[index]
    }
  }

  /// Every axis of the two-dimensional `tensor` at `rows` and `columns`.
  static func gather(_ tensor: Tensor, rows: [Int], columns: [Int]) -> [Float] {
    let elements = tensor.elements(of: Float.self)
    return rows.flatMap { row in columns.map { elements[row * tensor.shape[1] + $0] } }
  }

  /// The sum of squares of `elements` in double precision.
  static func energy(_ elements: [Float]) -> Double {
    elements.reduce(0) { $0 + Double($1) * Double($1) }
  }
}
