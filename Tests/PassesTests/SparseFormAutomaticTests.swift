import Execution
import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport
import Testing
import Training

/// Thresholds that are learned: AutoSparse.
@Suite struct SparseFormAutomaticTests {
  let student: Graph

  init() throws { student = try RandomCLIP().graph(seed: 2) }

  func form(
    _ sparsity: Double = 0.7, steps: Int = 30,
    _ change: (inout AutoSparseForm.Options) -> Void = { _ in }
  ) throws -> AutoSparseForm {
    var constants = AutoSparseForm.Options()
    change(&constants)
    return try AutoSparseForm(
      student, options: SparseTrainingOptions(sparsity: sparsity, schedule: .autosparse),
      constants: constants, steps: steps)
  }

  @Test func alphaOneWithoutThresholdIsDenseTraining() throws {
    let sparse = try form(steps: 100) {
      $0.alpha = 1
      $0.anneals = false
      $0.initialLogit = -200
      $0.decay = 0
    }
    let dense = try sparseTrainer(try WeightForm(student), steps: 100)
    let trainer = try sparseTrainer(sparse, steps: 100)
    for step in 0..<6 {
      let (a, b) = (try dense.step(sparseInputs(step)), try trainer.step(sparseInputs(step)))
      #expect(a.loss == b.loss)
      #expect(b.shown[0].value == 0)
    }
    for entry in dense.weights.entries {
      #expect(
        dense.weights[entry.name].map(Array.init) == trainer.weights[entry.name].map(Array.init))
    }
  }

  @Test func alphaFallsAlongACosine() throws {
    let form = try form(steps: 101)
    #expect(form.plan.end == 61)
    #expect(form.alpha(atStep: 0) == 0.75)
    #expect(abs(form.alpha(atStep: 30) + form.alpha(atStep: 31) - 0.75) < 1e-12)
    #expect(form.alpha(atStep: 61) == 0)
    #expect(zip(0..<61, 1...61).allSatisfy { form.alpha(atStep: $0) > form.alpha(atStep: $1) })
  }

  @Test func weightsBecomeWholeBeforeMasksAreFinal() throws {
    let form = try form(steps: 100) {
      $0.initialLogit = -2
      $0.decay = 0
    }
    #expect(form.shrinkage(atStep: 42) == 1 && form.shrinkage(atStep: 60) == 0)
    #expect(form.shrinkage(atStep: 51) == 0.5)
    let fixture = StepFixture(form)
    let threshold = AutoSparseForm.threshold(-2)
    for (step, part) in [(0, Float(1)), (51, 0.5)] {
      form.begin(fixture.context(step))
      for (name, _) in prunableMasks(student) {
        let (weights, used) = (
          try #require(fixture.weights[name]), try #require(fixture.used[name])
        )
        for place in used.indices {
          let rest = abs(weights[place]) - threshold * part
          let wanted = abs(weights[place]) > threshold ? rest : 0
          #expect(abs(abs(used[place]) - wanted) < 1e-6 && used[place] * weights[place] >= 0)
        }
      }
    }
    let before = Array(fixture.weights.elements)
    form.begin(fixture.context(60))
    for index in before.indices {
      #expect([0, before[index]].contains(fixture.used.elements[index]))
    }
  }

  /// The student whose weights lie under thresholds that are inputs, and the sum of its bent
  /// outputs; what is active is decided by `sigmas` and then constant.
  private func graphOfThresholds(_ sigmas: [String: Double]) throws -> (graph: Graph, loss: String)
  {
    var builder = GraphBuilder(Graph(), scope: "test")
    var images: [Value: Value] = [:]
    for value in student.values {
      let name = student.name(of: value)
      if student.origin(of: value) == .input {
        images[value] = try builder.graph.addInput(name, student.tensorType(of: value))
      }
      guard let parameter = student.parameter(value) else { continue }
      let plain = try builder.graph.addParameter(name, parameter)
      images[value] = plain
      guard let sigma = sigmas[name] else { continue }
      let threshold = 1 / (1 + Double.exp(-sigma))
      let elements = parameter.tensor.elements(of: Float.self)
      func constant(_ suffix: String, _ number: (Float) -> Float) throws -> Value {
        try builder.graph.addParameter(
          "\(name).\(suffix)",
          Parameter(Tensor(shape: parameter.tensor.shape, elements.map(number))))
      }
      let sign = try constant("sign") { $0 < 0 ? -1 : 1 }
      let active = try constant("active") { Double(abs($0)) > threshold ? 1 : 0 }
      let input = try builder.graph.addInput("\(name).sigma", TensorType(.float32, shape: []))
      let spread = try builder.add(
        Broadcast(over: .all), try builder.add(Sigmoid(), input), plain)
      let rest = try builder.difference(plain, try builder.product(sign, spread))
      images[value] = try builder.product(active, rest)
    }
    for node in student.nodes {
      let made = try builder.graph.addNode(
        node.name, node.op, node.inputs.compactMap { images[$0] })
      for (old, new) in zip(node.outputs, made) { images[old] = new }
    }
    var total: Value?
    for output in student.outputs {
      let value = try #require(images[output.value])
      try builder.graph.addOutput(output.name, value)
      let bent = try builder.add(Exponential(), try builder.scaled(value, by: 1.7))
      let sum = try builder.add(Sum(over: .all), bent)
      total = if let total { try builder.sum(total, sum) } else { sum }
    }
    return (builder.graph, builder.graph.name(of: try #require(total)))
  }

  @Test(arguments: [0.0, 0.4])
  func thresholdsGetTheGradientOfDifferences(_ alpha: Double) throws {
    let form = try form(steps: 100) {
      $0.alpha = alpha
      $0.anneals = false
      $0.initialLogit = -1.5
    }
    let fixture = StepFixture(form)
    form.begin(fixture.context(0))
    let names = prunableMasks(student).map(\.name)
    let sigmas = Dictionary(uniqueKeysWithValues: names.map { ($0, -1.5) })
    // The gradient with respect to what the model computes with.
    var used = student
    for entry in fixture.used.entries {
      let value = try #require(used.value(named: entry.name))
      try used.setParameter(value, Parameter(fixture.used.tensor(of: entry)))
    }
    let inputs = RandomCLIP().inputs(seed: 2)
    var builder = GraphBuilder(used, scope: "loss")
    var total: Value?
    for output in used.outputs {
      let bent = try builder.add(Exponential(), try builder.scaled(output.value, by: 1.7))
      let sum = try builder.add(Sum(over: .all), bent)
      total = if let total { try builder.sum(total, sum) } else { sum }
    }
    var graph = builder.graph
    let values = try names.map { try #require(graph.value(named: $0)) }
    let gradients = try graph.addGradients(of: try #require(total), withRespectTo: values)
    let asked = try gradients.map { graph.name(of: try #require($0)) }
    let found = try Executor(graph, outputs: asked, arithmetic: .float64).run(inputs)
    var slopes: [String: [Double]] = [:]
    for (name, value) in zip(names, asked) {
      let slope = try #require(found[value]).elements(of: Double.self)
      slopes[name] = slope
      let target = try #require(fixture.gradients[name])
      for place in target.indices { target[place] = Float(slope[place]) }
    }
    form.pullBack(fixture.context(0))
    let (wide, loss) = try graphOfThresholds(sigmas)
    let executor = try Executor(wide, outputs: [loss], arithmetic: .float64)
    func value(_ sigmas: [String: Double]) throws -> Double {
      var inputs = inputs
      for (name, sigma) in sigmas { inputs["\(name).sigma"] = Tensor(shape: [], [sigma]) }
      return try #require(try executor.run(inputs)[loss]).elements(of: Double.self)[0]
    }
    let threshold = 1 / (1 + Double.exp(1.5))
    for name in names {
      let (up, down) = (
        try value(sigmas.merging([name: -1.5 + 1e-4]) { $1 }),
        try value(sigmas.merging([name: -1.5 - 1e-4]) { $1 })
      )
      var wanted = (up - down) / 2e-4
      let elements = try #require(student.parameter(named: name)).tensor.elements(of: Float.self)
      let slope = try #require(slopes[name])
      for (element, gradient) in zip(elements, slope) where Double(abs(element)) <= threshold {
        wanted -= alpha * gradient * (element < 0 ? -1 : 1) * threshold * (1 - threshold)
      }
      let got = Double(try #require(fixture.controlGradients["threshold.\(name)"])[0])
      #expect(abs(got - wanted) < 1e-4 * max(1, abs(wanted)), "\(name): \(got), \(wanted)")
      let passed = try #require(fixture.gradients[name])
      for place in passed.indices {
        let part = Double(abs(elements[place])) > threshold ? 1 : alpha
        #expect(
          abs(Double(passed[place]) - part * slope[place]) <= 1e-5 * max(1, abs(slope[place])))
      }
    }
  }

  @Test(arguments: [0.3, 0.7, 0.9])
  func sparsityIsExactAndThresholdsStopRising(_ sparsity: Double) throws {
    let form = try form(sparsity)
    let trainer = try sparseTrainer(form, steps: 30, average: 0.9)
    var shown: [Double] = []
    for step in 0..<30 { shown.append(try trainer.step(sparseInputs(step)).shown[0].value) }
    #expect(shown[0] < 0.01)
    #expect(zip(shown[1...16], shown[2...17]).count { $0 < $1 } > 8, "\(shown)")
    let masks = prunableMasks(try trainer.result())
    let total = masks.reduce(0) { $0 + $1.mask.count }
    let zeros = masks.reduce(0) { $0 + $1.mask.count { $0 == 0 } }
    #expect(zeros == Int((sparsity * Double(total)).rounded(.down)))
    #expect(abs((shown.max() ?? 0) - sparsity) < 0.2, "\(shown)")
  }

  @Test func restoredRunGoesOnToTheSameBits() throws {
    for pause in [4, 20] {
      let (first, second) = (
        try sparseTrainer(try form(), steps: 30, average: 0.9),
        try sparseTrainer(try form(), steps: 30, average: 0.9)
      )
      for step in 0..<pause { _ = try first.step(sparseInputs(step)) }
      try second.restore(first.state)
      for step in pause..<30 {
        let a = try first.step(sparseInputs(step))
        let b = try second.step(sparseInputs(step))
        #expect(a.loss == b.loss)
      }
      let graphs = try [first.result(), second.result()]
      for value in graphs[0].parameterValues {
        #expect(
          graphs[0].parameter(value) == graphs[1].parameter(named: graphs[0].name(of: value)))
      }
    }
  }

  @Test func resultOnTheWayIsWhatTheModelComputesWith() throws {
    let form = try form(steps: 100) { $0.initialLogit = -2 }
    let fixture = StepFixture(form)
    form.begin(fixture.context(0))
    let result = try form.result(weights: fixture.weights, controls: fixture.controls)
    for entry in fixture.used.entries {
      let tensor = try #require(result.parameter(named: entry.name)).materialized
      #expect(tensor.elements(of: Float.self) == Array(fixture.used.slice(entry)))
    }
    #expect(form.measures[0].value == result.prunedShare(of: Tower.allCases))
  }

  @Test func patternsAndScopesAreRefused() {
    var scoped = SparseTrainingOptions(sparsity: 0.5, schedule: .autosparse)
    scoped.scope = .global
    for options in [SparseTrainingOptions(kept: 2, of: 4, schedule: .autosparse), scoped] {
      #expect(throws: PassError.self) {
        _ = try AutoSparseForm(student, options: options, steps: 10)
      }
    }
  }
}
