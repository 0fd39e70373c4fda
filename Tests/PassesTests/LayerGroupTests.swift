import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport
import Testing

@Suite struct LayerGroupTests {
  @Test func rowsAreDrawnFromAllAlikeAndWithTheirOriginals() {
    var counts = [Int](repeating: 0, count: 100)
    for seed in 0..<400 {
      let rows = InputRows(width: 2, capacity: 10, seed: UInt64(seed))
      for part in 0..<4 {
        let values = (0..<25).flatMap { row -> [Float] in
          let value = Float(part * 25 + row)
          return [value, value + 0.5]
        }
        values.withUnsafeBufferPointer { values in
          values.map { $0 * 2 }.withUnsafeBufferPointer { rows.add(values, original: $0) }
        }
      }
      #expect(rows.count == 10)
      for row in 0..<10 {
        let value = rows.elements[2 * row]
        #expect(rows.elements[2 * row + 1] == value + 0.5)
        #expect(rows.originals[2 * row] == 2 * value)
        #expect(rows.originals[2 * row + 1] == 2 * value + 1)
        counts[Int(value)] += 1
      }
    }
    // Each row is kept with probability 0.1: 40 times, give or take six deviations.
    #expect(counts.allSatisfy { abs($0 - 40) < 36 })
    #expect(counts.reduce(0, +) == 4000)
  }

  /// What a walk over a graph that rounds activations finds and changes.
  @Test func groupsSeeRoundingsAndTheOriginal() throws {
    let sample = try RoundingSample()
    let rounded = try sample.roundingActivations(5)
    var options = SequentialWalk.Options()
    options.selectsTokensEarly = false
    options.followsOriginal = true
    var gathering = SequentialWalk.Gathering()
    gathering.rowCount = 10_000
    let codes = ActivationQuantization(scale: 0.5, zeroPoint: 8, highest: 15)
    var groups: [LayerGroup] = []
    let weights = rounded.multipliedWeights
    let result = try SequentialWalk(pass: "test", options: options).run(
      on: rounded, original: sample.graph, weights: weights, gathering: gathering,
      in: sample.context
    ) { group throws(PassError) in
      groups.append(group)
      return GroupChange(layers: group.layers.map { _ in nil }, codes: codes)
    }
    #expect(groups.count == 19)
    #expect(groups.flatMap(\.layers).count == weights.count)
    #expect(groups.allSatisfy { $0.codes?.highest == 31 })
    #expect(
      result.nodes.compactMap { ($0.op as? FakeQuantize)?.parameters }
        == groups.map { _ in codes })
    // The result rounds as every later layer has seen it.
    let last = try #require(groups.last { $0.input.hasPrefix("image.layers.1.mlp.act") })
    let plain = String(last.input.dropLast(".codes".count))
    let rows = try #require(last.rows)
    #expect(relativeDifference(rows.elements, try sample.values(plain, of: result)) < 1e-5)
    #expect(relativeDifference(rows.originals, try sample.values(plain, of: sample.graph)) < 1e-5)
    let inputs = try sample.values(plain, of: result).map { value -> Double in
      Double(last.codes?.simulated(Float(value)) ?? 0)
    }
    let width = last.layers[0].statistics.width
    var means = [Double](repeating: 0, count: width)
    for index in inputs.indices {
      means[index % width] += inputs[index] * Double(width) / Double(inputs.count)
    }
    #expect(relativeDifference(last.layers[0].statistics.means.map { Float($0) }, means) < 1e-3)
  }
}
