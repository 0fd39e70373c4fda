import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport
import Testing

@Suite struct GPTQTests {
  private func options(
    block: Int = 128, ordered: Bool = true, refits: Bool = false
  ) -> GPTQ.Options {
    var options = GPTQ.Options()
    options.blockWidth = block
    options.ordersByEnergy = ordered
    options.refitsGroups = refits
    return options
  }

  @Test(arguments: [2, 3, 4, 8], [nil, 8] as [Int?])
  func unrelatedInputsOfEqualEnergyMakeItRoundingToNearest(_ bits: Int, _ group: Int?) throws {
    let columns = 24
    let inputs = (0..<(columns * columns)).map { Float($0 % (columns + 1) == 0 ? 2 : 0) }
    var random = SplitMix64(seed: 3)
    let sample = try LayerSample(
      rows: 5, columns: columns, weights: random.normals(120), inputs: inputs)
    let quantizer = WeightQuantizer(bitCount: bits, groupSize: group)
    let nearest = try quantizer.quantize(sample.layer().weight, named: "w")
    for refits in [false, true] {
      let codes = try GPTQ(options: options(block: 7, refits: refits)).codes(
        of: try sample.problem(damping: 0.01), by: quantizer, named: "w")
      #expect(codes == nearest)
    }
  }

  @Test(arguments: [2, 3, 4, 8], [nil, 16] as [Int?])
  func outputsSufferLessThanFromRoundingToNearest(_ bits: Int, _ group: Int?) throws {
    for seed in 0..<4 {
      let sample = try LayerSample(rows: 12, columns: 40, count: 200, seed: UInt64(50 + seed))
      let quantizer = WeightQuantizer(bitCount: bits, groupSize: group)
      let nearest = try quantizer.quantize(sample.layer().weight, named: "w").elements
      let plain = sample.error(of: nearest)
      for ordered in [false, true] {
        let codes = try GPTQ(options: options(ordered: ordered)).codes(
          of: try sample.problem(damping: 0.01), by: quantizer, named: "w")
        #expect(sample.error(of: codes.elements) < 0.9 * plain)
      }
      let refitted = try GPTQ(options: options(refits: true)).codes(
        of: try sample.problem(damping: 0.01), by: quantizer, named: "w")
      #expect(sample.error(of: refitted.elements) < 0.9 * plain)
    }
  }

  /// The sweep as the optimal brain surgeon defines it, in float64 with an inverse for each column.
  private func definition(
    _ sample: LayerSample, order: [Int], _ quantization: WeightQuantization
  ) -> [Int] {
    let (rows, columns) = (sample.rows, sample.columns)
    let full = sample.hessian(damping: 0.01)
    let hessian = order.map { row in order.map { full[row][$0] } }
    let scales = quantization.scales.elements(of: Float.self).map { Double($0) }
    let groups = quantization.groupCount(width: columns)
    var codes = [Int](repeating: 0, count: rows * columns)
    for row in 0..<rows {
      var weights = order.map { Double(sample.weights[row * columns + $0]) }
      for column in 0..<columns {
        let inverted = inverse(hessian[column...].map { Array($0[column...]) })
        let group = order[column] / (quantization.groupSize ?? columns)
        let scale = scales[row * groups + group]
        let code = min(
          max(
            (weights[column] / scale).rounded(.toNearestOrEven), Double(quantization.smallestCode)),
          Double(quantization.largestCode))
        codes[row * columns + order[column]] = Int(code)
        let share = (weights[column] - code * scale) / inverted[0][0]
        for right in column..<columns { weights[right] -= share * inverted[0][right - column] }
      }
    }
    return codes
  }

  @Test(arguments: [5, 128], [false, true])
  func sweepsAreThoseOfTheDefinition(_ block: Int, _ ordered: Bool) throws {
    let sample = try LayerSample(rows: 6, columns: 20, count: 90, seed: 7)
    let quantizer = WeightQuantizer(bitCount: 4, groupSize: 8)
    let made = try GPTQ(options: options(block: block, ordered: ordered)).codes(
      of: try sample.problem(damping: 0.01), by: quantizer, named: "w")
    let hessian = sample.hessian()
    var order = Array(0..<20)
    if ordered { order.sort { hessian[$0][$0] > hessian[$1][$1] } }
    let quantization = try #require(made.quantization)
    #expect(
      quantization
        == (try quantizer.quantization(
          of: Tensor(shape: [6, 20], sample.weights), named: "w")))
    let codes = made.tensor.elements(of: Int8.self).map { Int($0) }
    #expect(codes == definition(sample, order: order, quantization))
  }

  @Test func maskedWeightsStayZero() throws {
    var sample = try LayerSample(rows: 4, columns: 16, count: 60, seed: 9)
    sample.mask = (0..<64).map { $0 % 3 == 0 ? 0 : 1 }
    let codes = try GPTQ().codes(
      of: try sample.problem(damping: 0.01), by: WeightQuantizer(bitCount: 3), named: "w")
    let elements = codes.tensor.elements(of: Int8.self)
    #expect(stride(from: 0, to: 64, by: 3).allSatisfy { elements[$0] == 0 })
    #expect(codes.mask?.elements(of: UInt8.self) == sample.mask)
    #expect(elements.contains { $0 != 0 })
  }

  @Test func threadsDoNotChangeCodes() throws {
    let sample = try LayerSample(rows: 33, columns: 40, count: 90, seed: 43)
    var problem = LayerProblem.Options()
    problem.damping = 0.01
    let made = try [1, 3].map { threads in
      try GPTQ().codes(
        of: try LayerProblem(sample.layer(), options: problem, threadCount: threads),
        by: WeightQuantizer(bitCount: 4), named: "w")
    }
    #expect(made[0] == made[1])
  }
}

extension Parameter {
  /// What the elements stand for.
  fileprivate var elements: [Float] { materialized.elements(of: Float.self) }
}
