import Execution
import GraphIR
import Operators
import TensorCore
import TestSupport
import Testing
import Training

/// Training of models with mixtures of experts.
@Suite struct RoutingTests {
  let student: Graph

  /// A model whose first feed-forward part of each tower is a mixture.
  init() throws {
    let dense = try RandomCLIP().graph(seed: 2)
    student = try dense.withMixtures(experts: 3) { $0.contains(".layers.0.mlp") }
  }

  private func trainer(_ form: any TrainedForm, parts: Int = 1) throws -> Trainer {
    var objective = Objective(losses: try LossMixture(parsing: "contrastive"), teacher: .none)
    objective.teacherScale = 12
    var options = UpdateOptions()
    options.schedule = LearningRateSchedule(.constant, peak: 2e-3)
    return try Trainer(
      form, objective, options: options, totalSteps: 10, microBatchCount: parts, seed: 3,
      threadCount: 2)
  }

  private func routing(_ balance: Double, _ routerZ: Double = 0) -> RoutingTraining {
    var routing = RoutingTraining()
    routing.balance = balance
    routing.routerZ = routerZ
    return routing
  }

  private func inputs(_ seed: UInt64) -> [String: Tensor] {
    RandomCLIP().inputs(seed: seed, items: 8)
  }

  @Test func mixturesAreFound() throws {
    #expect(student.expertLayers.map(\.name) == ["image.layers.0.mlp", "text.layers.0.mlp"])
    #expect(student.expertLayers.allSatisfy { $0.expertCount == 3 && $0.expertsPerToken == 2 })
    #expect(student.routerWeights.count == 2)
  }

  /// Numbers between an expert's products are dropped while it is trained, others each step, and the
  /// model that comes of it drops none.
  @Test func dropoutIsOfExpertsInTraining() throws {
    var routing = RoutingTraining()
    routing.dropout = 0.4
    let form = try WeightForm(student, routing: routing)
    let dropped = form.graph.nodes.filter { $0.op is Dropout }
    #expect(dropped.count == 2 && dropped.allSatisfy { $0.name.contains(".layers.0.mlp") })
    let seeds = (0..<3).map { form.inputs(atStep: $0, seed: 3) }
    #expect(seeds.allSatisfy { $0.count == 1 })
    #expect(Set(seeds.map { $0.values.first?.elements(of: Int32.self) }).count == 3)
    let trainer = try trainer(form)
    var losses: [Double] = []
    for _ in 0..<12 { losses.append(try trainer.step(inputs(5)).loss) }
    #expect(losses[11] < losses[0] * 0.95, "\(losses)")
    #expect(try trainer.result().nodes.allSatisfy { !($0.op is Dropout) })
    // Parts of a batch are seen through the same draws forwards and backwards: the loss falls too.
    let parts = try self.trainer(try WeightForm(student, routing: routing), parts: 2)
    losses = []
    for _ in 0..<12 { losses.append(try parts.step(inputs(5)).loss) }
    #expect(losses[11] < losses[0] * 0.95, "\(losses)")
  }

  @Test func lossFallsAndLoadsAreTold() throws {
    let trainer = try trainer(try WeightForm(student))
    var reports: [StepReport] = []
    for _ in 0..<30 { reports.append(try trainer.step(inputs(5))) }
    #expect(reports[29].loss < reports[0].loss * 0.7, "\(reports.map(\.loss))")
    let shown = Dictionary(
      uniqueKeysWithValues: reports[0].shown.map { ($0.label, $0.value) })
    let loads = (0..<3).compactMap { shown["image.layers.0.mlp.experts.\($0).load"] }
    #expect(loads.count == 3 && abs(loads.reduce(0, +) - 1) < 1e-6)
    // The worst layer's largest load over its mean: 1 where all are equal, 1.5 where one of three
    // experts is in every pair.
    let imbalance = try #require(shown["imbalance"])
    #expect(imbalance >= (loads.max() ?? 9) * 3 - 1e-6 && imbalance <= 1.5 + 1e-6)
  }

  /// The loads against a count in the test, padding behind the end of a text left out.
  @Test func loadsAreThoseOfTheRouter() throws {
    let trainer = try trainer(try WeightForm(student))
    let batch = inputs(6)
    let shown = Dictionary(
      uniqueKeysWithValues: try trainer.step(batch).shown.map { ($0.label, $0.value) })
    let made = try Executor(student, outputs: ["text.layers.0.mlp.assignment"]).run(batch)
    let slots = try #require(made["text.layers.0.mlp.assignment"]).elements(of: Int32.self)
    let ids = try #require(batch["input_ids"]).elements(of: Int32.self)
    let rule = try #require(student.endTokenRule)
    let tokens = ids.count / 8
    var counts = [Double](repeating: 0, count: 3)
    for item in 0..<8 {
      let end = rule.position(in: ids.span, from: item * tokens, count: tokens)
      for token in 0...end {
        for slot in 0..<2 { counts[Int(slots[(item * tokens + token) * 2 + slot])] += 1 }
      }
    }
    for expert in 0..<3 {
      let load = try #require(shown["text.layers.0.mlp.experts.\(expert).load"])
      #expect(abs(load - counts[expert] / counts.reduce(0, +)) < 1e-6)
    }
  }

  @Test func balanceEvensLoads() throws {
    func imbalance(_ weight: Double) throws -> Double {
      let trainer = try trainer(try WeightForm(student, routing: routing(weight)))
      var last = 0.0
      for step in 0..<60 {
        let report = try trainer.step(inputs(UInt64(step)))
        last = report.shown.first { $0.label == "imbalance" }?.value ?? .nan
      }
      return last
    }
    #expect(try imbalance(1) < imbalance(0))
  }

  @Test func routersStayCalm() throws {
    func squares(_ weight: Double) throws -> Float {
      let trainer = try trainer(try WeightForm(student, routing: routing(0, weight)))
      for step in 0..<40 { _ = try trainer.step(inputs(UInt64(step))) }
      let router = try #require(trainer.weights["image.layers.0.mlp.router.weight"])
      return router.reduce(0) { $0 + $1 * $1 }
    }
    #expect(try squares(0.5) < squares(0))
  }

  /// Losses of routing are means over the parts of a batch; what is not routed has the gradient of
  /// the whole.
  @Test func partsGiveTheGradientOfTheWhole() throws {
    let form = { try WeightForm(student, routing: routing(0)) }
    let whole = try trainer(try form())
    let parts = try trainer(try form(), parts: 4)
    for step in 0..<2 {
      let a = try whole.step(inputs(UInt64(step)))
      let b = try parts.step(inputs(UInt64(step)))
      #expect(abs(a.loss - b.loss) < 1e-5)
      #expect(abs(a.gradientNorm - b.gradientNorm) < 1e-4)
      let (x, y) = (a.shown.map(\.value), b.shown.map(\.value))
      #expect(zip(x, y).allSatisfy { abs($0 - $1) < 0.02 })
    }
    let routed = try trainer(try WeightForm(student, routing: routing(0.1, 0.1)), parts: 4)
    let once = try trainer(try WeightForm(student, routing: routing(0.1, 0.1)))
    let plain = try trainer(try form()).step(inputs(1)).loss
    let (a, b) = (try routed.step(inputs(1)).loss - plain, try once.step(inputs(1)).loss - plain)
    #expect(b > 0.4 && abs(a - b) < 0.1 * b, "\(a), \(b)")
  }

  @Test func oneExpertIsTrainedAlone() throws {
    let names = Set(["image.layers.0.mlp.experts.1.fc1.weight"])
    let dense = try RandomCLIP().graph(seed: 2)
    var single = Graph()
    // The dense model under the names of expert 1.
    single = try dense.rewritten { node, rewriter throws(GraphError) in
      var operands: [Value] = []
      for input in node.inputs {
        let name = dense.name(of: input)
        if name.contains("layers.0.mlp"), let parameter = dense.parameter(input) {
          let mlp = name.split(separator: ".").prefix(4).joined(separator: ".")
          operands.append(
            try rewriter.result.addParameter(
              ExpertLayer.parameterName(name, part: mlp, expert: 1), parameter))
        } else {
          operands.append(try rewriter.image(of: input))
        }
      }
      let made = try rewriter.result.addNode(node.name, node.op, operands)
      for (old, new) in zip(node.outputs, made) { rewriter.setImage(of: old, to: new) }
    }
    let form = try ExpertForm(
      student, as: try single.extracting(outputs: ["image_embeds", "text_embeds"]))
    #expect(form.weights.count == 8 && names.isSubset(of: form.weights))
    let trainer = try trainer(form)
    for step in 0..<3 { _ = try trainer.step(inputs(UInt64(step))) }
    let result = try trainer.result()
    for value in student.parameterValues {
      let name = student.name(of: value)
      let isSame = result.parameter(named: name)?.tensor == student.parameter(value)?.tensor
      #expect(isSame != name.contains(".experts.1."), "\(name)")
    }
  }
}
