import Execution
import GraphIR
import Operators
import TensorCore
import TestSupport
import Testing
import Training

/// Whole steps on small random models.
@Suite struct TrainerTests {
  let teacher: Graph
  let student: Graph

  init() throws {
    teacher = try RandomCLIP().graph(seed: 1)
    student = try RandomCLIP().graph(seed: 2)
  }

  func inputs(_ seed: UInt64, items: Int = 8) -> [String: Tensor] {
    RandomCLIP().inputs(seed: seed, items: items)
  }

  func objective(
    _ losses: String = "affinity=1,contrastive=0.5,feature=3,norm-direction=0.3,interactive=0.1"
  ) throws -> Objective {
    var objective = Objective(losses: try LossMixture(parsing: losses), teacher: .graph(teacher))
    objective.teacherScale = 12
    objective.trainsScale = true
    return objective
  }

  func trainer(
    _ form: any TrainedForm, _ objective: Objective, parts: Int = 1, recomputes: Bool = false,
    clipping: UpdateOptions.Clipping = .norm, arithmetic: Arithmetic = .fast
  ) throws -> Trainer {
    var options = UpdateOptions()
    options.schedule = LearningRateSchedule(.constant, peak: 2e-3)
    options.clipping = clipping
    options.averageDecay = 0.9
    return try Trainer(
      form, objective, options: options, totalSteps: 10, microBatchCount: parts,
      recomputes: recomputes, seed: 3, threadCount: 2, arithmetic: arithmetic)
  }

  /// The largest difference of two trainers' weights.
  func difference(_ a: Trainer, _ b: Trainer) -> Float {
    largestDifference(Array(a.weights.elements), Array(b.weights.elements))
  }

  @Test func lossFalls() throws {
    let trainer = try trainer(try WeightForm(student), try objective("affinity"))
    var losses: [Double] = []
    for _ in 0..<30 { losses.append(try trainer.step(inputs(5)).loss) }
    #expect(losses[29] < losses[0] * 0.5, "\(losses)")
  }

  @Test func equalModelsHaveNothingToLearn() throws {
    for losses in ["affinity", "feature", "promptkd"] {
      var objective = try objective(losses)
      objective.trainsScale = false
      objective.teacherScale = Float.exp(2.6)
      var random = SplitMix64(seed: 9)
      objective.classes = random.normalTensor([5, 12])
      let trainer = try trainer(try WeightForm(teacher), objective)
      let report = try trainer.step(inputs(5))
      #expect(abs(report.loss) < 1e-5, "\(losses): \(report.loss)")
      #expect(report.gradientNorm < 1e-3, "\(losses): \(report.gradientNorm)")
      #expect(report.batchTop1 == 1, "a model agrees with itself")
    }
  }

  @Test(arguments: [2, 3, 8])
  func partsOfABatchGiveTheGradientOfTheWhole(_ parts: Int) throws {
    let whole = try trainer(try WeightForm(student), try objective())
    let cached = try trainer(try WeightForm(student), try objective(), parts: parts)
    let batch = inputs(6)
    let (a, b) = (try whole.step(batch), try cached.step(batch))
    #expect(abs(a.loss - b.loss) < 1e-4 * abs(a.loss))
    #expect(abs(a.gradientNorm - b.gradientNorm) < 1e-3 * a.gradientNorm)
    #expect(a.batchTop1 == b.batchTop1)
    #expect(cached.arenaByteCount < whole.arenaByteCount)
  }

  /// Eight binary digits in a product leave a gradient where it was, and a model learns as well.
  @Test func roundedFactorsTrainAsWell() throws {
    let exact = try trainer(try WeightForm(student), try objective("affinity"))
    let rounded = try trainer(
      try WeightForm(student), try objective("affinity"), arithmetic: .mixed)
    let parts = try trainer(
      try WeightForm(student), try objective("affinity"), parts: 2, arithmetic: .mixed)
    let batch = inputs(5)
    let (a, b, c) = (try exact.step(batch), try rounded.step(batch), try parts.step(batch))
    #expect(a.loss != b.loss)
    #expect(abs(a.loss - b.loss) < 1e-2 * abs(a.loss), "\(a.loss), \(b.loss)")
    #expect(abs(a.gradientNorm - b.gradientNorm) < 2e-2 * a.gradientNorm)
    #expect(abs(b.loss - c.loss) < 1e-4 * abs(b.loss))
    for _ in 1..<30 {
      _ = try exact.step(batch)
      _ = try rounded.step(batch)
    }
    let (fine, coarse) = (try exact.step(batch).loss, try rounded.step(batch).loss)
    #expect(coarse < 0.5 * b.loss)
    #expect(abs(fine - coarse) < 0.05 * b.loss, "\(fine), \(coarse)")
  }

  @Test func computingAnewChangesNothing() throws {
    let plain = try trainer(try WeightForm(student), try objective())
    let again = try trainer(try WeightForm(student), try objective(), recomputes: true)
    for step in 0..<3 {
      let batch = inputs(UInt64(step))
      _ = try plain.step(batch)
      _ = try again.step(batch)
    }
    #expect(difference(plain, again) == 0)
    #expect(again.arenaByteCount < plain.arenaByteCount)
  }

  @Test(arguments: UpdateOptions.Clipping.allCases)
  func restoredTrainerGoesOnToTheSameBits(_ clipping: UpdateOptions.Clipping) throws {
    let first = try trainer(try WeightForm(student), try objective(), clipping: clipping)
    for step in 0..<3 { _ = try first.step(inputs(UInt64(step))) }
    let second = try trainer(try WeightForm(student), try objective(), clipping: clipping)
    try second.restore(first.state)
    for step in 3..<6 {
      _ = try first.step(inputs(UInt64(step)))
      _ = try second.step(inputs(UInt64(step)))
    }
    #expect(difference(first, second) == 0)
    #expect(first.step == second.step)
    let graphs = try [first.result(), second.result()]
    for value in graphs[0].parameterValues {
      #expect(
        graphs[0].parameter(value)
          == graphs[1].parameter(named: graphs[0].name(of: value)))
    }
  }

  @Test func aNumberThatIsNoneIsReportedWithItsNode() throws {
    var broken = student
    let value = try #require(broken.value(named: "text.layers.1.mlp.fc1.weight"))
    let shape = try #require(broken.parameter(value)).tensor.shape
    try broken.setParameter(
      value,
      Parameter(Tensor(shape: shape, of: Float.self) { $0.update(repeating: 3e38) }))
    let trainer = try trainer(try WeightForm(broken), try objective())
    let before = Array(trainer.weights.elements)
    #expect(throws: TrainingError.self) { try trainer.step(inputs(5)) }
    do { _ = try trainer.step(inputs(5)) } catch {
      #expect("\(error)".contains("step 0"))
      #expect("\(error)".contains("text.layers.1.mlp.fc1"), "\(error)")
    }
    #expect(Array(trainer.weights.elements) == before)
  }

  @Test func maskedWeightsStayZeroAndCodesStayOnTheirGrid() throws {
    var graph = student
    let masked = try #require(graph.value(named: "image.layers.0.mlp.fc1.weight"))
    let coded = try #require(graph.value(named: "image.layers.1.mlp.fc1.weight"))
    let weight = try #require(graph.parameter(masked)).tensor
    let mask = Tensor(shape: weight.shape, of: UInt8.self) { target in
      for index in target.indices { target[index] = UInt8(index % 3 == 0 ? 0 : 1) }
    }
    try graph.setParameter(masked, Parameter(weight, mask: mask))
    var random = SplitMix64(seed: 4)
    let codes = Tensor(
      shape: weight.shape,
      (0..<weight.count).map { _ in Int8(random.nextIndex(below: 255) - 127) })
    let scales = Tensor(shape: [weight.shape[0]], of: Float.self) { $0.update(repeating: 0.003) }
    try graph.setParameter(
      coded, Parameter(codes, quantization: WeightQuantization(bitCount: 8, scales: scales)))
    var quantization = QuantizationTraining()
    quantization.clipUpdate = .fixed
    let trainer = try trainer(
      try WeightForm(graph, quantization: quantization), try objective("affinity"))
    for step in 0..<5 { _ = try trainer.step(inputs(UInt64(step))) }
    let result = try trainer.result()
    let after = try #require(result.parameter(masked))
    #expect(after.mask == mask)
    #expect(after.tensor != weight)
    let elements = after.tensor.elements(of: Float.self)
    #expect(elements.indices.allSatisfy { $0 % 3 != 0 || elements[$0] == 0 })
    let moved = try #require(result.parameter(coded))
    #expect(moved.quantization?.scales == scales)
    #expect(moved.tensor.dtype == .int8)
    #expect(moved.tensor != codes)
    // What was trained is what the written codes compute.
    let trained = try Executor(trainer.form.graph).run(inputs(7))
    #expect(trained["image_embeds"] != nil)
  }

  @Test func projectionTakesEmbeddingsToATeacherOfAnotherSize() throws {
    var wide = RandomCLIP()
    wide.projection = 20
    var objective = Objective(
      losses: try LossMixture(parsing: "feature=10,affinity"),
      teacher: .graph(try wide.graph(seed: 5)))
    objective.affinityScale = 20
    objective.projects = true
    let trainer = try trainer(try WeightForm(student), objective)
    var losses: [Double] = []
    for _ in 0..<20 { losses.append(try trainer.step(inputs(5)).loss) }
    #expect(losses[19] < losses[0])
    #expect(try trainer.result().parameter(named: "projection.weight") == nil)
    objective.projects = false
    #expect(throws: TrainingError.self) { try self.trainer(try WeightForm(student), objective) }
  }
}

/// The choice of a token before what works on rows one by one.
@Suite struct EarlySelectionTests {
  @Test(arguments: [true, false])
  func resultsAndGradientsStay(_ usesQuickGELU: Bool) throws {
    var extents = RandomCLIP()
    extents.usesQuickGELU = usesQuickGELU
    let graph = try extents.graph(seed: 3)
    let early = try graph.selectingEarly()
    try early.verify()
    let inputs = extents.inputs(seed: 4, items: 3)
    let (a, b) = (
      try Executor(graph, arithmetic: .float64), try Executor(early, arithmetic: .float64)
    )
    let (plain, chosen) = (try a.run(inputs), try b.run(inputs))
    for name in ["image_embeds", "text_embeds"] {
      let pair = try [plain, chosen].map { try #require($0[name]).elements(of: Double.self) }
      #expect(zip(pair[0], pair[1]).allSatisfy { abs($0 - $1) < 1e-13 })
    }
    let mlp = try #require(early.value(named: "image.layers.1.mlp.fc1"))
    #expect(early.tensorType(of: mlp).rank == 2, "the last block's MLP sees one token")
    let former = try #require(early.value(named: "image.layers.0.mlp.fc1"))
    #expect(early.tensorType(of: former).rank == 3)
    #expect(b.arenaByteCount <= a.arenaByteCount)
  }
}
