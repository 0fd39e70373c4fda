import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport
import Testing
import Training

/// Masks by magnitude while a student is trained.
@Suite struct SparseFormTests {
  typealias Schedule = SparseTrainingOptions.Schedule

  static let magnitudes: [Schedule] = [.gradual, .ste, .srSTE, .flowLinear, .flowExponential]

  let student: Graph

  init() throws { student = try RandomCLIP().graph(seed: 2) }

  static func options(_ schedule: Schedule, pattern: Bool) -> SparseTrainingOptions {
    pattern
      ? SparseTrainingOptions(kept: 2, of: 4, schedule: schedule)
      : SparseTrainingOptions(sparsity: 0.7, schedule: schedule)
  }

  @Test(arguments: [Schedule.flowLinear, .flowExponential], [true, false])
  func leakOneIsDenseAndLeakZeroIsMasked(_ schedule: Schedule, _ pattern: Bool) throws {
    let form = try SparseForm(
      student, options: Self.options(schedule, pattern: pattern), steps: 100)
    let fixture = StepFixture(form)
    form.begin(fixture.context(0))
    #expect(form.plan.leak(atStep: 0) == 1)
    #expect(Array(fixture.used.elements) == Array(fixture.weights.elements))
    let dense = Array(fixture.weights.elements)
    form.begin(fixture.context(30))
    let leak = form.plan.leak(atStep: 30)
    #expect(leak > 0 && leak < 1)
    let middle = Array(fixture.used.elements)
    form.begin(fixture.context(60))
    #expect(form.plan.leak(atStep: 60) == 0)
    let masks = Dictionary(
      uniqueKeysWithValues: prunableMasks(
        try form.result(weights: fixture.weights, controls: fixture.controls)))
    for entry in fixture.used.entries {
      for (place, index) in entry.range.enumerated() {
        let isKept = masks[entry.name].map { $0[place] == 1 } ?? true
        #expect(fixture.used.elements[index] == (isKept ? dense[index] : 0))
        #expect(middle[index] == (isKept ? dense[index] : dense[index] * leak))
      }
    }
  }

  @Test(arguments: magnitudes, [true, false])
  func gradientsReachMaskedWeightsAsTheScheduleSays(_ schedule: Schedule, _ pattern: Bool) throws {
    let form = try SparseForm(
      student, options: Self.options(schedule, pattern: pattern), steps: 100)
    let fixture = StepFixture(form)
    for step in [30, 80] {
      form.begin(fixture.context(step))
      fixture.fillGradients(seed: 4)
      let arrived = Array(fixture.gradients.elements)
      form.pullBack(fixture.context(step))
      let masks = Dictionary(
        uniqueKeysWithValues: prunableMasks(
          try form.result(weights: fixture.weights, controls: fixture.controls)))
      for entry in fixture.gradients.entries {
        for (place, index) in entry.range.enumerated() {
          var wanted = arrived[index]
          if masks[entry.name]?[place] == 0 {
            let pull = schedule == .srSTE ? 2e-4 * fixture.weights.elements[index] : 0
            wanted = schedule == .gradual || step == 80 ? 0 : wanted + pull
          }
          #expect(abs(fixture.gradients.elements[index] - wanted) <= 1e-6)
        }
      }
    }
  }

  @Test(arguments: Schedule.allCases.filter { $0 != .autosparse })
  func everyBlockHasItsPattern(_ schedule: Schedule) throws {
    let form = try SparseForm(
      student, options: Self.options(schedule, pattern: true), steps: 10)
    let trainer = try sparseTrainer(form, steps: 10, average: 0.9)
    for step in 0..<10 { _ = try trainer.step(sparseInputs(step)) }
    let result = try trainer.result()
    for (name, mask) in prunableMasks(result) {
      for start in stride(from: 0, to: mask.count, by: 4) {
        #expect(mask[start..<(start + 4)].reduce(0) { $0 + Int($1) } == 2, "\(name)")
      }
      let elements = try #require(result.parameter(named: name)).tensor.elements(of: Float.self)
      #expect(zip(elements, mask).allSatisfy { $1 == 1 || $0 == 0 })
    }
    #expect(result.prunedShare(of: Tower.allCases) == 0.5)
    #expect(form.measures.first?.value == 0.5)
  }

  @Test(arguments: magnitudes, [PruningScope.layer, .global])
  func sparsityIsExact(_ schedule: Schedule, _ scope: PruningScope) throws {
    for steps in [1, 2, 9] {
      var options = SparseTrainingOptions(sparsity: 0.73, schedule: schedule)
      options.scope = scope
      let trainer = try sparseTrainer(
        try SparseForm(student, options: options, steps: steps), steps: steps)
      for step in 0..<steps { _ = try trainer.step(sparseInputs(step)) }
      let masks = prunableMasks(try trainer.result())
      let zeros = masks.map { $0.mask.count { $0 == 0 } }
      if scope == .layer {
        #expect(zeros == masks.map { Int((0.73 * Double($0.mask.count)).rounded(.down)) })
      } else {
        let total = masks.reduce(0) { $0 + $1.mask.count }
        #expect(zeros.reduce(0, +) == Int((0.73 * Double(total)).rounded(.down)))
        #expect(Set(zip(zeros, masks).map { Double($0) / Double($1.mask.count) }).count > 1)
      }
    }
  }

  @Test func gradualRisesAlongTheCubicAndWeightsMayReturn() throws {
    var options = SparseTrainingOptions(sparsity: 0.8)
    options.ramp = 0.4
    options.interval = 10
    let form = try SparseForm(student, options: options, steps: 100)
    let fixture = StepFixture(form)
    var found: [Double] = []
    for step in 0...50 {
      form.begin(fixture.context(step))
      if step % 10 == 0 { found.append(form.measures[0].value) }
      guard step == 15 else { continue }
      // What was smallest, and is masked, becomes largest.
      for index in fixture.weights.elements.indices where fixture.weights.elements[index] != 0 {
        fixture.weights.elements[index] = 0.01 / fixture.weights.elements[index]
      }
    }
    for (measured, wanted) in zip(found, [0, 0.4625, 0.7, 0.7875, 0.8, 0.8]) {
      // Each weight's count is rounded down.
      #expect(measured <= wanted + 1e-9 && measured > wanted - 0.005)
    }
    let masks = prunableMasks(
      try form.result(weights: fixture.weights, controls: fixture.controls))
    let first = try #require(masks.first)
    let before = try #require(student.parameter(named: first.name)).tensor.elements(of: Float.self)
    let small = before.indices.filter { abs(before[$0]) < 0.01 }
    #expect(!small.isEmpty && small.allSatisfy { first.mask[$0] == 1 })
  }

  @Test func maskedWeightsRestUntilTheMasksAreFinal() throws {
    var options = SparseTrainingOptions(sparsity: 0.6)
    options.interval = 5
    let trainer = try sparseTrainer(
      try SparseForm(student, options: options, steps: 20), steps: 20, weightDecay: 0)
    let name = try #require(prunableMasks(student).first?.name)
    func look() throws -> (weights: [Float], mask: [UInt8]) {
      let masks = prunableMasks(try trainer.result())
      return (
        try #require(trainer.weights[name]).map { $0 },
        try #require(masks.first { $0.name == name }).mask
      )
    }
    func train(_ steps: Range<Int>) throws {
      for step in steps { _ = try trainer.step(sparseInputs(step)) }
    }
    // Masks are chosen in steps 0, 5, 10 and, for good, 12.
    try train(0..<6)
    let first = try look()
    try train(6..<10)
    let second = try look()
    #expect(first.mask == second.mask && first.mask.contains(0))
    for place in first.mask.indices {
      let rests = first.weights[place] == second.weights[place]
      #expect(rests == (first.mask[place] == 0) && first.weights[place] != 0)
    }
    try train(10..<13)
    let third = try look()
    try train(13..<20)
    let last = try look()
    #expect(third.mask == last.mask)
    #expect(zip(third.weights, third.mask).allSatisfy { ($0 == 0) == ($1 == 0) })
    #expect(zip(last.weights, last.mask).allSatisfy { ($0 == 0) == ($1 == 0) })
    #expect(third.weights != last.weights)
  }

  @Test(
    arguments: Schedule.allCases.filter { $0 != .autosparse }, [true, false])
  func restoredRunGoesOnToTheSameBits(_ schedule: Schedule, _ pattern: Bool) throws {
    guard pattern || Self.magnitudes.contains(schedule) else { return }
    var options = Self.options(schedule, pattern: pattern)
    options.interval = 2
    func trainer() throws -> Trainer {
      try sparseTrainer(
        try SparseForm(student, options: options, steps: 12), steps: 12, average: 0.9)
    }
    for pause in [3, 9] {
      let (first, second) = (try trainer(), try trainer())
      for step in 0..<pause { _ = try first.step(sparseInputs(step)) }
      try second.restore(first.state)
      for step in pause..<12 {
        let a = try first.step(sparseInputs(step))
        let b = try second.step(sparseInputs(step))
        #expect(a.loss == b.loss)
        #expect(a.shown.map(\.value) == b.shown.map(\.value))
      }
      let graphs = try [first.result(), second.result()]
      for value in graphs[0].parameterValues {
        #expect(
          graphs[0].parameter(value) == graphs[1].parameter(named: graphs[0].name(of: value)))
      }
    }
  }

  @Test(arguments: [Schedule.gradual, .flowLinear, .ste])
  func whatWasPrunedStaysPruned(_ schedule: Schedule) throws {
    var pruned = student
    let chosen = try WeightMasks(RandomImportance(seed: 5)).perLayer(
      student.prunableWeights(of: Tower.allCases), in: student, sparsity: 0.3)
    for value in pruned.parameterValues {
      guard let mask = chosen[value], let old = pruned.parameter(value) else { continue }
      try pruned.setParameter(value, Parameter(old.tensor, mask: mask))
    }
    let trainer = try sparseTrainer(
      try SparseForm(
        pruned, options: SparseTrainingOptions(sparsity: 0.6, schedule: schedule), steps: 10),
      steps: 10)
    for step in 0..<10 { _ = try trainer.step(sparseInputs(step)) }
    let result = try trainer.result()
    for (name, mask) in prunableMasks(result) {
      let old = try #require(pruned.parameter(named: name)?.mask).elements(of: UInt8.self)
      #expect(zip(old, mask).allSatisfy { $0 == 1 || $1 == 0 })
      #expect(mask.count { $0 == 0 } == Int((0.6 * Double(mask.count)).rounded(.down)))
    }
  }

  @Test func trainingUnderMasksLowersTheLoss() throws {
    let trainer = try sparseTrainer(
      try SparseForm(student, options: SparseTrainingOptions(sparsity: 0.5), steps: 40), steps: 40)
    var losses: [Double] = []
    for _ in 0..<40 { losses.append(try trainer.step(sparseInputs(5)).loss) }
    #expect(losses[39] < losses[0] * 0.8, "\(losses)")
  }

  @Test func refusalsSayWhat() throws {
    func message(_ options: SparseTrainingOptions, _ graph: Graph) -> String {
      do {
        _ = try SparseForm(graph, options: options, steps: 10)
        return "nothing"
      } catch { return "\(error)" }
    }
    let odd = message(SparseTrainingOptions(kept: 2, of: 5, schedule: .ste), student)
    #expect(odd.contains("image.layers.0") && odd.contains("24 inputs"), "\(odd)")
    for sparsity in [0, 1, -0.5, .nan] {
      let text = message(SparseTrainingOptions(sparsity: sparsity), student)
      #expect(text.contains("sparsity must be above 0 and below 1"))
    }
    #expect(
      message(SparseTrainingOptions(sparsity: 0.5, schedule: .geometric), student).contains("N:M"))
    var options = SparseTrainingOptions(kept: 2, of: 4, schedule: .ste)
    options.sparsity = 0.7
    #expect(message(options, student).contains("0.5, as 2:4 says"))
    options = SparseTrainingOptions(sparsity: 0.7)
    options.start = 0.7
    #expect(message(options, student).contains("at most 1"))
    let quantized = try Quantize().run(on: student, in: PassContext())
    #expect(
      message(SparseTrainingOptions(sparsity: 0.5), quantized).contains("quantized"))
  }
}
