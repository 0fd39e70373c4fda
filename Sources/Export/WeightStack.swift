import GraphIR
import ModelFormat
import Operators
import TensorCore

/// The weights of linears over one input, one above the other.
struct WeightStack {
  /// Output channels.
  let rows: Int
  /// Input channels.
  let columns: Int
  /// One for each output channel; nil where the linears have none.
  let bias: [Float]?
  private let floats: [Float]
  private let codes: [Int8]
  private let scales: [Float]
  private let form: WeightForm
  /// Whether elements were pruned, so that it may be shorter to say which are left.
  private let isMasked: Bool

  /// Whether the elements are codes.
  var isInteger: Bool { form.bitCount != 0 }

  /// Whether groups of input channels have scales of their own.
  var hasGroups: Bool { form.groupSize != 0 }

  /// Gathers weights of `node` and its siblings, which are stored alike, and their biases.
  init(
    _ parts: [(weight: Value, bias: Value?)], of node: Node, _ lowering: Lowering
  ) throws(ExportError) {
    var floats: [Float] = []
    var codes: [Int8] = []
    var scales: [Float] = []
    var bias: [Float] = []
    var (rows, isMasked) = (0, false)
    let first = try lowering.parameter(parts[0].weight, of: node)
    form = try WeightForm(first, of: node)
    for part in parts {
      let weight = try lowering.parameter(part.weight, of: node)
      rows += weight.tensor.shape[0]
      isMasked = isMasked || weight.mask != nil
      if let quantization = weight.quantization {
        codes += weight.keptCodes
        scales += quantization.scales.elements(of: Float.self)
      } else {
        floats += weight.materialized.elements(of: Float.self)
      }
      if let value = part.bias {
        bias += try lowering.parameter(value, of: node).materialized.elements(of: Float.self)
      }
    }
    columns = first.tensor.shape[1]
    self.rows = rows
    self.floats = floats
    self.codes = codes
    self.scales = scales
    self.bias = bias.isEmpty ? nil : bias
    self.isMasked = isMasked
  }

  /// The weights in panels.
  var panels: StoredTensor {
    guard isInteger else { return .floats(floats, rows: rows, columns: columns, .panels) }
    return .codes(
      codes, rows: rows, columns: columns, bitCount: form.bitCount, groupSize: form.groupSize,
      .panels)
  }

  /// Whether the elements are floats that bfloat16 holds.
  var isBFloat16: Bool {
    !isInteger && floats.allSatisfy { $0.bitPattern & 0xFFFF == 0 && $0.isFinite }
  }

  /// The weights, which are bfloat16, in panels of pairs.
  var pairs: StoredTensor { .pairs(floats, rows: rows, columns: columns) }

  /// The weights in panels, or those that are left after pruning in whatever layout suits them: the
  /// shortest, or with `expands` only what is multiplied as it is.
  func stored(for inputRows: RowRule, expands: Bool) -> StoredTensor {
    let panels = panels
    guard isInteger else {
      guard isMasked else { return panels }
      let other = StoredTensor.weights(floats, rows: rows, columns: columns, for: inputRows)
      let isFaster = other.layout == .sparse
      return isFaster || !expands && other.bytes.count < panels.bytes.count ? other : panels
    }
    guard isMasked, !hasGroups, !expands else { return panels }
    let other = StoredTensor.weights(codes, rows: rows, columns: columns, for: inputRows)
    return other.bytes.count < panels.bytes.count ? other : panels
  }

  /// The scales of the channels, times that of the input, or those of the groups as they are.
  func scales(times inputScale: Float?) -> StoredTensor {
    if hasGroups {
      return .floats(scales, rows: rows, columns: scales.count / max(rows, 1), .panels)
    }
    return .floats(scales.map { $0 * (inputScale ?? 1) }, columns: rows)
  }

  /// The sums of the channels' codes times the input's zero point.
  func correction(zeroPoint: UInt8) -> StoredTensor {
    .correction(codes, rows: rows, columns: columns, zeroPoint: zeroPoint)
  }
}

/// How the elements of a weight are stored; those of the same form can be stored together.
struct WeightForm: Equatable {
  /// Bits of a code; 0 for floats.
  let bitCount: Int
  /// Input channels that share a scale; 0 where a row has one or needs none.
  let groupSize: Int

  /// The form of a weight of `node`.
  ///
  /// - Throws: ``ExportError/noInstruction(node:op:_:)`` for groups that no kernel has.
  init(_ weight: Parameter, of node: Node) throws(ExportError) {
    self.init(weight)
    guard groupSize % Layout.int8GroupCount == 0 else {
      throw .noInstruction(
        node: node.name, op: type(of: node.op).name,
        "expected groups of a multiple of \(Layout.int8GroupCount) weights, found \(groupSize)")
    }
  }

  /// The form of a weight, whether or not there are kernels for it.
  init(_ weight: Parameter) {
    bitCount = weight.quantization?.bitCount ?? 0
    let width = weight.tensor.shape.dropFirst().reduce(1, *)
    let groups = weight.quantization?.groupCount(width: width) ?? 1
    groupSize = groups == 1 ? 0 : weight.quantization?.groupSize ?? 0
  }
}

extension Parameter {
  /// Int8 codes, those that were pruned as zeros.
  var keptCodes: [Int8] {
    var codes = tensor.elements(of: Int8.self)
    mask?.withElements(of: UInt8.self) { mask in
      for (index, kept) in mask.enumerated() where kept == 0 { codes[index] = 0 }
    }
    return codes
  }
}
