import Passes
import TensorCore
import Testing

@Suite struct NumberFormatTests {
  @Test func halvesAreThoseOfTheHardware() {
    var random = SplitMix64(seed: 6)
    for _ in 0..<20_000 {
      let exponent = Int(random.nextIndex(below: 50)) - 30
      let number =
        Float(random.nextNormal()) * Float(sign: .plus, exponent: exponent, significand: 1)
      let half = Float(Float16(number))
      #expect(
        NumberFormat.float16.rounded(number)
          == (half.isFinite ? half : number.sign == .minus ? -65504 : 65504))
      // A bfloat16 is the upper half of a float32.
      let short = NumberFormat.bfloat16.rounded(number)
      #expect(short.bitPattern & 0xFFFF == 0)
      #expect(abs(short - number) <= abs(number) * 0x1p-8)
    }
    for number: Float in [0, 1, -1, 65504, 0x1p-24, 0x1.8p-25, 65520, 1e30] {
      let half = Float(Float16(number))
      #expect(NumberFormat.float16.rounded(number) == min(half, 65504))
    }
    // Halfway between two neighbours the even one is taken.
    #expect(NumberFormat.bfloat16.rounded(1 + 0x1p-8) == 1)
    #expect(NumberFormat.bfloat16.rounded(1 + 0x3p-8) == 1 + 0x1p-6)
  }

  @Test func names() {
    #expect(NumberFormat.int4.bitCount == 4)
    #expect(NumberFormat.float16.bitCount == nil)
    #expect(NumberFormat(bitCount: 5) == .int5)
    #expect(NumberFormat(bitCount: 9) == nil)
  }
}
