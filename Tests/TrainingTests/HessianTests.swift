import Execution
import GraphIR
import Operators
import TensorCore
import TestSupport
import Testing
import Training

/// Gradients of a whole model: of gradients, computed with less memory, and in parts.
@Suite struct HessianTests {
  /// The contrastive loss of a random model's batch.
  private struct Model {
    var graph: Graph
    let loss: Value
    /// What is differentiated with respect to, by name.
    let parameters: [(name: String, value: Value)]

    init(_ extents: RandomCLIP, seed: UInt64, withInputs: Bool = false) throws {
      let plain = try extents.graph(seed: seed)
      graph = withInputs ? try plain.withInputsForParameters() : plain
      let names = plain.parameterValues.map(plain.name(of:))
      var parameters: [(name: String, value: Value)] = []
      for name in names { parameters.append((name, try #require(graph.value(named: name)))) }
      self.parameters = parameters
      loss = try addContrastiveLoss(&graph)
    }

    /// Adds the gradients and makes them outputs of their parameters' names.
    mutating func addGradients(
      keeping kept: Set<Value>? = nil
    ) throws -> [Value] {
      let gradients = try graph.addGradients(
        of: loss, withRespectTo: parameters.map(\.value), keeping: kept)
      return try gradients.map { try #require($0) }
    }
  }

  /// `H v` by differentiating `<gradient, v>` against a difference of gradients along `v`.
  @Test(arguments: [true, false])
  func productsWithSecondDerivativesAreDifferencesOfGradients(usesQuickGELU: Bool) throws {
    var extents = RandomCLIP()
    extents.usesQuickGELU = usesQuickGELU
    var model = try Model(extents, seed: 3, withInputs: true)
    let weights = try extents.graph(seed: 3)
    let gradients = try model.addGradients()
    var inputs = extents.inputs(seed: 8, items: 3)
    var random = SplitMix64(seed: 21)
    var directions: [String: [Double]] = [:]
    var along: Value?
    for (parameter, gradient) in zip(model.parameters, gradients) {
      let type = model.graph.tensorType(of: parameter.value)
      let shape = try #require(type.shape(binding: [:]))
      let elements = (0..<shape.reduce(1, *)).map { _ in random.nextNormal() }
      directions[parameter.name] = elements
      inputs["v." + parameter.name] = Tensor(shape: shape, elements)
      let direction = try model.graph.addInput("v." + parameter.name, type)
      let name = "along." + parameter.name
      let product = try model.graph.add(name + ".product", Multiply(), gradient, direction)
      let sum = try model.graph.add(name, Sum(over: .all), product)
      along = try along.map { try model.graph.add(name + ".total", Add(), $0, sum) } ?? sum
    }
    let products = try model.graph.addGradients(
      of: try #require(along), withRespectTo: model.parameters.map(\.value))
    let productNames = try products.map { model.graph.name(of: try #require($0)) }

    func moved(by step: Double) throws -> [String: Tensor] {
      var moved = inputs
      for (name, _) in model.parameters {
        let tensor = try #require(weights.parameter(named: name)).tensor
        let direction = try #require(directions[name])
        let elements = zip(tensor.elements(of: Float.self), direction).map {
          Double($0) + step * $1
        }
        moved[name] = Tensor(shape: tensor.shape, elements)
      }
      return moved
    }
    let found = try Executor(
      model.graph, outputs: Set(productNames).sorted(), arithmetic: .float64
    ).run(moved(by: 0))
    let names = gradients.map(model.graph.name(of:))
    let executor = try Executor(
      model.graph, outputs: Set(names).sorted(), arithmetic: .float64)
    let step = 1e-4
    let results = try [step, -step, 2 * step, -2 * step].map { step in
      let result = try executor.run(moved(by: step))
      return try names.map { try #require(result[$0]).elements(of: Double.self) }
    }
    var expected: [[Double]] = []
    for index in productNames.indices {
      expected.append(
        results[0][index].indices.map { place in
          let near = (results[0][index][place] - results[1][index][place]) / (2 * step)
          let far = (results[2][index][place] - results[3][index][place]) / (4 * step)
          return (4 * near - far) / 3
        })
    }
    let largest = expected.joined().reduce(0) { max($0, abs($1)) }
    for (index, name) in productNames.enumerated() {
      let product = try #require(found[name]).elements(of: Double.self)
      // Shares of the largest, since those of the key biases are zero but for rounding.
      let scale = expected[index].reduce(largest / 100) { max($0, abs($1)) }
      let error = distance(product, expected[index])
      // The decompositions' constants are float32.
      #expect(error <= 1e-7 * scale, "\(model.parameters[index].name): \(error) of \(scale)")
    }
  }

  /// Recomputation changes when values are made, not what they are.
  @Test func recomputedGradientsHaveTheSameBitsInLessMemory() throws {
    var extents = RandomCLIP()
    extents.imageLayers = 6
    extents.textLayers = 6
    let inputs = extents.inputs(seed: 9, items: 16)
    func run(keepsLayersOnly: Bool) throws -> (gradients: [Tensor], byteCount: Int) {
      var model = try Model(extents, seed: 5)
      let layers = (0..<6).flatMap { ["image.layers.\($0)", "text.layers.\($0)"] }
      let kept = try layers.map { try #require(model.graph.value(named: $0)) }
      let gradients = try model.addGradients(keeping: keepsLayersOnly ? Set(kept) : nil)
      try model.graph.verify()
      let names = gradients.map(model.graph.name(of:))
      let executor = try Executor(model.graph, outputs: names, threadCount: 2)
      let result = try executor.run(inputs)
      return (try names.map { try #require(result[$0]) }, executor.arenaByteCount)
    }
    let plain = try run(keepsLayersOnly: false)
    let recomputed = try run(keepsLayersOnly: true)
    #expect(plain.gradients == recomputed.gradients)
    #expect(
      2 * recomputed.byteCount < plain.byteCount, "\(recomputed.byteCount) of \(plain.byteCount)")
  }

  /// Keeping everything or nothing is right too, if of no use.
  @Test(arguments: [true, false])
  func extremesOfRecomputationHaveTheSameBits(keepsEverything: Bool) throws {
    let extents = RandomCLIP()
    let inputs = extents.inputs(seed: 9, items: 3)
    func run(_ kept: (Graph) -> Set<Value>?) throws -> [Tensor] {
      var model = try Model(extents, seed: 5)
      let gradients = try model.addGradients(keeping: kept(model.graph))
      let names = gradients.map(model.graph.name(of:))
      let result = try Executor(model.graph, outputs: names).run(inputs)
      return try names.map { try #require(result[$0]) }
    }
    let plain = try run { _ in nil }
    #expect(try run { keepsEverything ? Set($0.values) : [] } == plain)
  }

  /// The gradient of a batch's loss is the sum over its parts of their pullbacks, each seeded with
  /// the gradient of the part's embeddings: what training with cached features rests on.
  ///
  /// - Source: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited
  ///   Setup", arXiv:2101.06983.
  @Test func gradientsOfPartsAddUp() throws {
    let extents = RandomCLIP()
    let (itemCount, partCount) = (6, 2)
    let inputs = extents.inputs(seed: 4, items: itemCount)
    let embeddings = ["image_embeds", "text_embeds"]
    var whole = try Model(extents, seed: 7)
    let outputs = try embeddings.map { try #require(whole.graph.output(named: $0)) }
    let all = try whole.graph.addGradients(
      of: whole.loss, withRespectTo: whole.parameters.map(\.value) + outputs)
    let names = try all.map { whole.graph.name(of: try #require($0)) }
    let expected = try Executor(whole.graph, outputs: names, arithmetic: .float64).run(inputs)

    var part = try extents.graph(seed: 7)
    let towers = part.parameterValues.map(part.name(of:)).filter { $0 != "logit_scale" }
    let values = try towers.map { try #require(part.value(named: $0)) }
    let seeds = try embeddings.map { name in
      let embedding = try #require(part.output(named: name))
      return (embedding, try part.addInput("seed." + name, part.tensorType(of: embedding)))
    }
    let pulled = try part.addGradients(of: seeds, withRespectTo: values)
    let pulledNames = try pulled.map { part.name(of: try #require($0)) }
    let executor = try Executor(part, outputs: pulledNames, arithmetic: .float64)
    var sums = [[Double]](repeating: [], count: towers.count)
    for index in 0..<partCount {
      let rows = Array((index * 3)..<(index * 3 + 3))
      var some = inputs.mapValues { $0.selecting(rows, onAxis: 0) }
      for (name, gradient) in zip(embeddings, names.suffix(2)) {
        some["seed." + name] = try #require(expected[gradient]).selecting(rows, onAxis: 0)
      }
      let result = try executor.run(some)
      for (place, name) in pulledNames.enumerated() {
        let elements = try #require(result[name]).elements(of: Double.self)
        sums[place] = sums[place].isEmpty ? elements : zip(sums[place], elements).map { $0 + $1 }
      }
    }
    for (tower, sum) in zip(towers, sums) {
      let index = try #require(whole.parameters.firstIndex { $0.name == tower })
      let elements = try #require(expected[names[index]]).elements(of: Double.self)
      // Gradients of key biases are zero but for rounding, hence not relative to the largest alone.
      let largest = elements.reduce(1e-2) { max($0, abs($1)) }
      let error = distance(sum, elements)
      #expect(error <= 1e-13 * largest, "\(tower): \(error) of \(largest)")
    }
  }
}

/// Adds the contrastive loss of the graph's embeddings under its logit scale.
func addContrastiveLoss(_ graph: inout Graph) throws -> Value {
  let image = try #require(graph.output(named: "image_embeds"))
  let text = try #require(graph.output(named: "text_embeds"))
  let logarithm = try #require(graph.value(named: "logit_scale"))
  var builder = GraphBuilder(graph, scope: "loss")
  // The contrastive loss reads no embeddings from before their normalization.
  let pair = PairEmbeddings(image: image, text: text, rawImage: image, rawText: text)
  let operands = LossOperands(
    student: pair, studentScale: try builder.add(Exponential(), logarithm))
  let loss = try ContrastiveLoss().value(of: operands, &builder)
  graph = builder.graph
  return loss
}
