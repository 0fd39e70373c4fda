import Foundation
import TensorCore
import Testing
import Training

@Suite("Gradient clipping entry by entry") struct ClippingEntryTests {
  @Test("AdaGC never clips a constant gradient after the warm-up")
  func adaGCConstant() {
    let method = AdaGC(layout: ParameterLayout(sampleShapes))
    for step in 0..<400 {
      let gradients = sampleGradient(norm: 0.8)
      let before = bits(gradients)
      let report = method.clip(gradients)
      #expect(report.gradientFactor == 1)
      #expect(bits(gradients) == before, "step \(step)")
    }
  }

  @Test("AdaGC reduces a spike of an entry below 1.1 running norms and leaves the others")
  func adaGCSpike() throws {
    let method = AdaGC(layout: ParameterLayout(sampleShapes))
    for step in 0..<150 { _ = method.clip(sampleGradient(norm: 0.8, seed: UInt64(step % 7))) }
    let running = method.runningNorms
    let gradients = sampleGradient(norm: 0.8)
    let usual = gradients.entryNorms
    let wide = try #require(gradients.layout["wide"])
    for index in wide.range { gradients.elements[index] *= 100 }
    _ = method.clip(gradients)
    let norms = gradients.entryNorms
    #expect(norms[wide.index] < 1.1 * running[wide.index])
    #expect(abs(norms[wide.index] - 1.05 * running[wide.index]) < 1e-6)
    for entry in gradients.entries where entry.index != wide.index {
      #expect(norms[entry.index] <= usual[entry.index])
      #expect(norms[entry.index] >= min(usual[entry.index], running[entry.index]) * 0.999)
    }
    #expect(abs(method.runningNorms[wide.index] / running[wide.index] - 1.001) < 1e-6)
  }

  @Test("AdaGC agrees with the definition in float64")
  func adaGCDefinition() {
    var options = AdaGC.Options()
    options.warmUpSteps = 20
    let method = AdaGC(layout: ParameterLayout(sampleShapes), options: options)
    var random = SplitMix64(seed: 9)
    var running: [Double] = [.infinity, .infinity, .infinity, .infinity]
    for step in 0..<80 {
      let gradients = sampleGradient(norm: 0.2 + 2 * random.nextUniform(), seed: UInt64(step))
      let elements = doubles(gradients)
      let entryNorms = elements.prefix(4).map { norm($0) }
      let factors: [Double]
      if step < 20 {
        let factor = min(1, 1 / (norm(entryNorms) + 1e-6))
        factors = entryNorms.map { _ in factor }
        running = zip(running, entryNorms).map { min($0, $1 * factor) }
      } else {
        factors = zip(running, entryNorms).map { min(1, 1.05 * $0 / $1) }
        running = (0..<4).map { 0.98 * running[$0] + 0.02 * factors[$0] * entryNorms[$0] }
      }
      let report = method.clip(gradients)
      let clipped = doubles(gradients).map { $0.map { $0 * Double(report.gradientFactor) } }
      for entry in 0..<4 {
        for (left, right) in zip(clipped[entry], elements[entry]) {
          #expect(abs(left - right * factors[entry]) < 1e-6)
        }
      }
    }
    for (left, right) in zip(method.runningNorms, running) { #expect(abs(left - right) < 1e-9) }
  }

  @Test("AdaGC lets an entry begin after the warm-up")
  func adaGCLateEntry() throws {
    let method = AdaGC(layout: ParameterLayout(sampleShapes))
    for step in 0..<110 {
      let gradients = sampleGradient(norm: 0.5, seed: UInt64(step))
      try #require(gradients["bias"]).update(repeating: 0)
      _ = method.clip(gradients)
    }
    let gradients = sampleGradient(norm: 0.5)
    let before = try Array(#require(gradients["bias"]))
    _ = method.clip(gradients)
    #expect(try Array(#require(gradients["bias"])) == before)
    let again = sampleGradient(norm: 50)
    _ = method.clip(again)
    #expect(again.entryNorms[1] < 1.1 * gradients.entryNorms[1])
  }

  @Test("Stable-SPAM agrees with the definition in float64")
  func stableSPAMDefinition() {
    let method = StableSPAM(layout: ParameterLayout(sampleShapes))
    var means = Array(repeating: [0.0, 0, 0], count: 4)
    for step in 1...60 {
      let gradients = sampleGradient(norm: step % 9 == 0 ? 40 : 1, seed: UInt64(step))
      var expected = doubles(gradients)
      for entry in 0..<4 {
        let largest = expected[entry].map { abs($0) }.max() ?? 0
        means[entry][0] = 0.999 * means[entry][0] + 0.001 * largest
        let limit = means[entry][0] / (1 - pow(0.999, Double(step)))
        expected[entry] = expected[entry].map { abs($0) > limit ? $0 / largest * limit : $0 }
        let size = norm(expected[entry])
        means[entry][1] = 0.7 * means[entry][1] + 0.3 * size
        means[entry][2] = 0.9 * means[entry][2] + 0.1 * size * size
        let mean = means[entry][1] / (1 - pow(0.7, Double(step)))
        let root = (means[entry][2] / (1 - pow(0.9, Double(step)))).squareRoot()
        expected[entry] = expected[entry].map { $0 * mean / (root + 1e-6) / size }
      }
      #expect(method.clip(gradients).gradientFactor == 1)
      #expect(distance(gradients, expected) < 1e-5, "step \(step)")
    }
  }

  @Test("Stable-SPAM takes a spike to its usual share of an entry whose norm stays near one")
  func stableSPAMSpike() throws {
    let method = StableSPAM(layout: ParameterLayout(sampleShapes))
    for _ in 0..<3_000 { _ = method.clip(sampleGradient(norm: 1e-2)) }
    let usual = sampleGradient(norm: 1e-2)
    let wide = try #require(usual.layout["wide"])
    let elements = usual.slice(wide)
    let largest = try #require(elements.indices.max { abs(elements[$0]) < abs(elements[$1]) })
    let other = largest == 0 ? 1 : 0
    let share = abs(elements[largest] / elements[other])
    let spiked = sampleGradient(norm: 1e-2)
    spiked.slice(wide)[largest] *= 100
    for gradients in [usual, spiked] {
      _ = method.clip(gradients)
      for entryNorm in gradients.entryNorms.prefix(4) { #expect(abs(entryNorm - 1) < 0.1) }
    }
    // The spike raised the running largest magnitude by a tenth: a thousandth of a hundredfold.
    let rescued = spiked.slice(wide)
    #expect(abs(rescued[largest] / rescued[other]) < 1.12 * share)
    #expect(abs(rescued[largest] / rescued[other]) > 1.05 * share)
  }

  @Test("Stable-SPAM asks for a reset before every step that follows a whole interval")
  func stableSPAMReset() {
    var options = StableSPAM.Options()
    options.resetInterval = 5
    let method = StableSPAM(layout: ParameterLayout(sampleShapes), options: options)
    let resets = (0..<16).filter { _ in method.clip(sampleGradient(norm: 1)).resetsMoments }
    #expect(resets == [5, 10, 15])
    options.resetInterval = 0
    let never = StableSPAM(layout: ParameterLayout(sampleShapes), options: options)
    #expect(!(0..<16).contains { _ in never.clip(sampleGradient(norm: 1)).resetsMoments })
  }

  @Test("Stable-SPAM keeps a vanishing gradient finite")
  func stableSPAMTiny() {
    let method = StableSPAM(layout: ParameterLayout(sampleShapes))
    _ = method.clip(sampleGradient(norm: 1))
    let gradients = ParameterBlock(sampleShapes)
    for entry in gradients.entries where !entry.range.isEmpty {
      gradients.slice(entry)[0] = .leastNonzeroMagnitude
    }
    #expect(method.clip(gradients).clippedNorm.isFinite)
    #expect(gradients.elements.allSatisfy { $0.isFinite })
  }
}
