import Execution
import GraphIR
import Operators
import TensorCore
import TestSupport
import Testing
import Training

/// Whole steps on students of integer codes.
@Suite struct QuantizedTrainingTests {
  let teacher: Graph
  let student: Graph

  init() throws {
    teacher = try RandomCLIP().graph(seed: 1)
    student = try Self.quantized(teacher)
  }

  /// Weights of two and four bits, on both grids, in groups and in whole rows; activations of eight
  /// and four bits.
  static func quantized(_ graph: Graph, bitCount: Int = 2) throws -> Graph {
    var graph = graph
    for value in graph.parameterValues {
      let name = graph.name(of: value)
      guard let parameter = graph.parameter(value), parameter.tensor.shape.count == 2,
        name.contains(".layers.")
      else { continue }
      let isGrouped = name.contains("fc1")
      let op = FakeQuantizeWeight(
        bitCount: name.contains("mlp") ? bitCount : 4,
        grid: name.contains("text") ? .full : .symmetric, groupSize: isGrouped ? 8 : nil)
      let shape = parameter.tensor.shape
      let groups = (shape[1] + 7) / 8
      let scales = Tensor(
        shape: isGrouped ? [shape[0], groups] : [shape[0]], of: Float.self
      ) { scales in
        parameter.tensor.withElements(of: Float.self) {
          op.fitScales(scales, to: $0, shape: shape, threadCount: 1)
        }
      }
      let quantization = WeightQuantization(
        bitCount: op.bitCount, grid: op.grid, groupSize: op.groupSize, scales: scales)
      try graph.setParameter(
        value, Parameter(quantization.codes(of: parameter.tensor), quantization: quantization))
    }
    return try graph.rewritten { node, rewriter throws(GraphError) in
      guard node.op is Linear, node.name.contains("mlp") else { return try rewriter.copy(node) }
      var inputs: [Value] = []
      for input in node.inputs { inputs.append(try rewriter.image(of: input)) }
      let codes =
        node.name.contains("fc1")
        ? ActivationQuantization(scale: 0.03, zeroPoint: 128, lowest: 1)
        : ActivationQuantization(scale: 0.2, zeroPoint: 3, highest: 15)
      inputs[0] = try rewriter.result.add(
        "\(node.name).codes", FakeQuantize(parameters: codes), inputs[0])
      let made = try rewriter.result.addNode(node.name, Linear(), inputs)[0]
      rewriter.setImage(of: node.outputs[0], to: made)
    }
  }

  func inputs(_ seed: UInt64) -> [String: Tensor] { RandomCLIP().inputs(seed: seed, items: 8) }

  func trainer(
    _ form: any TrainedForm, rate: Double = 2e-3, parts: Int = 1, gradientBitCount: Int? = nil,
    threadCount: Int = 2
  ) throws -> Trainer {
    var objective = Objective(
      losses: try LossMixture(parsing: "affinity=1,feature=3"), teacher: .graph(teacher))
    objective.teacherScale = 12
    var options = UpdateOptions()
    options.schedule = LearningRateSchedule(.constant, peak: rate)
    options.averageDecay = 0.9
    return try Trainer(
      form, objective, options: options, totalSteps: 10, microBatchCount: parts,
      gradientBitCount: gradientBitCount, seed: 3, threadCount: threadCount)
  }

  func form(
    _ update: QuantizationTraining.ClipUpdate = .octav,
    _ estimator: GradientEstimator = .magnitudeAware, of graph: Graph? = nil
  ) throws -> WeightForm {
    var options = QuantizationTraining()
    options.clipUpdate = update
    options.weightEstimator = estimator
    return try WeightForm(graph ?? student, quantization: options, origin: teacher)
  }

  @Test(arguments: [QuantizationTraining.ClipUpdate.octav, .fixed], [1, 3])
  func lossFalls(_ update: QuantizationTraining.ClipUpdate, _ parts: Int) throws {
    let trainer = try trainer(try form(update), parts: parts)
    var losses: [Double] = []
    for _ in 0..<30 { losses.append(try trainer.step(inputs(5)).loss) }
    #expect(losses[29] < losses[0] * 0.7, "\(losses)")
  }

  @Test(arguments: [QuantizationTraining.ClipUpdate.octav, .fixed], [nil, 1])
  func restoredTrainerGoesOnToTheSameBits(
    _ update: QuantizationTraining.ClipUpdate, _ bitCount: Int?
  ) throws {
    let first = try trainer(try form(update), gradientBitCount: bitCount)
    for step in 0..<3 { _ = try first.step(inputs(UInt64(step))) }
    let second = try trainer(try form(update), gradientBitCount: bitCount)
    try second.restore(first.state)
    for step in 3..<6 {
      _ = try first.step(inputs(UInt64(step)))
      _ = try second.step(inputs(UInt64(step)))
    }
    #expect(Array(first.weights.elements) == Array(second.weights.elements))
    #expect(Array(first.controls.elements) == Array(second.controls.elements))
    let graphs = try [first.result(), second.result()]
    for value in graphs[0].parameterValues {
      #expect(
        graphs[0].parameter(value) == graphs[1].parameter(named: graphs[0].name(of: value)))
    }
  }

  @Test func stateOfOtherCodesIsRefused() throws {
    let state = try trainer(try form()).state
    for other in [
      try form(.fixed), try form(.octav, .straightThrough),
      try form(of: try Self.quantized(teacher, bitCount: 3)),
    ] {
      let trainer = try trainer(other)
      let before = Array(trainer.weights.elements)
      #expect(throws: TrainingStateError.self) { try trainer.restore(state) }
      #expect(Array(trainer.weights.elements) == before)
    }
  }

  /// Weights start in the cells of their codes, whatever the teacher is.
  @Test func studentIsWhatItWasBeforeTheFirstStep() throws {
    for origin in [teacher, try RandomCLIP().graph(seed: 9)] {
      var options = QuantizationTraining()
      options.clipUpdate = .fixed
      let form = try WeightForm(student, quantization: options, origin: origin)
      let result = try trainer(form).result()
      for value in student.parameterValues {
        #expect(result.parameter(named: student.name(of: value)) == student.parameter(value))
      }
      let trained = try Executor(form.graph).run(inputs(7))
      let model = try Executor(try student.selectingEarly()).run(inputs(7))
      for name in ["image_embeds", "text_embeds"] {
        let pair = try [trained, model].map { try #require($0[name]).elements(of: Float.self) }
        #expect(largestDifference(pair[0], pair[1]) < 1e-5)
      }
    }
    // Of its own teacher it has the weights, where no code was at the border of its cell.
    let name = "image.layers.0.attention.query.weight"
    let weights = try [form().graph, teacher].map { graph in
      try #require(
        graph.parameter(named: name)
          ?? graph.parameterValues.lazy.filter {
            graph.name(of: $0).contains("image.layers.0.attention")
              && graph.tensorType(of: $0).rank == 2
          }.compactMap { graph.parameter($0) }.first
      ).tensor.elements(of: Float.self)
    }
    #expect(largestDifference(weights[0], weights[1]) < 0.01)
  }

  @Test func scalesFollowTheWeights() throws {
    let trainer = try trainer(try form(), threadCount: 1)
    for step in 0..<4 { _ = try trainer.step(inputs(UInt64(step))) }
    let result = try trainer.result()
    let average = try #require(trainer.average).average
    var checkedCount = 0
    for entry in average.entries {
      guard let parameter = result.parameter(named: entry.name),
        let quantization = parameter.quantization, quantization.grid == .symmetric,
        quantization.groupSize == nil
      else { continue }
      let weight = average.tensor(of: entry)
      #expect(parameter.tensor == quantization.codes(of: weight))
      let width = entry.shape[1]
      let elements = weight.elements(of: Float.self)
      let scales = quantization.scales.elements(of: Float.self)
      for row in scales.indices {
        let magnitudes = elements[(row * width)..<((row + 1) * width)].map { Double(abs($0)) }
        let exact = ClippingScalar.exact(
          magnitudes: magnitudes, counts: [Double](repeating: 1, count: width),
          stepCount: quantization.largestCode)
        #expect(abs(Double(scales[row]) * Double(quantization.largestCode) - exact) <= 1e-6 * exact)
        checkedCount += 1
      }
    }
    #expect(checkedCount > 20)
  }

  /// With weights that stay and one batch, the average is the batch's own step from the first on.
  @Test(arguments: [1, 2])
  func activationsFollowTheBatch(_ parts: Int) throws {
    let form = try form()
    let trainer = try trainer(form, rate: 1e-12, parts: parts)
    for _ in 0..<3 { _ = try trainer.step(inputs(5)) }
    let result = try trainer.result()
    let observed = try #require(form.observed.first)
    var graph = form.graph
    for value in graph.parameterValues {
      guard let scale = trainer.controls.layout[graph.name(of: value)] else { continue }
      try graph.setParameter(value, Parameter(trainer.controls.tensor(of: scale)))
    }
    let wanted = try #require(
      Executor(graph, outputs: form.observed).run(inputs(5))[observed]
    ).elements(of: Float.self)[0]
    let node = try #require(result.nodes.first { "\($0.name).scale.batch" == observed })
    let found = try #require(node.op as? FakeQuantize).parameters
    // Halves of a batch have their own steps.
    #expect(abs(found.scale - wanted) <= (parts == 1 ? 1e-4 : 0.2) * wanted)
    #expect(found.zeroPoint == 128 && found.lowest == 1 && found.highest == 255)
    #expect(found.scale != 0.03)
  }

  @Test func bitsDoNotDependOnTheThreadsThatFitScales() throws {
    let forms = try [1, 3].map {
      try WeightForm(student, origin: teacher, threadCount: $0)
    }
    let trainers = try forms.map { try trainer($0) }
    for step in 0..<2 {
      for trainer in trainers { _ = try trainer.step(inputs(UInt64(step))) }
    }
    #expect(Array(trainers[0].controls.elements) == Array(trainers[1].controls.elements))
    #expect(Array(trainers[0].weights.elements) == Array(trainers[1].weights.elements))
  }

  /// A grid without a code for zero, which no file should have, is left as it is.
  @Test func rangesWithoutZeroStay() throws {
    let odd = try student.rewritten { node, rewriter throws(GraphError) in
      guard node.op is FakeQuantize else { return try rewriter.copy(node) }
      let codes = ActivationQuantization(scale: 0.1, zeroPoint: 0, lowest: 1, highest: 15)
      let made = try rewriter.result.add(
        node.name, FakeQuantize(parameters: codes), try rewriter.image(of: node.inputs[0]))
      rewriter.setImage(of: node.outputs[0], to: made)
    }
    let form = try form(of: odd)
    #expect(form.observed.isEmpty)
    _ = try trainer(form).step(inputs(1))
  }
}

/// Gradients of linears that are rounded at random.
@Suite struct QuantizedGradientTests {
  @Test(arguments: [1, 4])
  func meanOfAllGradientsIsTheGradient(_ bitCount: Int) throws {
    var random = SplitMix64(seed: 1)
    var graph = Graph()
    let x = try graph.addInput("x", TensorType(.float32, shape: [5, 4]))
    var values = [x]
    for (name, shape) in [("a", [3, 4]), ("b", [6, 3])] {
      values.append(try graph.addParameter(name, Parameter(random.normalTensor(shape))))
    }
    let hidden = try graph.add("hidden", Linear(), x, values[1])
    let y = try graph.add("y", Linear(), try graph.add("gelu", GELU(), hidden), values[2])
    let square = try graph.add("square", Multiply(), y, y)
    let loss = try graph.add("loss", Sum(over: .all), square)
    let names = try graph.addGradients(of: loss, withRespectTo: values).map {
      graph.name(of: try #require($0))
    }
    let quantized = try graph.quantizingLinearGradients(bitCount: bitCount)
    let inputs = ["x": random.normalTensor([5, 4])]
    func gradients(_ executor: Executor, _ inputs: [String: Tensor]) throws -> [Double] {
      let results = try executor.run(inputs)
      return try names.flatMap { name in
        try #require(results[name]).elements(of: Float.self).map { Double($0) }
      }
    }
    let exact = try gradients(try Executor(graph, outputs: names), inputs)
    let executor = try Executor(quantized, outputs: names)
    let drawCount = 3000
    var (sums, squares) = (exact.map { _ in 0.0 }, exact.map { _ in 0.0 })
    for draw in 0..<drawCount {
      var inputs = inputs
      inputs["gradient_seed"] = Tensor(shape: [2], [Int32(draw), 5])
      for (index, value) in try gradients(executor, inputs).enumerated() {
        sums[index] += value
        squares[index] += value * value
      }
    }
    for index in exact.indices {
      let mean = sums[index] / Double(drawCount)
      let variance = max(0, squares[index] / Double(drawCount) - mean * mean)
      let error = (variance / Double(drawCount)).squareRoot()
      #expect(abs(mean - exact[index]) <= 5 * error + 1e-4, "element \(index)")
      #expect(variance > 0)
    }
  }

  @Test(arguments: [1, 3])
  func stepsDifferAndRepeat(_ parts: Int) throws {
    let suite = try QuantizedTrainingTests()
    let plain = try RandomCLIP().graph(seed: 2)
    func norms(_ bitCount: Int?) throws -> [Double] {
      let trainer = try suite.trainer(
        try WeightForm(plain), rate: 1e-12, parts: parts, gradientBitCount: bitCount)
      return try (0..<3).map { _ in try trainer.step(suite.inputs(5)).gradientNorm }
    }
    let exact = try norms(nil)
    let drawn = try norms(1)
    #expect(exact[0] == exact[1])
    #expect(drawn[0] != drawn[1] && drawn[1] != drawn[2])
    #expect(try norms(1) == drawn)
    let fine = try norms(8)
    #expect(abs(fine[0] - exact[0]) < 0.05 * exact[0])
  }
}
