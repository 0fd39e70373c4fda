import GraphIR
import Operators
import TensorCore

/// The least-squares problem of one linear layer: which weights give what the layer shall answer.
///
/// With inputs `X`, one row each, the error of weights `V` is the mean square over the rows of
/// `X (V - target)ᵀ`, which is the trace of `(V - target) hessian (V - target)ᵀ` but for a constant.
package struct LayerProblem {
  /// How a layer becomes a problem.
  package struct Options: Codable, Sendable, Equatable {
    /// What is added to the diagonal of the Hessian, as a share of its mean.
    package var damping = 0.01
    /// Whether a bias, where there is one, makes up for the mean of the error.
    package var correctsBias = true

    /// The defaults.
    package init() {}
  }

  /// The output channels.
  package let rows: Int
  /// The input channels.
  package let columns: Int
  /// The weights that the layer has, `[rows, columns]`, masked ones zero.
  package let weight: [Float]
  /// The weights without constraint that answer best, `[rows, columns]`; zero for channels that
  /// never vary, whose part is the bias's.
  package let target: [Float]
  /// Zero where a weight is masked already.
  package let mask: [UInt8]?
  /// The mean of the products of the inputs, about their means where a bias takes these in;
  /// damped, `[columns, columns]`.
  package let hessian: [Double]
  /// The root of the mean square of each input channel.
  package let inputNorms: [Double]
  /// How many threads may run.
  package let threadCount: Int
  private let layer: CalibratedLayer
  private let means: [Double]
  private let driftMeans: [Double]
  private let corrects: Bool

  /// States the problem of `layer`.
  ///
  /// - Throws: ``PassError`` when the weight holds integer codes or something infinite, or nothing
  ///   was calibrated.
  package init(
    _ layer: CalibratedLayer, options: Options, threadCount: Int
  ) throws(PassError) {
    self.layer = layer
    self.threadCount = threadCount
    let tensor = layer.weight.materialized
    let elements = tensor.elements(of: Float.self)
    guard elements.allSatisfy(\.isFinite) else {
      throw .parameter(name: layer.weightName, "holds an infinite number or none at all")
    }
    rows = tensor.shape[0]
    columns = tensor.shape[1]
    weight = elements
    mask = layer.weight.mask?.elements(of: UInt8.self)
    let statistics = layer.statistics
    guard statistics.rowCount > 0 else {
      throw .parameter(name: layer.weightName, "meets no calibration input")
    }
    corrects = options.correctsBias && layer.bias != nil
    means = statistics.means
    driftMeans = statistics.driftMeans
    inputNorms = statistics.rootMeanSquares
    var hessian = statistics.moments(centred: corrects)
    let still = Self.damp(&hessian, count: columns, by: options.damping)
    self.hessian = hessian
    var target = weight
    if statistics.followsOriginal {
      target = Self.drifted(
        weight, statistics.driftMoments(centred: corrects), hessian, columns: columns,
        threadCount: threadCount)
    }
    for column in still { for row in 0..<rows { target[row * columns + column] = 0 } }
    self.target = target
  }

  /// What becomes of the layer with `weights` under `mask`.
  package func change(weights: [Float], mask: Tensor?) -> LayerChange {
    let tensor = Tensor(shape: [rows, columns], weights)
    var change = LayerChange(weight: Parameter(tensor, mask: mask))
    guard corrects, var bias = layer.bias?.materialized.elements(of: Float.self) else {
      return change
    }
    for row in 0..<rows {
      var shift = 0.0
      for column in 0..<columns {
        let old = Double(weight[row * columns + column])
        shift += (old - Double(weights[row * columns + column])) * means[column]
        if !driftMeans.isEmpty { shift += old * driftMeans[column] }
      }
      bias[row] += Float(shift)
    }
    change.bias = Parameter(Tensor(shape: [rows], bias), mask: layer.bias?.mask)
    return change
  }

  /// `|X (V - W)ᵀ| / |X Wᵀ|` of weights `V`, means included unless a bias makes up for them.
  package func relativeError(of weights: [Float]) -> Double {
    let difference = zip(weights, weight).map { $0 - $1 }
    let error = Self.energy(
      difference, layer.statistics.moments(centred: corrects), columns: columns,
      threadCount: threadCount)
    let whole = Self.energy(
      weight, layer.statistics.moments(centred: false), columns: columns,
      threadCount: threadCount)
    return whole > 0 ? (max(error, 0) / whole).squareRoot() : 0
  }

  /// The trace of `V M Vᵀ` for row-major `V` with `columns` columns.
  package static func energy(
    _ weights: [Float], _ moments: [Double], columns: Int, threadCount: Int
  ) -> Double {
    let rows = weights.count / max(columns, 1)
    let product = multiply(
      weights, moments.map { Float($0) }, rows: rows, columns: columns, threadCount: threadCount)
    return zip(product, weights).reduce(0) { $0 + Double($1.0) * Double($1.1) }
  }

  /// `left right` for row-major `left` `[rows, columns]` and square `right`.
  package static func multiply(
    _ left: [Float], _ right: [Float], rows: Int, columns: Int, threadCount: Int
  ) -> [Float] {
    var product = [Float](repeating: 0, count: rows * columns)
    product.withUnsafeMutableBufferPointer { product in
      left.withUnsafeBufferPointer { left in
        right.withUnsafeBufferPointer { right in
          Matrix.multiply(
            m: rows, n: columns, k: columns, MatrixView(left, stride: columns),
            MatrixView(right, stride: columns), into: product, threadCount: threadCount)
        }
      }
    }
    return product
  }

  /// Adds `share` of the mean of the diagonal to it; a channel that never varies gets the mean and
  /// is among those returned.
  private static func damp(_ matrix: inout [Double], count: Int, by share: Double) -> [Int] {
    var mean = 0.0
    for index in 0..<count { mean += max(matrix[index * count + index], 0) / Double(count) }
    var still: [Int] = []
    for index in 0..<count {
      let place = index * count + index
      // Rounding may leave a little, or less than nothing, of a channel that is constant.
      if matrix[place] <= mean * 1e-9 {
        matrix[place] = mean > 0 ? mean : 1
        still.append(index)
      }
      matrix[place] += share * mean
    }
    return still
  }

  /// The weights that give for the inputs `X` what `weight` gives for the original `X₀`:
  /// `W + W D (H + λ)⁻¹` with the moments `D` of `X₀ - X` and `X`.
  private static func drifted(
    _ weight: [Float], _ drift: [Double], _ hessian: [Double], columns: Int, threadCount: Int
  ) -> [Float] {
    guard let factor = CholeskyFactor(hessian, count: columns, threadCount: threadCount) else {
      return weight
    }
    let inverse = factor.inverse(threadCount: threadCount).map { Float($0) }
    let rows = weight.count / max(columns, 1)
    let moved = multiply(
      weight, drift.map { Float($0) }, rows: rows, columns: columns, threadCount: threadCount)
    let shift = multiply(
      moved, inverse, rows: rows, columns: columns, threadCount: threadCount)
    return zip(weight, shift).map { $0 + $1 }
  }
}
