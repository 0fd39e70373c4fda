import GraphIR
import Operators
import TensorCore

/// Rounds a layer's weights column by column, the columns that are left making up for each error.
///
/// Scales are those of the weights before the sweep, so that a column may go in any order and groups
/// keep theirs; ``Options/refitsGroups`` fits the scales of a group anew when the sweep reaches it.
///
/// - Source: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
///   Transformers", ICLR 2023, arXiv:2210.17323.
package struct GPTQ: Sendable {
  /// The user's choices.
  package struct Options: Codable, Sendable, Equatable {
    /// How many columns are swept before those right of them are updated.
    package var blockWidth = 128
    /// Whether columns go in the order of their inputs' energy, the highest first.
    package var ordersByEnergy = true
    /// Whether a group's scales are fitted to its weights as the columns before have left them, as
    /// the reference implementation does; columns then go in their own order.
    package var refitsGroups = false

    /// The defaults.
    package init() {}
  }

  private let options: Options

  /// Makes the method.
  package init(options: Options = Options()) { self.options = options }

  /// The codes of `problem`'s layer by the grid and scales of `quantizer`.
  ///
  /// - Throws: ``PassError`` when the inputs do not determine enough.
  package func codes(
    of problem: LayerProblem, by quantizer: WeightQuantizer, named name: String
  ) throws(PassError) -> Parameter {
    let (rows, columns) = (problem.rows, problem.columns)
    let shape = [rows, columns]
    let refits = options.refitsGroups && quantizer.groupSize != nil
    var order = Array(0..<columns)
    if options.ordersByEnergy, !refits {
      let energies = order.map { problem.hessian[$0 * columns + $0] }
      order.sort { (energies[$1], $0) < (energies[$0], $1) }
    }
    let hessian = order.flatMap { row in order.map { problem.hessian[row * columns + $0] } }
    guard
      let root = CholeskyFactor.upperRoot(
        ofInverse: hessian, count: columns, threadCount: problem.threadCount)
    else {
      throw .unsuitable(
        pass: "gptq",
        "the inputs of \(name) determine too little of it; more damping is needed")
    }
    let mask = problem.mask.map { Tensor(shape: shape, $0) }
    let target = Parameter(Tensor(shape: shape, problem.target), mask: mask).materialized
    let quantization = try quantizer.quantization(
      of: target, named: name, threadCount: problem.threadCount)
    let rule = RoundingRule(
      quantization, rows: rows, order: order, mask: problem.mask,
      refitting: refits ? quantizer : nil)
    let swept = target.elements(of: Float.self)
    var weights = (0..<rows).flatMap { row in order.map { swept[row * columns + $0] } }
    ColumnSweep(
      root: root, columns: columns,
      blockWidth: refits ? quantizer.groupSize ?? columns : max(options.blockWidth, 1),
      threadCount: problem.threadCount
    ).run(&weights, rows: rows, by: rule)
    var result = quantization
    result.scales = Tensor(shape: quantization.scales.shape, rule.scales)
    return Parameter(Tensor(shape: shape, rule.codes), mask: mask, quantization: result)
  }
}

/// Replaces each weight by the nearest value that its code can stand for.
final class RoundingRule: SweepRule {
  private let rows: Int
  private let columns: Int
  private let groupSize: Int
  private let groupCount: Int
  private let order: [Int]
  private let mask: [UInt8]?
  private let low: Float
  private let high: Float
  private let quantizer: WeightQuantizer?
  private let places: UnsafeMutableBufferPointer<Int8>
  /// A step for each row and group.
  private(set) var scales: [Float]

  /// Rounds to the codes of `quantization`, columns in `order`; `mask` says which weights are zero.
  init(
    _ quantization: WeightQuantization, rows: Int, order: [Int], mask: [UInt8]?,
    refitting quantizer: WeightQuantizer?
  ) {
    self.rows = rows
    columns = order.count
    self.order = order
    self.mask = mask
    self.quantizer = quantizer
    groupSize = quantization.groupSize ?? max(order.count, 1)
    groupCount = quantization.groupCount(width: order.count)
    low = Float(quantization.smallestCode)
    high = Float(quantization.largestCode)
    scales = quantization.scales.elements(of: Float.self)
    places = .allocate(capacity: rows * order.count)
    places.initialize(repeating: 0)
  }

  deinit { places.deallocate() }

  /// The codes in the order of the layer, `[rows, columns]`.
  var codes: [Int8] { Array(places) }

  func begin(block: Range<Int>, _ weights: UnsafeBufferPointer<Float>) {
    // A block is a group here, its columns in their own order.
    guard let quantizer else { return }
    for row in 0..<rows {
      let start = row * columns
      let group = (start + block.lowerBound)..<(start + block.upperBound)
      let scale = quantizer.scale(of: UnsafeBufferPointer(rebasing: weights[group]))
      if scale.isFinite { scales[row * groupCount + block.lowerBound / groupSize] = scale }
    }
  }

  func begin(column: Int, ofRow row: Int, _ weights: UnsafePointer<Float>) {}

  func replacement(for weight: Float, row: Int, column: Int) -> Float {
    let place = row * columns + order[column]
    if let mask, mask[place] == 0 { return 0 }
    let scale = scales[row * groupCount + order[column] / groupSize]
    let code = min(max(weight / scale, low), high).rounded(.toNearestOrEven)
    places[place] = Int8(code)
    return code * scale
  }
}
