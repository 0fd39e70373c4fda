import TensorCore
import Testing
import Training

@Suite("Gradient clipping: what all methods keep") struct ClippingTests {
  @Test("Norms agree with float64, blocks and entries")
  func norms() {
    let block = sampleBlock(seed: 30)
    let expected = doubles(block).map { norm($0) }
    for (left, right) in zip(block.entryNorms, expected) { #expect(abs(left - right) < 1e-12) }
    #expect(abs(block.norm - norm(expected)) < 1e-12)
    let huge = ParameterBlock([("x", [2])])
    huge.elements[0] = .greatestFiniteMagnitude
    #expect(huge.norm == Double(Float.greatestFiniteMagnitude))
  }

  @Test("The report says what the optimizer gets", arguments: ClippingKind.allCases)
  func report(_ kind: ClippingKind) {
    let method = kind.make()
    for step in 0..<12 {
      let gradients = sampleGradient(norm: step == 8 ? 90 : 3, seed: UInt64(step))
      let before = gradients.norm
      let report = method.clip(gradients)
      #expect(abs(report.norm - before) < 1e-12 * before)
      #expect(report.isFinite && report.gradientFactor >= 0 && report.gradientFactor <= 1)
      let after = gradients.norm * Double(report.gradientFactor)
      #expect(abs(report.clippedNorm - after) < 1e-6 * after)
      #expect(hasCleanPadding(gradients))
    }
  }

  @Test("A gradient that is not finite leaves no trace", arguments: ClippingKind.allCases)
  func rejection(_ kind: ClippingKind) {
    let (poisoned, clean) = (kind.make(), kind.make())
    for step in 0..<10 {
      let bad = sampleGradient(norm: 1, seed: 99)
      bad.elements[step] = [Float.nan, .infinity, -.infinity][step % 3]
      let before = bits(bad)
      let report = poisoned.clip(bad)
      #expect(!report.isFinite && report.gradientFactor == 0 && !report.resetsMoments)
      #expect(bits(bad) == before)
      let gradients = sampleGradient(norm: 2, seed: UInt64(step))
      let same = sampleGradient(norm: 2, seed: UInt64(step))
      #expect(poisoned.clip(gradients) == clean.clip(same))
      #expect(bits(gradients) == bits(same))
    }
    #expect(poisoned.state.map(\.tensor) == clean.state.map(\.tensor))
  }

  @Test("Zeros stay zeros", arguments: ClippingKind.allCases)
  func zeros(_ kind: ClippingKind) {
    let method = kind.make()
    for _ in 0..<8 {
      let gradients = ParameterBlock(sampleShapes)
      let report = method.clip(gradients)
      #expect(report.norm == 0 && report.gradientFactor == 1 && report.clippedNorm == 0)
      #expect(gradients.elements.allSatisfy { $0 == 0 })
    }
  }

  @Test("Restoring continues with the same bits", arguments: ClippingKind.allCases)
  func restoring(_ kind: ClippingKind) throws {
    for saveStep in [0, 2, 7] {
      let method = kind.make()
      for step in 0..<saveStep { _ = method.clip(sampleGradient(norm: 3, seed: UInt64(step))) }
      let other = kind.make()
      try other.restore(method.state)
      for step in 0..<9 {
        let gradients = sampleGradient(norm: Double(1 + step * step), seed: UInt64(40 + step))
        let same = sampleGradient(norm: Double(1 + step * step), seed: UInt64(40 + step))
        #expect(method.clip(gradients) == other.clip(same))
        #expect(bits(gradients) == bits(same))
      }
      #expect(method.state.map(\.tensor) == other.state.map(\.tensor))
      #expect(throws: TrainingStateError.unexpected("x")) {
        try other.restore(method.state + [("x", Tensor(scalar: 1))])
      }
    }
  }

  @Test("States that no method gives are refused")
  func refusals() {
    let nan = Tensor(shape: [1], [Double.nan])
    let falling = Tensor(shape: [2], [2.0, 1.0])
    let reason = "are not finite and ascending"
    for tensor in [nan, falling] {
      #expect(throws: TrainingStateError.invalid(name: "norms", reason: reason)) {
        try AutoClip().restore([("norms", tensor)])
      }
    }
    #expect(throws: TrainingStateError.self) {
      let statistics = Tensor(shape: [2], [1.0, -1.0])
      try ZClip().restore([("warm_up", Tensor(shape: [0], [Double]())), ("statistics", statistics)])
    }
    #expect(throws: TrainingStateError.self) {
      let norms = Tensor(shape: [5], [1.0, 2, -3, 4, 5])
      let count = Tensor(shape: [], [Int32(3)])
      try AdaGC(layout: ParameterLayout(sampleShapes)).restore([
        ("step", count), ("running_norms", norms),
      ])
    }
  }
}
