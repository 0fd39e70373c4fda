import CKernels
import Testing

@Suite struct TrainingQuantizationTests {
  private let bounds = clip_code_range(lowest: -1.5, highest: 2.25)

  /// Numbers about the bounds, the bounds themselves, zeros and extremes.
  private func elements(_ count: Int) -> Memory<Float> {
    var random = Random(state: 7)
    let special: [Float] = [0, -0.0, -1.5, 2.25, .leastNonzeroMagnitude, -3e38, 3e38]
    let drawn = random.floats(count, in: -4...4)
    return Memory(
      (0..<count).map { $0 % 5 == 3 ? special[$0 / 5 % special.count] : drawn[$0] })
  }

  @Test func roundingIsDefinedAndTheSameInAllSets() {
    for count in extents + [301] {
      let x = elements(count)
      let codes = clip_code_range(lowest: -8, highest: 7)
      for scale in [0.37, -0.37, 1e-12] as [Float] {
        for set in KernelSet.supported {
          let y = Memory<Float>(repeating: -777, count: count + 1)
          set.training.f32_round_to_codes(x.pointer, count, codes, scale, y.pointer)
          for index in 0..<count {
            let code = (x[index] / scale).rounded(.toNearestOrEven)
            #expect(y[index] == min(max(code, -8), 7) * scale, "\(x[index])")
          }
          #expect(y[count] == -777)
        }
      }
    }
    let none = Memory<Float>([.nan])
    for set in KernelSet.supported {
      set.training.f32_round_to_codes(none.pointer, 1, bounds, 1, none.pointer)
      #expect(none[0].isNaN)
    }
  }

  @Test func gatesAreDefinedAndTheSameInAllSets() {
    var random = Random(state: 8)
    for count in extents + [301] {
      let x = elements(count), g = Memory(random.floats(count, in: -2...2))
      for gate in [CLIP_CLIPPING_GATE_PIECEWISE_LINEAR, CLIP_CLIPPING_GATE_MAGNITUDE_AWARE] {
        for set in KernelSet.supported {
          let y = Memory(g.elements + [-777])
          // In place.
          set.training.f32_clipping_gate(x.pointer, y.pointer, count, bounds, gate, y.pointer)
          for index in 0..<count {
            let bound: Float = x[index] < 0 ? -1.5 : 2.25
            let isClipped = x[index] < -1.5 || x[index] > 2.25
            let factor: Float = gate == CLIP_CLIPPING_GATE_MAGNITUDE_AWARE ? bound / x[index] : 0
            #expect(y[index] == (isClipped ? g[index] * factor : g[index]), "\(x[index])")
          }
          #expect(y[count] == -777)
        }
      }
    }
  }

  @Test func sumsAreThoseOfTheirDefinition() {
    for count in extents + [301, 4096] {
      let x = elements(count)
      var portable = clip_clipping_sums()
      KernelSet.portable.training.f32_clipping_sums(x.pointer, count, bounds, &portable)
      let below = x.elements.filter { $0 <= -1.5 }
      let above = x.elements.filter { $0 >= 2.25 }
      #expect(portable.below_count == below.count)
      #expect(portable.above_count == above.count)
      let zeroCount = x.elements.filter { $0 == 0 }.count
      #expect(portable.inside_count == count - below.count - above.count - zeroCount)
      let sums = [below, above].map { $0.reduce(0) { $0 + Double($1) } }
      let sizes = [below, above].map { $0.reduce(1) { $0 + Double(abs($1)) } }
      #expect(abs(portable.below - sums[0]) <= 1e-12 * sizes[0])
      #expect(abs(portable.above - sums[1]) <= 1e-12 * sizes[1])
      for set in KernelSet.supported.dropFirst() {
        var found = clip_clipping_sums()
        set.training.f32_clipping_sums(x.pointer, count, bounds, &found)
        #expect(found.below.bitPattern == portable.below.bitPattern)
        #expect(found.above.bitPattern == portable.above.bitPattern)
        #expect(found.inside_count == portable.inside_count)
        #expect(found.below_count == portable.below_count)
        #expect(found.above_count == portable.above_count)
      }
    }
  }
}
