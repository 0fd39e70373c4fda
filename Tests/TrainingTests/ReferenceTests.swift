import Checkpoints
import Execution
import GraphIR
import Operators
import TensorCore
import TestSupport
import Testing
import Training

/// Losses, gradients and steps against PyTorch's, which `scripts/training-reference` recorded.
@Suite struct ReferenceTests {
  private let reference: Reference

  init() throws { reference = try Reference() }

  /// How far a gradient may be from the reference, relative to its tensor's largest element.
  private struct Tolerance {
    var loss: Double
    var gradient: Double
    /// What counts as large at least: the gradients of key biases are zero in exact arithmetic.
    var floor: Double

    /// The reference holds float32, 6e-8 of each element; epsilons and the scale of attention are
    /// float32 in the graph and float64 there.
    static let float64 = Tolerance(loss: 1e-7, gradient: 1e-6, floor: 1e-6)
    /// Some 10 roundings of 6e-8 one after another through the layers, amplified by logits of 50.
    static let float32 = Tolerance(loss: 3e-6, gradient: 3e-5, floor: 3e-2)
  }

  private func check(
    _ name: String, _ training: DifferentiatedLoss, _ expectedLoss: Double,
    _ arithmetic: Arithmetic,
    _ tolerance: Tolerance
  ) throws {
    let names = [training.loss] + training.gradients.map(\.gradient)
    let result = try Executor(
      training.graph, outputs: names, threadCount: 2, arithmetic: arithmetic
    ).run(reference.inputs)
    let loss = try #require(result[training.loss]).doubles[0]
    #expect(abs(loss - expectedLoss) <= tolerance.loss * abs(expectedLoss), "loss \(loss)")
    for (parameter, gradient) in training.gradients {
      let found = try #require(result[gradient]).doubles
      let expected = try reference.file.floats("gradients/\(name)/\(parameter)").doubles
      let scale = expected.reduce(tolerance.floor) { max($0, abs($1)) }
      let error = distance(found, expected)
      #expect(error <= tolerance.gradient * scale, "\(parameter): \(error) of \(scale)")
    }
  }

  @Test(arguments: [Arithmetic.float64, .fast, .definitions])
  func contrastiveLossAndGradients(_ arithmetic: Arithmetic) throws {
    let training = try reference.contrastive()
    #expect(Set(training.gradients.map(\.parameter)) == reference.gradientNames("a"))
    try check(
      "a", training, try reference.loss("a"), arithmetic,
      arithmetic == .float64 ? .float64 : .float32)
  }

  /// The reference's loss is a cross entropy: the divergence and the entropy of the teacher.
  @Test(arguments: [Arithmetic.float64, .fast, .definitions])
  func affinityLossAndGradients(_ arithmetic: Arithmetic) throws {
    let training = try reference.affinity(multiplier: 50)
    #expect(Set(training.gradients.map(\.parameter)) == reference.gradientNames("b"))
    let entropy = try reference.teacherEntropy(multiplier: 50)
    #expect(entropy > 0.01)
    try check(
      "b", training, try reference.loss("b") - entropy, arithmetic,
      arithmetic == .float64 ? .float64 : .float32)
  }

  /// With gradients in float64 only the parameters are rounded.
  @Test(arguments: [(Arithmetic.float64, 2e-6), (.fast, 1e-5)])
  func tenStepsOfAdamW(_ arithmetic: Arithmetic, _ tolerance: Double) throws {
    var training = try reference.contrastive()
    let layout = try ParameterLayout(
      training.gradients.map { parameter, _ in
        let value = try #require(training.graph.parameter(named: parameter))
        return (parameter, value.tensor.shape)
      })
    let optimizer = AdamW(
      layout: layout,
      options: AdamW.Options(beta1: 0.9, beta2: 0.98, epsilon: 1e-6, weightDecay: 0.1))
    let parameters = ParameterBlock(layout: layout)
    let gradients = ParameterBlock(layout: layout)
    for entry in layout.entries {
      parameters.set(entry, try #require(training.graph.parameter(named: entry.name)).tensor)
    }
    let names = [training.loss] + training.gradients.map(\.gradient)
    let losses = try reference.file.elements("steps/a/losses", of: Double.self)
    for expected in losses.elements(of: Double.self) {
      let result = try Executor(
        training.graph, outputs: names, arithmetic: arithmetic
      ).run(reference.inputs)
      let loss = try #require(result[training.loss]).doubles[0]
      #expect(abs(loss - expected) <= tolerance * expected, "\(loss), not \(expected)")
      for (entry, names) in zip(layout.entries, training.gradients) {
        let gradient = try #require(result[names.gradient])
        gradients.set(entry, Tensor(shape: entry.shape, gradient.doubles.map { Float($0) }))
      }
      optimizer.step(
        parameters: parameters, gradients: gradients, learningRate: 1e-3, gradientFactor: 1)
      for entry in layout.entries {
        let value = try #require(training.graph.value(named: entry.name))
        try training.graph.setParameter(value, Parameter(parameters.tensor(of: entry)))
      }
    }
    #expect(optimizer.stepCount == 10)
    for entry in layout.entries {
      let expected = try reference.file.floats("steps/a/parameters/\(entry.name)").doubles
      let error = distance(parameters.tensor(of: entry).doubles, expected)
      // In float32 the gradients of key biases are rounding alone, up to some 1e-7, of which the
      // method makes steps of `rate * gradient / (gradient + epsilon)`; the loss ignores them.
      let isRounding = arithmetic == .fast && entry.name.hasSuffix("key.bias")
      #expect(error <= (isRounding ? 1e-3 : tolerance), "\(entry.name): \(error)")
    }
  }
}
