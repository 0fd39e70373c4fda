import Execution
import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport
import Testing
import Training

/// Products with second derivatives, by their laws.
@Suite struct HessianProductTests {
  /// `L = 1/2 wᵀ A w` with a symmetric `A`.
  private struct Quadratic {
    let count: Int
    let matrix: [Double]
    let product: HessianProduct

    init(_ matrix: [Double], count: Int) throws {
      self.count = count
      self.matrix = matrix
      var graph = Graph()
      let w = try graph.addParameter(
        "w", Parameter(Tensor(shape: [1, count], (0..<count).map { Float($0) / 7 })))
      let a = try graph.addParameter(
        "a", Parameter(Tensor(shape: [count, count], matrix.map { Float($0) })))
      let y = try graph.add("y", Linear(), w, a)
      let terms = try graph.add("terms", Multiply(), w, y)
      let sum = try graph.add("sum", Sum(over: .all), terms)
      let loss = try graph.add("loss", Scale(by: 0.5), sum)
      product = try HessianProduct(of: loss, in: graph, withRespectTo: [w])
    }

    func times(_ v: [Float]) throws -> [Double] {
      try product([Tensor(shape: [1, count], v)], [:])[0].elements(of: Float.self).map(Double.init)
    }
  }

  private static func symmetric(_ count: Int, seed: UInt64) -> [Double] {
    var random = SplitMix64(seed: seed)
    var matrix = [Double](repeating: 0, count: count * count)
    for i in 0..<count {
      for j in 0...i {
        let element = Double(Float(random.nextNormal()))
        matrix[i * count + j] = element
        matrix[j * count + i] = element
      }
    }
    return matrix
  }

  @Test func productsOfAQuadraticAreItsMatrix() throws {
    let count = 9
    let quadratic = try Quadratic(Self.symmetric(count, seed: 3), count: count)
    var random = SplitMix64(seed: 4)
    let v = random.normals(count)
    let found = try quadratic.times(v)
    for i in 0..<count {
      let expected = (0..<count).reduce(0.0) {
        $0 + quadratic.matrix[i * count + $1] * Double(v[$1])
      }
      #expect(abs(found[i] - expected) <= 1e-5)
    }
  }

  /// The mean of the probes and its standard error, against the exact trace and variance.
  @Test func tracesOfAQuadraticVaryAsTheFormulaSays() throws {
    let (count, unit, probes) = (12, 3, 3000)
    let quadratic = try Quadratic(Self.symmetric(count, seed: 8), count: count)
    let h = quadratic.matrix
    var traces = HessianTraces(unitCounts: [count / unit])
    var random = SplitMix64(seed: 9)
    for _ in 0..<probes {
      let v = (0..<count).map { _ in random.next() & 1 == 0 ? Float(1) : -1 }
      let product = try quadratic.times(v)
      traces.add([
        (0..<(count / unit)).map { group in
          (0..<unit).reduce(0.0) { $0 + Double(v[group * unit + $1]) * product[group * unit + $1] }
        }
      ])
    }
    for group in 0..<(count / unit) {
      let own = (group * unit)..<((group + 1) * unit)
      var (trace, variance) = (0.0, 0.0)
      for i in own {
        trace += h[i * count + i]
        for j in 0..<count where j != i {
          let square = h[i * count + j] * h[i * count + j]
          variance += own.contains(j) ? 2 * square : square
        }
      }
      let error = (variance / Double(probes)).squareRoot()
      #expect(abs(traces.means[0][group] - trace) <= 4 * error)
      #expect(abs(traces.standardErrors[0][group] / error - 1) <= 0.1)
    }
  }

  @Test func oneProbeIsExactForADiagonal() throws {
    let count = 6
    var matrix = [Double](repeating: 0, count: count * count)
    for k in 0..<count { matrix[k * count + k] = Double(k) - 1.5 }
    let v: [Float] = [1, -1, -1, 1, -1, 1]
    let product = try Quadratic(matrix, count: count).times(v)
    for k in 0..<count { #expect(Double(v[k]) * product[k] == Double(k) - 1.5) }
  }

  /// A model with inputs for parameters, so that these can be float64.
  private struct Model {
    let loss: PairLoss
    let values: [Value]
    var inputs: [String: Tensor]

    init(_ task: PairSet.Task) throws {
      let extents = RandomCLIP()
      let plain = try extents.graph(seed: 3)
      let pairs = hessianPairs(extents, task: task, images: 4)
      var result = Graph()
      var images: [Value: Value] = [:]
      inputs = PairBatch(pairs, part: 0, of: 1, imageCount: 4, textLimit: 99, turn: 0).inputs
      for value in plain.values {
        if case .node = plain.origin(of: value) { continue }
        images[value] = try result.addInput(plain.name(of: value), plain.tensorType(of: value))
        inputs[plain.name(of: value)] =
          plain.parameter(value)?.tensor ?? inputs[plain.name(of: value)]
      }
      for node in plain.nodes {
        let made = try result.addNode(
          node.name, node.op, try node.inputs.map { try #require(images[$0]) })
        for (old, new) in zip(node.outputs, made) { images[old] = new }
      }
      for output in plain.outputs {
        try result.addOutput(output.name, try #require(images[output.value]))
      }
      let made = try PairLoss(result, task: task)
      loss = made
      values = try unitGroups(plain).flatMap(\.members).map {
        try #require(made.graph.value(named: plain.name(of: $0.parameter)))
      }
      let needed = Set(made.graph.inputs.map(made.graph.name(of:)))
      inputs = inputs.filter { needed.contains($0.key) }
    }

    func direction(_ seed: UInt64) throws -> [Tensor] {
      var random = SplitMix64(seed: seed)
      return try values.map { value in
        let shape = try #require(loss.graph.tensorType(of: value).shape(binding: [:]))
        return Tensor(shape: shape, (0..<shape.reduce(1, *)).map { _ in random.nextNormal() })
      }
    }
  }

  private func dot(_ a: [Tensor], _ b: [Tensor]) -> Double {
    zip(a, b).reduce(0) { sum, pair in
      zip(pair.0.elements(of: Double.self), pair.1.elements(of: Double.self))
        .reduce(sum) { $0 + $1.0 * $1.1 }
    }
  }

  @Test(arguments: [PairSet.Task.zeroShot, .retrieval])
  func productsAreSymmetricAndDifferencesOfGradients(_ task: PairSet.Task) throws {
    let model = try Model(task)
    let product = try HessianProduct(
      of: model.loss.loss, in: model.loss.graph, withRespectTo: model.values, arithmetic: .float64)
    let (u, v) = (try model.direction(1), try model.direction(2))
    let (hu, hv) = (try product(u, model.inputs), try product(v, model.inputs))
    let (left, right) = (dot(u, hv), dot(v, hu))
    #expect(abs(left - right) <= 1e-6 * max(abs(left), 1e-3))

    var graph = model.loss.graph
    let gradients = try graph.addGradients(of: model.loss.loss, withRespectTo: model.values)
    let names = try gradients.map { graph.name(of: try #require($0)) }
    let executor = try Executor(graph, outputs: names, arithmetic: .float64)
    func gradient(_ step: Double) throws -> [[Double]] {
      var moved = model.inputs
      for (value, direction) in zip(model.values, v) {
        let name = graph.name(of: value)
        let old = try #require(model.inputs[name])
        let elements = zip(old.elements(of: Float.self), direction.elements(of: Double.self))
        moved[name] = Tensor(shape: old.shape, elements.map { Double($0) + step * $1 })
      }
      let results = try executor.run(moved)
      return try names.map { try #require(results[$0]).elements(of: Double.self) }
    }
    let step = 1e-4
    let (ahead, behind) = (try gradient(step), try gradient(-step))
    let largest = hv.flatMap { $0.elements(of: Double.self) }.reduce(0) { max($0, abs($1)) }
    for (index, tensor) in hv.enumerated() {
      for (place, element) in tensor.elements(of: Double.self).enumerated() {
        let difference = (ahead[index][place] - behind[index][place]) / (2 * step)
        #expect(abs(element - difference) <= 1e-5 * largest)
      }
    }
  }

  /// `w₁` scaled by k and `w₂` by 1/k compute the same: `Tr(H₁₁) |w₁|²` must not change.
  @Test func sensitivityOfATensorDoesNotDependOnItsScale() throws {
    func sensitivity(_ scale: Float) throws -> Double {
      var random = SplitMix64(seed: 12)
      var graph = Graph()
      let x = try graph.addParameter("x", Parameter(random.normalTensor([5, 3])))
      let first = random.normals(12).map { $0 * scale }
      let second = random.normals(8).map { $0 / scale }
      let w1 = try graph.addParameter("w1", Parameter(Tensor(shape: [4, 3], first)))
      let w2 = try graph.addParameter("w2", Parameter(Tensor(shape: [2, 4], second)))
      let hidden = try graph.add("hidden", Linear(), x, w1)
      let y = try graph.add("y", Linear(), hidden, w2)
      let loss = try graph.add("loss", Sum(over: .all), try graph.add("e", Exponential(), y))
      let product = try HessianProduct(of: loss, in: graph, withRespectTo: [w1])
      var trace = 0.0
      for k in 0..<12 {
        let unit = Tensor(shape: [4, 3], (0..<12).map { Float($0 == k ? 1 : 0) })
        trace += Double(try product([unit], [:])[0].elements(of: Float.self)[k])
      }
      return trace * first.reduce(0) { $0 + Double($1 * $1) }
    }
    let plain = try sensitivity(1)
    #expect(plain > 0)
    #expect(abs(try sensitivity(3) / plain - 1) <= 1e-5)
  }
}
