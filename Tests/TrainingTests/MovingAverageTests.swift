import Foundation
import TensorCore
import Testing
import Training

@Suite("Moving averages") struct MovingAverageTests {
  @Test("The closed form: weights of past parameters are powers of the decay")
  func closedForm() {
    let start = sampleBlock(seed: 1)
    let average = MovingAverage(of: start, decay: 0.9, hasWarmUp: false)
    var expected = doubles(start).map { $0.map { $0 * pow(0.9, 20) } }
    for step in 0..<20 {
      let parameters = sampleBlock(seed: UInt64(50 + step))
      average.update(with: parameters)
      for (entry, values) in doubles(parameters).enumerated() {
        for (index, value) in values.enumerated() {
          expected[entry][index] += value * 0.1 * pow(0.9, Double(19 - step))
        }
      }
    }
    #expect(distance(average.average, expected) < 1e-6)
    #expect(distance(average.average, doubles(start)) > 1e-2)
    #expect(hasCleanPadding(average.average))
  }

  @Test("The warm-up keeps (1 + t) / (10 + t) until that reaches the decay")
  func warmUp() {
    let parameters = sampleBlock(seed: 2)
    let average = MovingAverage(of: parameters, decay: 0.5)
    var decays: [Double] = []
    for _ in 0..<10 {
      decays.append(average.nextDecay)
      average.update(with: parameters)
    }
    let growing = (0..<8).map { Double(1 + $0) / Double(10 + $0) }
    #expect(decays == growing + [0.5, 0.5])
    #expect(average.updateCount == 10)
  }

  @Test("An average of what it holds already stays, and the start is a copy")
  func fixedPoint() {
    let parameters = sampleBlock(seed: 3)
    let average = MovingAverage(of: parameters, decay: 0.7)
    average.update(with: parameters)
    #expect(bits(average.average) == bits(parameters))
    parameters.clear()
    #expect(bits(average.average) != bits(parameters))
  }

  @Test("Restoring continues with the same bits")
  func restoring() throws {
    let average = MovingAverage(of: sampleBlock(seed: 4), decay: 0.99)
    for step in 0..<5 { average.update(with: sampleBlock(seed: UInt64(step))) }
    let other = MovingAverage(of: sampleBlock(seed: 5), decay: 0.99)
    try other.restore(average.state)
    for step in 5..<9 {
      average.update(with: sampleBlock(seed: UInt64(step)))
      other.update(with: sampleBlock(seed: UInt64(step)))
    }
    #expect(bits(other.average) == bits(average.average))
    #expect(other.updateCount == 9)
    #expect(throws: TrainingStateError.missing("updates")) { try other.restore([]) }
  }
}
