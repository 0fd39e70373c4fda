import Execution
import GraphIR
import Operators
import TensorCore
import Testing
import Training

/// Every operator's gradient against differences of its definition, in float64.
@Suite struct GradientTests {
  /// The case as a scalar: the sum of the products of its results with random constants.
  private func make(
    _ testCase: GradientCase
  ) throws -> (scalar: ScalarGraph, operands: [Value], constants: [Value]) {
    var scalar = ScalarGraph(seed: 11)
    var all: [Value] = []
    var operands: [Value] = []
    for (index, operand) in testCase.operands.enumerated() {
      let value = try scalar.addInput("x.\(index)", operand)
      all.append(value)
      if operand.kind.isDifferentiated { operands.append(value) }
    }
    let results = try scalar.graph.addNode("y", testCase.op, all)
    let constants = try scalar.contract(results, "r")
    return (scalar, operands, constants)
  }

  @Test(arguments: GradientCase.all)
  func gradientsAreTheDerivatives(_ testCase: GradientCase) throws {
    let (scalar, operands, _) = try make(testCase)
    let error = try scalar.deviation(of: operands)
    #expect(error <= testCase.tolerance, "\(error)")
  }

  /// The gradient of an operator is made of operators with gradients, all of them right.
  @Test(arguments: GradientCase.all)
  func gradientsOfGradientsAreTheDerivatives(_ testCase: GradientCase) throws {
    var (scalar, operands, constants) = try make(testCase)
    let first = try #require(scalar.scalar)
    let gradients = try scalar.graph.addGradients(of: first, withRespectTo: operands)
    let made = gradients.compactMap { $0 }
    if made.isEmpty {
      // Flat where it is differentiable: there is nothing to differentiate again.
      #expect(testCase.op is Fill || testCase.op is IsPositive)
      return
    }
    constants += try scalar.contract(made, "s")
    let error = try scalar.deviation(of: operands + constants)
    #expect(error <= 4 * testCase.tolerance, "\(error)")
  }

  @Test func everyOperatorIsChecked() {
    let checked = Set(GradientCase.all.map { type(of: $0.op).name })
    let others = GradientCase.estimators.union(GradientCase.constants)
    #expect(checked.isDisjoint(with: others))
    #expect(checked.union(others) == Set(OperatorRegistry.training.names))
  }

  @Test func whatDoesNotMatterHasNoGradient() throws {
    var graph = Graph()
    let x = try graph.addInput("x", TensorType(.float32, shape: [3]))
    let unused = try graph.addInput("unused", TensorType(.float32, shape: [3]))
    let sum = try graph.add("sum", Sum(over: .all), x)
    let gradients = try graph.addGradients(of: sum, withRespectTo: [unused, x, sum])
    #expect(gradients[0] == nil && gradients[1] != nil && gradients[2] != nil)
  }

  @Test func onlyScalarsAreDifferentiated() throws {
    var graph = Graph()
    let x = try graph.addInput("x", TensorType(.float32, shape: [1]))
    let y = try graph.add("y", Exponential(), x)
    #expect(throws: GraphError.self) { try graph.addGradients(of: y, withRespectTo: [x]) }
    let before = graph.nodes.count
    #expect(throws: GraphError.self) {
      try graph.addGradients(
        of: [(y, try graph.add("sum", Sum(over: .all), y))], withRespectTo: [x])
    }
    #expect(graph.nodes.count == before + 1, "a graph stays as it was when differentiation fails")
  }
}

/// Operators whose gradient is an estimator: its rule, not the derivative, which is zero.
///
/// - Source: Sakr et al., arXiv:2206.06501.
@Suite struct EstimatorTests {
  /// The gradient of `Σ op(x, ...) * g` with respect to `x`, for 200 numbers around the grid.
  private func gradient(
    _ op: any Op, _ others: [(name: String, tensor: Tensor)], _ shape: [Int], scale: Double
  ) throws -> (x: [Double], g: [Double], gradient: [Double]) {
    var random = SplitMix64(seed: 5)
    let count = shape.reduce(1, *)
    let x = (0..<count).map { _ in random.nextNormal() * scale }
    let g = (0..<count).map { _ in random.nextNormal() }
    var inputs = ["x": Tensor(shape: shape, x), "g": Tensor(shape: shape, g)]
    var graph = Graph()
    var operands = [try graph.addInput("x", TensorType(.float32, shape: shape))]
    for (name, tensor) in others {
      inputs[name] = tensor
      operands.append(try graph.addInput(name, TensorType(.float32, shape: tensor.shape)))
    }
    let gradient = try graph.addInput("g", TensorType(.float32, shape: shape))
    let y = try #require(graph.addNode("y", op, operands).first)
    let found = try graph.addGradients(of: [(y, gradient)], withRespectTo: operands)
    #expect(found.dropFirst().allSatisfy { $0 == nil }, "scales are computed, not learned")
    let name = graph.name(of: try #require(found[0]))
    let result = try Executor(graph, outputs: [name], arithmetic: .float64).run(inputs)
    return (x, g, try #require(result[name]).elements(of: Double.self))
  }

  /// Activations: whole inside the grid, nothing where they are clipped.
  @Test(arguments: [(0, 0), (128, 1), (40, 0)] as [(UInt8, UInt8)])
  func clippedActivationsLearnNothing(_ zeroPoint: UInt8, _ lowest: UInt8) throws {
    let codes = ActivationQuantization(scale: 0.01, zeroPoint: zeroPoint, lowest: lowest)
    let (x, g, found) = try gradient(FakeQuantize(parameters: codes), [], [200], scale: 2)
    var clippedCount = 0
    for index in x.indices {
      let code = (x[index] / Double(codes.scale)).rounded() + Double(zeroPoint)
      let isClipped = code < Double(lowest) || code > 255
      clippedCount += isClipped ? 1 : 0
      #expect(found[index] == (isClipped ? 0 : g[index]), "\(x[index])")
    }
    #expect(clippedCount > 20 && clippedCount < 180)
  }

  /// Weights and activations whose scale is an operand: algorithms of three estimators, beyond the
  /// codes' values on either side.
  @Test(arguments: GradientEstimator.allCases, [2, 4, 8])
  func clippedElementsLearnAsTheEstimatorSays(
    _ estimator: GradientEstimator, _ bitCount: Int
  ) throws {
    for grid in CodeGrid.allCases {
      for groupSize in [nil, 20] {
        let op = FakeQuantizeWeight(
          bitCount: bitCount, grid: grid, groupSize: groupSize, estimator: estimator)
        let count = groupSize == nil ? 4 : 12
        let scales = (0..<count).map { index in
          let sign = grid == .full && index % 2 == 1 ? -1.0 : 1
          return sign * (0.5 + 0.25 * Double(index % 5)) / Double(op.codes.upperBound)
        }
        let shape = groupSize == nil ? [4] : [4, 3]
        let (w, g, found) = try gradient(
          op, [("scales", Tensor(shape: shape, scales))], [4, 10, 5], scale: 1.5)
        let places = w.indices.map { index in
          groupSize.map { index / 50 * 3 + index % 50 / $0 } ?? index / 50
        }
        check(w, g, found, estimator, places.map { scales[$0] }, op.codes)
      }
    }
    let parameters = ActivationQuantization(scale: 1, zeroPoint: 3, highest: 15)
    let op = FakeQuantizeActivation(parameters, estimator: estimator)
    let (x, g, found) = try gradient(op, [("scale", Tensor(shape: [], [0.1]))], [200], scale: 1.5)
    check(x, g, found, estimator, [Double](repeating: 0.1, count: 200), -3...12)
  }

  /// Compares with the rule of the estimator, in float64.
  private func check(
    _ x: [Double], _ g: [Double], _ found: [Double], _ estimator: GradientEstimator,
    _ scales: [Double], _ codes: ClosedRange<Int>
  ) {
    var clippedCount = 0
    for index in x.indices {
      let ends = [codes.lowerBound, codes.upperBound].map { Double($0) * scales[index] }.sorted()
      let isClipped = x[index] < ends[0] || x[index] > ends[1]
      clippedCount += isClipped ? 1 : 0
      let bound = x[index] < 0 ? ends[0] : ends[1]
      let factor =
        switch estimator {
        case .straightThrough: 1.0
        case .piecewiseLinear: isClipped ? 0.0 : 1
        case .magnitudeAware: isClipped ? bound / x[index] : 1
        }
      #expect(abs(found[index] - g[index] * factor) <= 1e-14 * abs(g[index]), "\(x[index])")
    }
    #expect(clippedCount > 20 && clippedCount < 190)
  }

  /// The estimators are linear in what arrives, and their gradients the estimators again.
  @Test(arguments: GradientEstimator.allCases)
  func gatesAreTheirOwnAdjoints(_ estimator: GradientEstimator) throws {
    var scalar = ScalarGraph(seed: 4)
    let w = try scalar.addInput("w", GradientOperand([3, 5], .clear(of: [])))
    let scales = try scalar.addInput("scales", GradientOperand([3], .constants))
    let g = try scalar.addInput("g", GradientOperand([3, 5]))
    let gate = ClippingGate(codes: -1...1, estimator: estimator)
    let y = try scalar.graph.add("y", gate, w, scales, g)
    try scalar.contract([y], "r")
    #expect(try scalar.deviation(of: [g]) <= 1e-10)
    let found = try scalar.graph.addGradients(
      of: try #require(scalar.scalar), withRespectTo: [w, scales])
    #expect(found == [nil, nil])
  }
}
