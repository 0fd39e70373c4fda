import TensorCore
import Testing
import Training

@Suite("Gradient clipping by the whole norm") struct ClippingNormTests {
  @Test("The global norm: small gradients stay, large ones end just below the threshold")
  func globalNorm() {
    let method = GlobalNormClipping(threshold: 5)
    #expect(method.clip(sampleGradient(norm: 4.9)).gradientFactor == 1)
    let report = method.clip(sampleGradient(norm: 200))
    #expect(report.clippedNorm < 5 && report.clippedNorm > 5 - 1e-6)
    #expect(abs(report.gradientFactor - 0.025) < 1e-8)
  }

  @Test("AutoClip agrees with sorting all norms anew", arguments: [0.0, 10, 37.5, 50, 100])
  func autoClip(_ percentile: Double) {
    let method = AutoClip(percentile: percentile)
    var random = SplitMix64(seed: 5)
    var all: [Double] = []
    for _ in 0..<200 {
      let gradients = sampleGradient(norm: 0.5 + 3 * random.nextUniform())
      let norm = gradients.norm
      all.append(norm)
      let sorted = all.sorted()
      let place = percentile / 100 * Double(all.count - 1)
      let (lower, upper) = (sorted[Int(place.rounded(.down))], sorted[Int(place.rounded(.up))])
      let part = place - place.rounded(.down)
      let threshold = lower * (1 - part) + upper * part
      let report = method.clip(gradients)
      #expect(abs(report.clippedNorm - min(norm, threshold)) < 1e-12)
    }
  }

  @Test("AutoClip leaves the given part of the norms alone")
  func autoClipShare() {
    let method = AutoClip(percentile: 25)
    var random = SplitMix64(seed: 6)
    var untouched = 0
    for _ in 0..<2_000 {
      let report = method.clip(sampleGradient(norm: 1 + random.nextUniform()))
      if report.gradientFactor == 1 { untouched += 1 }
    }
    #expect(abs(untouched - 500) < 60)
  }

  @Test("ZClip never clips a constant gradient after the warm-up")
  func zClipConstant() {
    let method = ZClip(options: ZClip.Options(largestNorm: nil))
    for _ in 0..<300 {
      #expect(method.clip(sampleGradient(norm: 0.37)).gradientFactor == 1)
    }
    #expect(abs(method.mean - 0.37) < 1e-7)
  }

  @Test("ZClip takes a spike below the mean and 2.5 deviations, the closer the higher it is")
  func zClipSpike() {
    var closest = Double.infinity
    for height in [2.0, 5, 20, 100, 1_000] {
      let method = ZClip(options: ZClip.Options(largestNorm: nil))
      var random = SplitMix64(seed: 7)
      for _ in 0..<200 {
        _ = method.clip(sampleGradient(norm: 0.5 + 0.1 * random.nextUniform()))
      }
      let (mean, deviation) = (method.mean, method.variance.squareRoot())
      let report = method.clip(sampleGradient(norm: height))
      let z = (report.norm - mean) / (deviation + 1e-6)
      #expect(report.clippedNorm < mean + 2.5 * deviation)
      #expect(abs(report.clippedNorm - (mean + 6.25 * deviation / z)) < 1e-12)
      #expect(report.clippedNorm < closest)
      closest = report.clippedNorm
      #expect(abs(method.mean - (0.97 * mean + 0.03 * report.clippedNorm)) < 1e-12)
    }
  }

  @Test("ZClip's statistics agree with the definition, its largest norm with a bound")
  func zClipDefinition() {
    let method = ZClip()
    var random = SplitMix64(seed: 8)
    var warmUp: [Double] = []
    var (mean, variance) = (0.0, 0.0)
    for step in 0..<120 {
      let gradients = sampleGradient(norm: exp2(3 * random.nextUniform() - 2))
      var norm = gradients.norm
      if step < 25 {
        warmUp.append(norm)
        mean = warmUp.reduce(0, +) / Double(warmUp.count)
        variance = warmUp.map { ($0 - mean) * ($0 - mean) }.reduce(0, +) / Double(warmUp.count)
      } else {
        let deviation = variance.squareRoot()
        let z = (norm - mean) / (deviation + 1e-6)
        if z > 2.5 { norm = mean + 2.5 * deviation / (z / 2.5) }
        mean = 0.97 * mean + 0.03 * norm
        variance = 0.97 * variance + 0.03 * (norm - mean) * (norm - mean)
      }
      let report = method.clip(gradients)
      #expect(abs(report.clippedNorm - min(norm, 1)) < 1e-12)
    }
    #expect(abs(method.mean - mean) < 1e-12 && abs(method.variance - variance) < 1e-12)
  }

  private func exp2(_ x: Double) -> Double { Double.exp(x * 0.693_147_180_559_945_3) }
}
