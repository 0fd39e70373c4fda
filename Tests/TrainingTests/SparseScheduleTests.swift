import GraphIR
import TensorCore
import TestSupport
import Testing
import Training

/// Schedules, patterns and masks of sparse training.
@Suite struct SparseScheduleTests {
  @Test func cubicHasTheValuesOfItsFormula() {
    let ramp = CubicSparsity(to: 0.8, start: 40, length: 200)
    for (step, wanted) in [(40, 0), (90, 0.4625), (140, 0.7), (190, 0.7875), (240, 0.8)] {
      #expect(abs(ramp.sparsity(atStep: step) - wanted) < 1e-12, "step \(step)")
    }
    #expect(ramp.sparsity(atStep: 0) == 0)
    #expect(ramp.sparsity(atStep: 10_000) == 0.8)
    #expect(CubicSparsity(to: 0.5, start: 3, length: 0).sparsity(atStep: 3) == 0.5)
    let continued = CubicSparsity(from: 0.3, to: 0.8, start: 5, length: 9)
    #expect(abs(continued.sparsity(atStep: 5) - 0.3) < 1e-12)
  }

  @Test func leakFalls() {
    #expect((0...4).map { MaskLeak.linear(beta: 0.5).value(at: $0) } == [1, 0.5, 0, 0, 0])
    #expect(MaskLeak.exponential(beta: 0.01).value(at: 0) == 1)
    #expect(abs(MaskLeak.exponential(beta: 0.01).value(at: 100) - 0.367_879_441) < 1e-9)
    #expect(MaskLeak.closed.value(at: 0) == 0)
  }

  @Test func framesEndWithThePattern() {
    #expect(
      BlockPattern(kept: 1, of: 16).stepwiseFrames.map(\.description)
        == ["15:16", "8:16", "4:16", "2:16", "1:16"], "log2(16) + 1 of them")
    #expect(BlockPattern(kept: 2, of: 4).stepwiseFrames.map(\.description) == ["3:4", "2:4"])
    #expect(
      BlockPattern(kept: 3, of: 8).stepwiseFrames.map(\.description) == ["7:8", "4:8", "3:8"])
    #expect(BlockPattern(kept: 1, of: 2).stepwiseFrames.map(\.description) == ["1:2"])
    #expect(
      BlockPattern(kept: 2, of: 4).geometricFrames.map(\.description)
        == ["16:32", "8:16", "4:8", "2:4"])
    #expect(BlockPattern(kept: 16, of: 32).fitting(24).description == "4:8")
    #expect(BlockPattern(kept: 2, of: 4).fitting(24).description == "2:4")
  }

  @Test(arguments: [(2, 4), (1, 2), (4, 8), (7, 8), (5, 40), (1, 1)])
  func patternKeepsTheLargestOfEveryBlock(_ kept: Int, _ block: Int) {
    var random = SplitMix64(seed: UInt64(block))
    // Few distinct magnitudes, so that many are equal.
    let elements = (0..<(block * 30)).map { _ in Float(random.nextIndex(below: 7)) - 3 }
    let hidden = elements.indices.map { _ in UInt8(random.nextUniform() < 0.1 ? 0 : 1) }
    var mask = [UInt8](repeating: 9, count: elements.count)
    elements.withUnsafeBufferPointer { elements in
      hidden.withUnsafeBufferPointer { hidden in
        mask.withUnsafeMutableBufferPointer {
          BlockPattern(kept: kept, of: block).mark(elements, hidden: hidden, into: $0)
        }
      }
    }
    for start in stride(from: 0, to: elements.count, by: block) {
      let alive = (start..<(start + block)).filter { hidden[$0] == 1 }
      let best = alive.sorted {
        abs(elements[$0]) != abs(elements[$1]) ? abs(elements[$0]) > abs(elements[$1]) : $0 < $1
      }
      let wanted = Set(best.prefix(kept))
      for place in start..<(start + block) {
        #expect(mask[place] == (wanted.contains(place) ? 1 : 0))
      }
    }
  }

  @Test(arguments: [0, 1, 31, 32, 33, 100])
  func packedMasksComeBack(_ count: Int) {
    var random = SplitMix64(seed: 7)
    let mask = (0..<count).map { _ in UInt8(random.nextIndex(below: 2)) }
    let words = PackedMask.words(mask)
    #expect(words.shape == [PackedMask.wordCount(count)])
    #expect(PackedMask.mask(words, count: count) == mask)
  }

  @Test(arguments: UpdateOptions.Method.allCases)
  func forgottenElementsStartAnew(_ method: UpdateOptions.Method) {
    let layout = ParameterLayout([("a", [4]), ("b", [2])])
    func optimizer() -> any Optimizer {
      method == .adamw
        ? AdamW(layout: layout, options: .init(beta1: 0.9, beta2: 0.9, epsilon: 0, weightDecay: 0))
        : MomentumSGD(layout: layout)
    }
    let tested = optimizer()
    let (weights, slopes) = (ParameterBlock(layout: layout), ParameterBlock(layout: layout))
    for index in slopes.elements.indices { slopes.elements[index] = 1 }
    tested.step(parameters: weights, gradients: slopes, learningRate: 0.1, gradientFactor: 1)
    tested.resetMoments(of: "a") { $0 % 2 == 1 }
    slopes.clear()
    let before = Array(weights.elements)
    tested.step(parameters: weights, gradients: slopes, learningRate: 0.1, gradientFactor: 1)
    let a = layout.entries[0].range
    for index in a {
      let rests = weights.elements[index] == before[index] || weights.elements[index].isNaN
      #expect(rests == (index % 2 == 1), "element \(index) of a")
    }
    for index in layout.entries[1].range { #expect(weights.elements[index] != before[index]) }
  }
}
