import GraphIR
import Operators
import TensorCore
import Testing

@Suite struct FastPathTests {
  init() throws { try Matrix.open() }

  @Test(arguments: OperatorCase.all)
  func agreesWithDefinitionInDouble(_ testCase: OperatorCase) throws {
    let exact = try evaluateAll(testCase, as: Double.self)
    let fast = try evaluateAll(testCase, as: Float.self, fast: true, threadCount: 2)
    let slow = try evaluateAll(testCase, as: Float.self)
    for (result, values) in exact.enumerated() {
      let largest = values.reduce(1) { max($0, abs($1)) }
      for (index, value) in values.enumerated() {
        let place = "result \(result), element \(index)"
        #expect(
          abs(Double(fast[result][index]) - value) <= 4e-6 * largest, "fast, \(place)")
        #expect(
          abs(Double(slow[result][index]) - value) <= 4e-6 * largest, "definition, \(place)")
      }
    }
  }

  @Test func everyOperatorIsCompared() {
    let compared = Set(OperatorCase.all.map { type(of: $0.op).name })
    let names = OperatorRegistry.training.names + OperatorRegistry.standard.names
    #expect(compared == Set(names))
  }

  @Test(arguments: OperatorCase.threaded.indices)
  func bitsDependOnTheThreadCountAtMost(_ index: Int) throws {
    let (testCase, isIndependent) = OperatorCase.threaded[index]
    func bits(_ threadCount: Int) throws -> [[UInt32]] {
      try evaluateAll(testCase, as: Float.self, fast: true, threadCount: threadCount).map {
        $0.map(\.bitPattern)
      }
    }
    let one = try bits(1)
    for threadCount in [2, 3, 5] {
      let some = try bits(threadCount)
      for _ in 0..<3 { #expect(try bits(threadCount) == some, "\(testCase.testDescription)") }
      if isIndependent { #expect(some == one, "\(testCase.testDescription), \(threadCount)") }
    }
  }

  @Test func fakeQuantizationIsTheSameBitsBothWays() throws {
    for zeroPoint in [0, 5, 128] as [UInt8] {
      let codes = ActivationQuantization(scale: 0.031, zeroPoint: zeroPoint, lowest: 1)
      let testCase = OperatorCase.random(FakeQuantize(parameters: codes), [[4099]], seed: 3)
      #expect(
        try evaluate(testCase, as: Float.self) == evaluate(testCase, as: Float.self, fast: true))
    }
  }
}
