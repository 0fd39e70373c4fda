import Execution
import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport
import Testing

/// Implants of low rank in place of what matters moderately.
@Suite struct NeuralImplantTests {
  private let extents: RandomCLIP = {
    var extents = RandomCLIP()
    extents.imageNeurons = 96
    extents.textNeurons = 64
    return extents
  }()

  private func plan(_ graph: Graph, keeping share: Double) -> StructuredPruning {
    let total = PruningCost.parameters.total(of: graph, towers: Tower.allCases)
    return StructuredPruning(
      pass: "prune", kinds: [.heads, .neurons], target: Int(share * Double(total)),
      scope: .global, towers: Tower.allCases)
  }

  private func options(_ start: NeuralImplant.Start) -> NeuralImplant.Options {
    var options = NeuralImplant.Options()
    options.start = start
    options.headRank = 0.5
    // Wide enough for paths of both kinds.
    options.bandShare = 0.75
    return options
  }

  /// The units of `graph` that `pruned` lacks, told by the rows of the group's first tensor.
  private func removals(_ graph: Graph, _ pruned: Graph) throws -> [UnitRemoval] {
    func rows(_ graph: Graph, _ name: String, _ unit: Int) throws -> [[Float]] {
      let tensor = try #require(graph.parameter(named: name)).tensor
      let width = tensor.count / tensor.shape[0] * unit
      let elements = tensor.elements(of: Float.self)
      return (0..<(tensor.shape[0] / unit)).map {
        Array(elements[($0 * width)..<(($0 + 1) * width)])
      }
    }
    return try unitGroups(graph).map { group in
      let name = graph.name(of: try #require(group.members.first { $0.axis == 0 }).parameter)
      let left = Set(try rows(pruned, name, group.unit))
      let gone = try rows(graph, name, group.unit).enumerated().filter {
        !left.contains($0.element)
      }
      return UnitRemoval(group: group, units: Set(gone.map(\.offset)))
    }
  }

  @Test func fromZeroItIsPlainPruning() throws {
    let graph = try extents.graph(seed: 4)
    let plan = plan(graph, keeping: 0.5)
    let result = try NeuralImplant(options(.zero)).apply(
      to: graph, plan: plan, by: RandomImportance(seed: 5),
      in: lendingContext(hessianPairs(extents)))
    try result.verify()
    let paths = result.nodes.filter { $0.name.contains("implant") }
    #expect(paths.contains { $0.op is Attention })
    #expect(paths.contains { $0.name.hasSuffix("mlp.implant.in") })
    let removals = try removals(graph, result)
    #expect(removals.contains { !$0.units.isEmpty })
    for tokens in [1, 5] {
      let inputs = extents.inputs(seed: 6, tokens: tokens)
      let expected = try outputs(try graph.masking(removals), inputs)
      #expect(largestDifference(expected, try outputs(result, inputs)) <= 1e-5)
    }
  }

  @Test func theBudgetIsMetAndTheResultCanBePrunedFurther() throws {
    let graph = try extents.graph(seed: 4)
    let context = lendingContext(hessianPairs(extents))
    let plan = plan(graph, keeping: 0.5)
    let result = try NeuralImplant(options(.leastSquares)).apply(
      to: graph, plan: plan, by: RandomImportance(seed: 5), in: context)
    let total = PruningCost.parameters.total(of: result, towers: Tower.allCases)
    #expect(total <= plan.target)
    // No further from the target than the dearest unit.
    let dearest = unitGroups(graph).map { $0.parameterCountPerUnit(in: graph) }.max() ?? 0
    #expect(total > plan.target - dearest)
    #expect(unitGroups(result).contains { $0.name.contains("implant") })
    let smaller = try self.plan(result, keeping: 0.8).apply(
      to: result, by: RandomImportance(seed: 5), in: context)
    try smaller.verify()
    let again = try NeuralImplant(options(.leastSquares)).apply(
      to: result, plan: self.plan(result, keeping: 0.8), by: RandomImportance(seed: 5), in: context)
    try again.verify()
  }

  /// On the data of the fit, what is left of the dense embeddings' distance.
  @Test func leastSquaresComeCloserToTheDenseModelThanPlainPruning() throws {
    let graph = try extents.graph(seed: 4)
    let pairs = hessianPairs(extents, images: 64)
    let context = lendingContext(pairs)
    let inputs = [
      "pixel_values": pairs.pixels, "input_ids": pairs.tokenIDs(of: pairs.texts.indices),
    ]
    let dense = try outputs(graph, inputs)
    func error(_ start: NeuralImplant.Start) throws -> Float {
      let result = try NeuralImplant(options(start)).apply(
        to: graph, plan: plan(graph, keeping: 0.6), by: RandomImportance(seed: 5), in: context)
      return zip(dense, try outputs(result, inputs)).reduce(0) {
        $0 + ($1.0 - $1.1) * ($1.0 - $1.1)
      }
    }
    let (plain, fitted) = (try error(.zero), try error(.leastSquares))
    #expect(fitted < 0.6 * plain, "\(fitted) of \(plain)")
  }

  @Test func refusals() throws {
    let graph = try extents.graph(seed: 4)
    var options = NeuralImplant.Options()
    options.bandShare = 1.5
    let plan = plan(graph, keeping: 0.5)
    #expect(throws: PassError.self) {
      _ = try NeuralImplant(options).apply(
        to: graph, plan: plan, by: RandomImportance(seed: 5),
        in: lendingContext(hessianPairs(extents)))
    }
    #expect(throws: PassError.self) {
      _ = try NeuralImplant().apply(
        to: graph, plan: plan, by: RandomImportance(seed: 5), in: PassContext())
    }
    #expect(throws: PassError.self) {
      _ = try NeuralImplant().apply(
        to: graph, plan: self.plan(graph, keeping: 0.05), by: RandomImportance(seed: 5),
        in: lendingContext(hessianPairs(extents)))
    }
  }
}

/// The algebra behind the implants.
@Suite struct LowRankTests {
  private func random(_ count: Int, _ seed: UInt64) -> [Double] {
    var random = SplitMix64(seed: seed)
    return (0..<count).map { _ in random.nextNormal() }
  }

  @Test(arguments: [(6, 6), (40, 5), (90, 7)])
  func eigenvectorsAreThoseOfTheMatrix(_ count: Int, _ rank: Int) {
    let a = random(count * count, 3)
    var matrix = [Double](repeating: 0, count: count * count)
    for i in 0..<count {
      for j in 0..<count {
        for k in 0..<count {
          // Columns of falling length, as second moments have.
          let weight = 1 / Double(1 + k * k)
          matrix[i * count + j] += weight * a[i * count + k] * a[j * count + k]
        }
      }
    }
    let (values, vectors) = SymmetricEigen.leading(matrix, count: count, rank: rank)
    #expect(values.count == rank && values == values.sorted(by: >))
    for (value, vector) in zip(values, vectors) {
      for i in 0..<count {
        let image = (0..<count).reduce(0.0) { $0 + matrix[i * count + $1] * vector[$1] }
        #expect(abs(image - value * vector[i]) <= 1e-5 * values[0])
      }
      #expect(abs(vector.reduce(0) { $0 + $1 * $1 } - 1) <= 1e-9)
    }
  }

  /// Of full rank the product itself; of lower rank nothing beats the error of the lost singular
  /// values, whose squares are the eigenvalues of `(A Aᵀ)(B Bᵀ)`.
  @Test(arguments: [1, 3, 5])
  func lowRankProductsAreTheBestOfTheirRank(_ rank: Int) {
    let (n, columns, others) = (5, 8, 7)
    let (a, b) = (random(n * columns, 1), random(n * others, 2))
    func gram(_ m: [Double], _ width: Int) -> [Double] {
      (0..<(n * n)).map { place in
        (0..<width).reduce(0.0) { $0 + m[place / n * width + $1] * m[place % n * width + $1] }
      }
    }
    let low = LowRankProduct(
      left: gram(a, columns), right: gram(b, others), count: n, rank: rank)
    func mixed(_ factor: [Double], _ m: [Double], _ width: Int) -> [Double] {
      (0..<(rank * width)).map { place in
        (0..<n).reduce(0.0) {
          $0 + factor[place / width * n + $1] * m[$1 * width + place % width]
        }
      }
    }
    let (left, right) = (mixed(low.left, a, columns), mixed(low.right, b, others))
    var (whole, error) = (0.0, 0.0)
    for i in 0..<columns {
      for j in 0..<others {
        let exact = (0..<n).reduce(0.0) { $0 + a[$1 * columns + i] * b[$1 * others + j] }
        let found = (0..<rank).reduce(0.0) {
          $0 + left[$1 * columns + i] * right[$1 * others + j]
        }
        whole += exact * exact
        error += (exact - found) * (exact - found)
      }
    }
    // The kept part, by power iteration with deflation on the product's Gram matrix.
    var product = [Double](repeating: 0, count: columns * columns)
    let inner = gram(b, others)
    for i in 0..<columns {
      for j in 0..<columns {
        for k in 0..<(n * n) {
          product[i * columns + j] += a[k / n * columns + i] * inner[k] * a[k % n * columns + j]
        }
      }
    }
    var kept = 0.0
    for _ in 0..<rank {
      var x = random(columns, 9)
      var value = 0.0
      for _ in 0..<4000 {
        let y = (0..<columns).map { i in
          (0..<columns).reduce(0.0) { $0 + product[i * columns + $1] * x[$1] }
        }
        value = y.reduce(0) { $0 + $1 * $1 }.squareRoot()
        x = y.map { $0 / max(value, 1e-300) }
      }
      kept += value
      for i in 0..<columns {
        for j in 0..<columns { product[i * columns + j] -= value * x[i] * x[j] }
      }
    }
    #expect(abs(error - (whole - kept)) <= 1e-6 * whole)
  }
}
