import Operators

/// The alternating direction method of multipliers for one layer, as far as it has come.
///
/// The samples are the columns of the Cholesky factor `L` of the Hessian, scaled as the original
/// does; weights are rows here, so that `V L` are the outputs.
struct NetTrimSolver {
  /// The weights, exactly zero where they are not needed.
  private(set) var sparse: [Float]
  private let problem: LayerProblem
  private let samples: [Float]
  private let samplesTransposed: [Float]
  private let inverse: [Float]
  private let outputs: [Float]
  private let outputNorm: Double
  private let threshold: Float
  private var smooth: [Float]
  private var outputDual: [Float]
  private var weightDual: [Float]

  /// Starts at the layer's own weights; nil when its Hessian is not positive definite.
  init?(_ problem: LayerProblem) {
    let (rows, columns) = (problem.rows, problem.columns)
    self.problem = problem
    let largest = (0..<columns).reduce(0.0) { max($0, problem.hessian[$1 * columns + $1]) }
    let scale = 1 / (0.09 * max(largest, .leastNormalMagnitude))
    var scaled = problem.hessian.map { $0 * scale }
    guard
      let factor = CholeskyFactor(scaled, count: columns, threadCount: problem.threadCount)
    else { return nil }
    for index in 0..<columns { scaled[index * columns + index] += 1 }
    guard
      let regular = CholeskyFactor(scaled, count: columns, threadCount: problem.threadCount)
    else { return nil }
    samples = factor.lower.map { Float($0) }
    samplesTransposed = (0..<columns).flatMap { row in
      (0..<columns).map { Float(factor.lower[$0 * columns + row]) }
    }
    inverse = regular.inverse(threadCount: problem.threadCount).map { Float($0) }
    outputs = LayerProblem.multiply(
      problem.target, samples, rows: rows, columns: columns, threadCount: problem.threadCount)
    outputNorm = Self.norm(outputs)
    // The penalty in the unit of the weights, so that scaling a layer scales its solution.
    let mean = problem.target.reduce(0.0) { $0 + Double(abs($1)) } / Double(max(rows * columns, 1))
    threshold = Float(mean * 0.1)
    sparse = problem.target
    smooth = problem.target
    outputDual = [Float](repeating: 0, count: outputs.count)
    weightDual = [Float](repeating: 0, count: outputs.count)
  }

  /// Iterates towards the solution for `tolerance`, from where the last one ended, until the weights
  /// stand still or `most` iterations are done.
  mutating func iterate(tolerance: Double, most: Int) {
    let radius = tolerance * outputNorm
    let standstill = 5e-9 * Double(outputs.count)
    for _ in 0..<most {
      // The outputs: the nearest within the tolerance.
      let made = multiply(smooth, samples)
      var distance = 0.0
      for index in made.indices {
        let difference = Double(made[index] - outputDual[index] - outputs[index])
        distance += difference * difference
      }
      let shrink = Float(min(1, radius / max(distance.squareRoot(), .leastNormalMagnitude)))
      var wanted = outputs
      for index in made.indices {
        wanted[index] += shrink * (made[index] - outputDual[index] - outputs[index])
      }
      // The weights: shrunk towards zero.
      for index in smooth.indices {
        let value = smooth[index] - weightDual[index]
        let magnitude = abs(value) - threshold
        sparse[index] = magnitude > 0 ? (value < 0 ? -magnitude : magnitude) : 0
        if problem.mask?[index] == 0 { sparse[index] = 0 }
      }
      // What both agree on, by least squares.
      let pulled = multiply(zip(wanted, outputDual).map { $0 + $1 }, samplesTransposed)
      var right = pulled
      for index in right.indices { right[index] += sparse[index] + weightDual[index] }
      let next = multiply(right, inverse)
      let nextMade = multiply(next, samples)
      var change = 0.0
      for index in next.indices {
        outputDual[index] += wanted[index] - nextMade[index]
        weightDual[index] += sparse[index] - next[index]
        let difference = Double(next[index] - smooth[index])
        change += difference * difference
      }
      smooth = next
      if change.squareRoot() < standstill { break }
    }
  }

  /// ``sparse``, moved towards the best weights under `mask` as far as `tolerance` asks.
  func feasible(mask: [UInt8], tolerance: Double) -> [Float] {
    let columns = problem.columns
    let best = MaskedLeastSquares(
      hessian: problem.hessian, columns: columns, threadCount: problem.threadCount
    ).solution(target: problem.target, mask: mask, startingAt: sparse)
    // The error along the line between both is a quadratic; its value there tells how far to go.
    func product(_ left: [Float], _ right: [Float]) -> Double {
      var sum = 0.0
      for row in 0..<problem.rows {
        for i in 0..<columns where left[row * columns + i] != 0 {
          var inner = 0.0
          for j in 0..<columns {
            inner += problem.hessian[i * columns + j] * Double(right[row * columns + j])
          }
          sum += inner * Double(left[row * columns + i])
        }
      }
      return sum
    }
    let start = zip(sparse, problem.target).map { $0 - $1 }
    let step = zip(best, sparse).map { $0 - $1 }
    let limit = tolerance * tolerance * product(problem.target, problem.target)
    let (constant, linear, square) = (
      product(start, start), product(start, step), product(step, step)
    )
    guard constant > limit, square > 0 else { return sparse }
    let root = linear * linear - square * (constant - limit)
    let share = root > 0 ? min(max((-linear - root.squareRoot()) / square, 0), 1) : 1
    return zip(sparse, step).map { $0 + Float(share) * $1 }
  }

  private func multiply(_ left: [Float], _ right: [Float]) -> [Float] {
    LayerProblem.multiply(
      left, right, rows: problem.rows, columns: problem.columns, threadCount: problem.threadCount)
  }

  private static func norm(_ elements: [Float]) -> Double {
    elements.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
  }
}
