import Execution
import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport
import Testing
import Training

/// How masks are drawn, priced, trained and chosen.
@Suite struct AutomaticFormTests {
  /// The controls of `form`, all masks random.
  private static func controls(of form: MaskedForm, seed: UInt64) -> ParameterBlock {
    var random = SplitMix64(seed: seed)
    let block = controls(of: form)
    for entry in block.entries where !entry.shape.isEmpty {
      let center = random.nextNormal() * 1.5
      for element in block.slice(entry).indices {
        block.slice(entry)[element] = Float(center + random.nextNormal())
      }
    }
    return block
  }

  /// The controls of `form` as they are at the start.
  private static func controls(of form: MaskedForm) -> ParameterBlock {
    block(of: form.controls.map(\.name), form.graph)
  }

  private static func block(of names: [String], _ graph: Graph) -> ParameterBlock {
    let tensors = names.compactMap { name in graph.parameter(named: name).map { (name, $0.tensor) }
    }
    let block = ParameterBlock(tensors.map { (name: $0.0, shape: $0.1.shape) })
    for (entry, tensor) in zip(block.entries, tensors) { block.set(entry, tensor.1) }
    return block
  }

  /// The form's graph with other controls.
  private static func graph(_ form: MaskedForm, _ controls: ParameterBlock) throws -> Graph {
    var graph = form.graph
    for entry in controls.entries {
      let value = try #require(graph.value(named: entry.name))
      try graph.setParameter(value, Parameter(controls.tensor(of: entry)))
    }
    return graph
  }

  private static func sigmoid(_ x: Double) -> Double { 1 / (1 + Double.exp(-x)) }

  @Test func openMasksHaveNoSparsity() throws {
    let fixture = try MaskedFixture(seed: 1)
    let total = Double(fixture.graph.parameterCount(of: Tower.allCases))
    #expect(fixture.plan.size.value(fixture.plan.fullCounts) == total)
    // Half of the heads gone frees, by the table, 2 (4 d dh + 3 dh) in each pair of them.
    let halved = fixture.plan.masks.map {
      $0.kind == .heads ? Double($0.count) / 2 : Double($0.count)
    }
    let image = 2.0 * 1.5 * Double(4 * 24 * 8 + 3 * 8)
    let text = 3.0 * 1 * Double(4 * 16 * 8 + 3 * 8)
    #expect(fixture.plan.size.value(halved) == total - image - text)
  }

  @Test(arguments: [Set(MaskKind.allCases), [.heads, .neurons, .width], [.neurons], [.layers]])
  func expectedSparsity(_ kinds: Set<MaskKind>) throws {
    let fixture = try MaskedFixture(seed: 2)
    let form = try MaskedForm(
      fixture.graph, options: .init(keep: 0.9, kinds: kinds.sorted { $0.rawValue < $1.rawValue }))
    let controls = Self.controls(of: form, seed: 3)
    let expected = fixture.parameterCount { name in
      guard let loga = controls["mask.\(name)"] else {
        return Double(fixture.plan.masks.first { $0.name == name }?.count ?? 0)
      }
      return loga.reduce(0) { $0 + Self.sigmoid(Double($1) + 1.598_596_848_5) }
    }
    let total = Double(fixture.graph.parameterCount(of: Tower.allCases))
    for (arithmetic, tolerance) in [(Arithmetic.float64, 1e-6), (.fast, 1e-5)] {
      let result = try Executor(
        Self.graph(form, controls), outputs: ["mask.sparsity"], arithmetic: arithmetic
      ).run([:])
      let tensor = try #require(result["mask.sparsity"])
      let sparsity =
        arithmetic == .float64
        ? tensor.elements(of: Double.self)[0] : Double(tensor.elements(of: Float.self)[0])
      #expect(abs(sparsity - (1 - expected / total)) <= tolerance)
    }
    #expect(form.shown.map(\.value) == ["mask.sparsity"])
  }

  @Test(arguments: [-3.0, -1, 0, 0.7, 2])
  func drawnMasksAreOpenAsOftenAsTheFormulaSays(_ loga: Double) {
    let noise = HardConcrete.noise(200_000, seed: 5, step: 3, stream: 1)
    let values = noise.map { HardConcrete.value(loga, noise: Double($0)) }
    let probability = HardConcrete.openProbability(loga)
    let share = Double(values.count { $0 > 0 }) / Double(values.count)
    let deviation = (probability * (1 - probability) / Double(values.count)).squareRoot()
    #expect(abs(share - probability) < 4 * deviation)
    // Symmetric constants: a mask is exactly one as often as the mirrored one is zero.
    let whole = Double(values.count { $0 == 1 }) / Double(values.count)
    let mirrored = 1 - HardConcrete.openProbability(-loga)
    #expect(abs(whole - mirrored) < 4 * (mirrored * (1 - mirrored) / 200_000).squareRoot())
  }

  @Test func graphDrawsMasksByTheFormula() throws {
    let fixture = try MaskedFixture(seed: 7)
    let form = try MaskedForm(
      fixture.graph, options: .init(keep: 0.5, kinds: MaskKind.allCases))
    let controls = Self.controls(of: form, seed: 9)
    let drawn = form.inputs(atStep: 11, seed: 13)
    let masks = fixture.plan.masks.map { mask -> [Float] in
      let loga = controls["mask.\(mask.name)"].map(Array.init) ?? []
      let noise = drawn["mask.\(mask.name).noise"]?.elements(of: Float.self) ?? []
      return zip(loga, noise).map { loga, noise in
        let s = Self.sigmoid((Double(noise) + Double(loga)) * 1.5)
        return Float(min(1, max(0, s * 1.2 - 0.1)))
      }
    }
    #expect(masks.joined().contains(0))
    #expect(masks.joined().contains(1))
    let pairs = fixture.extents.inputs(seed: 2)
    let inputs = pairs.merging(drawn) { $1 }
    let expected = try wideOutputs(fixture.plan.masking(fixture.graph, masks: masks), pairs)
    let found = try wideOutputs(Self.graph(form, controls), inputs)
    #expect(largestGap(expected, found) < 1e-4)
  }

  @Test func gradientsOfMasksAreThoseOfDifferences() throws {
    let fixture = try MaskedFixture(seed: 8)
    let form = try MaskedForm(
      fixture.graph, options: .init(keep: 0.5, kinds: MaskKind.allCases, rampSteps: 10))
    var builder = GraphBuilder(form.graph, scope: "loss")
    var loss = try #require(try form.penalty(&builder))
    for name in ["image_embeds", "text_embeds"] {
      let value = try #require(builder.graph.output(named: name))
      let bent = try builder.add(Exponential(), try builder.scaled(value, by: 1.7))
      loss = try builder.sum(loss, try builder.add(Sum(over: .all), bent))
    }
    var graph = builder.graph
    let names = form.controls.map(\.name)
    let values = try names.map { try #require(graph.value(named: $0)) }
    let gradients = try graph.addGradients(of: loss, withRespectTo: values)
    let controls = Self.controls(of: form, seed: 10)
    for entry in controls.entries {
      try graph.setParameter(values[entry.index], Parameter(controls.tensor(of: entry)))
    }
    let inputs = fixture.extents.inputs(seed: 2).merging(form.inputs(atStep: 40, seed: 1)) { $1 }
    let outputs = try gradients.map { graph.name(of: try #require($0)) }
    let found = try Executor(graph, outputs: outputs, arithmetic: .float64).run(inputs)
    let lossName = graph.name(of: loss)
    func evaluate(_ graph: Graph) throws -> Double {
      let result = try Executor(graph, outputs: [lossName], arithmetic: .float64).run(inputs)
      return try #require(result[lossName]).elements(of: Double.self)[0]
    }
    var largest = 0.0
    for entry in controls.entries {
      let tensor = controls.tensor(of: entry)
      let gradient = try #require(found[outputs[entry.index]]).elements(of: Double.self)
      for element in [0, entry.range.count / 2] {
        var ends: [(place: Double, loss: Double)] = []
        for side in [Float(-1), 1] {
          var elements = tensor.elements(of: Float.self)
          elements[element] += side * 0x1p-10
          var moved = graph
          try moved.setParameter(
            values[entry.index], Parameter(Tensor(shape: tensor.shape, elements)))
          ends.append((Double(elements[element]), try evaluate(moved)))
        }
        let slope = (ends[1].loss - ends[0].loss) / (ends[1].place - ends[0].place)
        #expect(abs(slope - gradient[element]) < 1e-4 * max(1, abs(slope)), "\(entry.name)")
        largest = max(largest, abs(slope))
      }
    }
    #expect(largest > 0.1)
  }

  @Test func sameSeedSameNoise() throws {
    let form = try MaskedForm(try MaskedFixture(seed: 1).graph, options: .init(keep: 0.5))
    let first = form.inputs(atStep: 5, seed: 7)
    let names = Set(first.keys.filter { $0.hasSuffix(".noise") })
    #expect(names.count == form.plan.learned.count)
    for (name, tensor) in first {
      #expect(form.inputs(atStep: 5, seed: 7)[name] == tensor)
      guard names.contains(name) else { continue }
      #expect(form.inputs(atStep: 6, seed: 7)[name] != tensor)
      #expect(form.inputs(atStep: 5, seed: 8)[name] != tensor)
      #expect(first.values.count { $0 == tensor } == 1)
    }
  }

  @Test func targetRises() throws {
    let graph = try MaskedFixture(seed: 1).graph
    let form = try MaskedForm(
      graph, options: .init(keep: 0.25, rampSteps: 8, startSparsity: 0.15))
    for (step, target) in [(0, 0.15), (2, 0.3), (8, 0.75), (100, 0.75)] {
      #expect(abs(form.targetSparsity(atStep: step) - target) < 1e-12)
      let input = try #require(form.inputs(atStep: step, seed: 0)["mask.target"])
      #expect(abs(Double(input.elements(of: Float.self)[0]) - target) < 1e-6)
    }
  }

  @Test func constraintsHold() throws {
    var graph = try MaskedFixture(seed: 1).graph
    let name = "image.layers.0.mlp.fc1.weight"
    let value = try #require(graph.value(named: name))
    var parameter = try #require(graph.parameter(value))
    let keptBits = (0..<parameter.tensor.count).map { UInt8($0 % 2) }
    parameter.mask = Tensor(shape: parameter.tensor.shape, keptBits)
    try graph.setParameter(value, parameter)
    let form = try MaskedForm(graph, options: .init(keep: 0.5))
    let weights = Self.block(of: form.weights, form.graph)
    let controls = Self.controls(of: form)
    controls["mask.text.width"]?[0] = -20
    controls["mask.text.width"]?[1] = 1.5
    controls["mask.lambda1"]?[0] = -3
    controls["mask.lambda2"]?[0] = 3
    form.constrain(weights: weights, controls: controls)
    #expect(abs(try #require(controls["mask.text.width"]?[0]) - -4.605_170) < 1e-5)
    #expect(controls["mask.text.width"]?[1] == 1.5)
    #expect(abs(try #require(controls["mask.text.width"]?[2]) - 4.605_170) < 1e-5)
    #expect(controls["mask.lambda1"]?[0] == 0)
    #expect(controls["mask.lambda2"]?[0] == 3)
    let pruned = try #require(weights[name])
    #expect(pruned.indices.allSatisfy { keptBits[$0] == 1 || pruned[$0] == 0 })
    #expect(pruned.contains { $0 != 0 })
  }

  /// The price alone: nothing opens a mask again, so what is beyond the target stays.
  @Test(arguments: [0.75, 0.4])
  func ascentOfMultipliersReachesTheTarget(_ keep: Double) throws {
    let course = try Self.train(keep: keep, pull: 0, steps: 1999)
    #expect(course.contains { abs($0 - (1 - keep)) <= 0.01 })
    let last = try #require(course.last)
    #expect(last >= 1 - keep - 0.01, "\(last)")
    #expect(last <= 1 - keep + 0.03, "\(last)")
    // The ramp is followed, not overtaken.
    #expect(course[500] <= (1 - keep) / 2 + 0.05)
  }

  /// Against a loss that wants every parameter, the multipliers hold the target.
  @Test(arguments: [0.75, 0.4], [Float(0.5), 2])
  func multipliersHoldTheTarget(_ keep: Double, _ pull: Float) throws {
    let course = try Self.train(keep: keep, pull: pull, steps: 1999)
    let mean = course.suffix(400).reduce(0, +) / 400
    #expect(abs(mean - (1 - keep)) <= 0.01, "\(mean)")
  }

  /// Trains masks alone by the penalty and `pull` times the sparsity; the expected sparsity of each
  /// step.
  private static func train(keep: Double, pull: Float, steps: Int) throws -> [Double] {
    let form = try MaskedForm(
      try MaskedFixture(seed: 3).graph,
      options: .init(keep: keep, kinds: MaskKind.allCases, rampSteps: 1000))
    let parameters = controls(of: form)
    let gradients = ParameterBlock(like: parameters)
    var builder = GraphBuilder(form.graph, scope: "loss")
    let sparsity = try #require(builder.graph.value(named: "mask.sparsity"))
    let loss = try builder.sum(
      try #require(try form.penalty(&builder)), try builder.scaled(sparsity, by: pull))
    var graph = builder.graph
    let values = try parameters.entries.map { try #require(graph.value(named: $0.name)) }
    let made = try graph.addGradients(of: loss, withRespectTo: values)
    var memory: [String: BoundMemory] = [:]
    var outputs: [String] = ["mask.sparsity"]
    for (entry, value) in zip(parameters.entries, made) {
      memory[entry.name] = BoundMemory(parameters.slice(entry), owner: parameters)
      let name = graph.name(of: try #require(value))
      memory[name] = BoundMemory(gradients.slice(entry), owner: gradients)
      outputs.append(name)
    }
    let rates = form.controls.map(\.rate)
    let optimizer = AdamW(layout: parameters.layout) {
      EntryRule(rateFactor: Float(rates[$0.index]), isDecayed: false)
    }
    let executor = try Executor(graph, outputs: outputs, memory: memory)
    let weights = ParameterBlock([])
    var course: [Double] = []
    for step in 0..<steps {
      let result = try executor.run(form.inputs(atStep: step, seed: 1))
      let value = try #require(result["mask.sparsity"])
      course.append(Double(value.elements(of: Float.self)[0]))
      optimizer.step(
        parameters: parameters, gradients: gradients, learningRate: 1, gradientFactor: 1)
      form.constrain(weights: weights, controls: parameters)
    }
    return course
  }
}
