import Foundation
import TensorCore
import Testing
import Training

/// One optimizer's arithmetic in float64, written from its definition.
private protocol Definition {
  mutating func step(
    _ parameters: inout [[Double]], _ gradients: [[Double]], rate: Double, decays: [Bool])
}

private struct AdamWDefinition: Definition {
  let options: AdamW.Options
  var steps = 0.0
  var first: [[Double]] = []
  var second: [[Double]] = []

  init(_ options: AdamW.Options) { self.options = options }

  mutating func step(
    _ parameters: inout [[Double]], _ gradients: [[Double]], rate: Double, decays: [Bool]
  ) {
    steps += 1
    if first.isEmpty {
      first = gradients.map { $0.map { _ in 0 } }
      second = first
    }
    for entry in parameters.indices {
      for index in parameters[entry].indices {
        let gradient = gradients[entry][index]
        if decays[entry] { parameters[entry][index] *= 1 - rate * options.weightDecay }
        first[entry][index] =
          options.beta1 * first[entry][index] + (1 - options.beta1) * gradient
        second[entry][index] =
          options.beta2 * second[entry][index] + (1 - options.beta2) * gradient * gradient
        let mean = first[entry][index] / (1 - pow(options.beta1, steps))
        let square = second[entry][index] / (1 - pow(options.beta2, steps))
        parameters[entry][index] -= rate * mean / (square.squareRoot() + options.epsilon)
      }
    }
  }
}

private struct MomentumDefinition: Definition {
  let options: MomentumSGD.Options
  var momenta: [[Double]] = []

  init(_ options: MomentumSGD.Options) { self.options = options }

  mutating func step(
    _ parameters: inout [[Double]], _ gradients: [[Double]], rate: Double, decays: [Bool]
  ) {
    let isFirst = momenta.isEmpty
    if isFirst { momenta = gradients }
    for entry in parameters.indices {
      for index in parameters[entry].indices {
        var direction = gradients[entry][index]
        if decays[entry] { direction += options.weightDecay * parameters[entry][index] }
        momenta[entry][index] =
          isFirst ? direction : options.momentum * momenta[entry][index] + direction
        let ahead = direction + options.momentum * momenta[entry][index]
        parameters[entry][index] -= rate * (options.usesNesterov ? ahead : momenta[entry][index])
      }
    }
  }
}

/// The optimizers that the general laws are checked on.
private enum Kind: CaseIterable {
  case adamW
  case momentum
  case nesterov

  func make(
    _ layout: ParameterLayout,
    rule: (ParameterLayout.Entry) -> EntryRule = EntryRule.standard
  ) -> any Training.Optimizer {
    switch self {
    case .adamW: AdamW(layout: layout, rule: rule)
    case .momentum: MomentumSGD(layout: layout, options: options(false), rule: rule)
    case .nesterov: MomentumSGD(layout: layout, options: options(true), rule: rule)
    }
  }

  func options(_ usesNesterov: Bool) -> MomentumSGD.Options {
    MomentumSGD.Options(momentum: 0.9, usesNesterov: usesNesterov, weightDecay: 0.1)
  }

  var definition: any Definition {
    switch self {
    case .adamW: AdamWDefinition(AdamW.Options())
    case .momentum: MomentumDefinition(options(false))
    case .nesterov: MomentumDefinition(options(true))
    }
  }
}

@Suite("Optimizers") struct OptimizerTests {
  @Test("Thirty steps agree with the definition in float64", arguments: Kind.allCases)
  fileprivate func definition(_ kind: Kind) {
    let parameters = sampleBlock(seed: 10)
    let optimizer = kind.make(parameters.layout)
    var definition = kind.definition
    var expected = doubles(parameters)
    for step in 0..<30 {
      let gradients = sampleBlock(seed: UInt64(100 + step))
      let rate = 1e-2 / Double(step + 1)
      let scaled = doubles(gradients).map { $0.map { $0 * 0.25 } }
      let decays = parameters.entries.map { $0.shape.count >= 2 }
      definition.step(&expected, scaled, rate: rate, decays: decays)
      optimizer.step(
        parameters: parameters, gradients: gradients, learningRate: rate, gradientFactor: 0.25)
    }
    #expect(distance(parameters, expected) < 3e-6)
    #expect(distance(sampleBlock(seed: 10), expected) > 1e-3)
    #expect(hasCleanPadding(parameters))
  }

  @Test("Restoring continues with the same bits", arguments: Kind.allCases)
  fileprivate func restoring(_ kind: Kind) throws {
    let parameters = sampleBlock(seed: 11)
    let optimizer = kind.make(parameters.layout)
    func steps(_ range: Range<Int>, _ optimizer: any Training.Optimizer, _ block: ParameterBlock) {
      for step in range {
        optimizer.step(
          parameters: block, gradients: sampleBlock(seed: UInt64(step)), learningRate: 1e-2,
          gradientFactor: 1)
      }
    }
    steps(0..<5, optimizer, parameters)
    let saved = optimizer.state
    let copy = ParameterBlock(like: parameters)
    copy.copyElements(of: parameters)
    steps(5..<9, optimizer, parameters)
    let other = kind.make(parameters.layout)
    try other.restore(saved)
    steps(5..<9, other, copy)
    #expect(bits(copy) == bits(parameters))
    #expect(other.state.map(\.tensor) == optimizer.state.map(\.tensor))
    #expect(Set(names(saved)).count == saved.count)
  }

  @Test("A reset optimizer steps like a new one", arguments: Kind.allCases)
  fileprivate func reset(_ kind: Kind) {
    let used = kind.make(ParameterLayout(sampleShapes))
    let gradients = sampleBlock(seed: 13)
    used.step(
      parameters: sampleBlock(seed: 12), gradients: gradients, learningRate: 1, gradientFactor: 1)
    used.resetMoments()
    let (left, right) = (sampleBlock(seed: 14), sampleBlock(seed: 14))
    let fresh = kind.make(left.layout)
    used.step(parameters: left, gradients: gradients, learningRate: 0.1, gradientFactor: 1)
    fresh.step(parameters: right, gradients: gradients, learningRate: 0.1, gradientFactor: 1)
    #expect(bits(left) == bits(right))
  }

  @Test("Entry rules: no change, another rate, ascent", arguments: Kind.allCases)
  fileprivate func rules(_ kind: Kind) throws {
    func trained(
      sign: Float = 1, rule: (ParameterLayout.Entry) -> EntryRule = EntryRule.standard,
      rate: Double = 1e-2
    ) -> ParameterBlock {
      let block = sampleBlock(seed: 15)
      let optimizer = kind.make(block.layout, rule: rule)
      for step in 0..<4 {
        optimizer.step(
          parameters: block, gradients: sampleBlock(seed: UInt64(20 + step)), learningRate: rate,
          gradientFactor: sign)
      }
      return block
    }
    let usual = trained()
    let ruled = trained(rule: { entry in
      var rule = EntryRule.standard(entry)
      if entry.name == "matrix" { rule.rateFactor = -1 }
      if entry.name == "bias" { rule.rateFactor = 0 }
      if entry.name == "scale" { rule.rateFactor = 8 }
      return rule
    })
    func elements(_ block: ParameterBlock, _ name: String) throws -> [Float] {
      Array(try #require(block[name]))
    }
    // Climbing is descending on the negated loss: decay pulls to zero in both.
    #expect(try elements(ruled, "matrix") == elements(trained(sign: -1), "matrix"))
    #expect(try elements(ruled, "bias") == elements(sampleBlock(seed: 15), "bias"))
    #expect(try elements(ruled, "scale") == elements(trained(rate: 8e-2), "scale"))
    #expect(try elements(ruled, "wide") == elements(usual, "wide"))
    #expect(try elements(ruled, "scale") != elements(usual, "scale"))
  }

  @Test("Without gradients only matrices shrink")
  func decayMask() throws {
    let parameters = sampleBlock(seed: 16)
    let before = doubles(parameters)
    let optimizer = AdamW(layout: parameters.layout)
    let gradients = ParameterBlock(like: parameters)
    optimizer.step(
      parameters: parameters, gradients: gradients, learningRate: 0.5, gradientFactor: 1)
    let expected = zip(parameters.entries, before).map { entry, values in
      values.map { $0 * (entry.shape.count >= 2 ? 0.9 : 1) }
    }
    #expect(distance(parameters, expected) < 1e-6)
  }

  @Test("The first step of Adam moves every element by the rate, whatever the gradient's scale")
  func scaleInvariance() {
    for scale in [1e-2, 1.0, 1e4] {
      let parameters = ParameterBlock(sampleShapes)
      let gradients = sampleBlock(seed: 17, scale: scale)
      AdamW(layout: parameters.layout).step(
        parameters: parameters, gradients: gradients, learningRate: 0.25, gradientFactor: 1)
      for (moved, gradient) in zip(parameters.elements, gradients.elements)
      where abs(Double(gradient)) > scale / 100 {
        #expect(abs(moved + (gradient > 0 ? 0.25 : -0.25)) < 0.25 * 0.011)
      }
    }
  }

  @Test("AdamW finds the minimum of a quadratic")
  func convergence() {
    let target = sampleBlock(seed: 18)
    let parameters = ParameterBlock(sampleShapes)
    let options = AdamW.Options(beta1: 0.9, beta2: 0.98, epsilon: 1e-8, weightDecay: 0)
    let optimizer = AdamW(layout: parameters.layout, options: options)
    let gradients = ParameterBlock(like: parameters)
    let schedule = LearningRateSchedule(.cosine, peak: 0.05)
    for step in 0..<400 {
      for index in gradients.elements.indices {
        gradients.elements[index] = parameters.elements[index] - target.elements[index]
      }
      optimizer.step(
        parameters: parameters, gradients: gradients,
        learningRate: schedule.rate(at: step, of: 400), gradientFactor: 1)
    }
    #expect(distance(parameters, doubles(target)) < 1e-3)
  }

  @Test("A state that does not fit is refused and changes nothing")
  func refusals() throws {
    let optimizer = AdamW(layout: ParameterLayout(sampleShapes))
    optimizer.step(
      parameters: sampleBlock(seed: 1), gradients: sampleBlock(seed: 2), learningRate: 1,
      gradientFactor: 1)
    let state = optimizer.state
    let before = state.map(\.tensor)
    let scalar = Tensor(scalar: 1)
    #expect(throws: TrainingStateError.missing("step")) { try optimizer.restore([]) }
    #expect(throws: TrainingStateError.repeated("step")) {
      try optimizer.restore(state + [state[0]])
    }
    #expect(throws: TrainingStateError.unexpected("other")) {
      try optimizer.restore(state + [("other", scalar)])
    }
    #expect(
      throws: TrainingStateError.mismatch(
        name: "second_moment/bias", expected: "f32[16]", found: "f32[]")
    ) {
      try optimizer.restore(
        state.map { $0.name == "second_moment/bias" ? ($0.name, scalar) : $0 })
    }
    #expect(throws: TrainingStateError.invalid(name: "step", reason: "is negative")) {
      let negative = Tensor(shape: [], [Int32(-1)])
      try optimizer.restore(state.map { $0.name == "step" ? ($0.name, negative) : $0 })
    }
    #expect(optimizer.state.map(\.tensor) == before)
  }
}
