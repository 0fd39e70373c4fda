import CKernels
import Testing

/// A kernel set that this machine can run, by its index in the table.
struct KernelSet: Sendable, CustomTestStringConvertible {
  let index: Int

  static let supported = (0..<clip_kernel_sets_count())
    .filter { clip_kernel_sets_is_supported($0) }
    .map { KernelSet(index: Int($0)) }

  /// The set that defines the bits of the others.
  static let portable = KernelSet(index: 0)

  var kernels: clip_kernel_set { clip_kernel_sets_at(index).pointee }
  var testDescription: String { String(cString: clip_kernel_sets_name(index)) }
}

/// Heap memory with a stable address, so that argument structures can hold pointers to it.
final class Memory<Element: BitwiseCopyable> {
  let pointer: UnsafeMutablePointer<Element>
  let count: Int

  init(_ elements: [Element]) {
    count = elements.count
    pointer = .allocate(capacity: max(count, 1))
    pointer.initialize(from: elements, count: count)
  }

  convenience init(repeating element: Element, count: Int) {
    self.init(Array(repeating: element, count: count))
  }

  deinit { pointer.deallocate() }

  subscript(index: Int) -> Element {
    get { pointer[index] }
    set { pointer[index] = newValue }
  }

  var elements: [Element] { Array(UnsafeBufferPointer(start: pointer, count: count)) }
}

extension Memory where Element == Float {
  /// The bits of all elements, for comparisons in which zeros have signs.
  var bits: [UInt32] { elements.map(\.bitPattern) }
}

/// A small generator (SplitMix64), seeded so that failures repeat.
struct Random {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  mutating func float(in range: ClosedRange<Float>) -> Float {
    let unit = Float(next() >> 40) / Float(1 << 24)
    return range.lowerBound + unit * (range.upperBound - range.lowerBound)
  }

  mutating func floats(_ count: Int, in range: ClosedRange<Float> = -1...1) -> [Float] {
    (0..<count).map { _ in float(in: range) }
  }

  mutating func codes(_ count: Int) -> [Int8] {
    (0..<count).map { _ in Int8(truncatingIfNeeded: Int(next() % 255) - 127) }
  }

  mutating func bytes(_ count: Int) -> [UInt8] {
    (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) }
  }
}

/// `[N, K]` codes as panels `[N/16][K/4][16][4]`, padded with zeros.
func packed(_ codes: [Int8], outputs: Int, inputs: Int) -> [Int8] {
  let groups = (inputs + 3) / 4
  var panels = [Int8](repeating: 0, count: (outputs + 15) / 16 * groups * 64)
  for n in 0..<outputs {
    for k in 0..<inputs {
      panels[(n / 16 * groups + k / 4) * 64 + n % 16 * 4 + k % 4] = codes[n * inputs + k]
    }
  }
  return panels
}

/// `[N, K]` floats as panels `[N/16][K][16]`, padded with zeros.
func packed(_ weights: [Float], outputs: Int, inputs: Int) -> [Float] {
  var panels = [Float](repeating: 0, count: (outputs + 15) / 16 * inputs * 16)
  for n in 0..<outputs {
    for k in 0..<inputs {
      panels[(n / 16 * inputs + k) * 16 + n % 16] = weights[n * inputs + k]
    }
  }
  return panels
}

/// `[N, K]` floats, which bfloat16 holds, as panels of pairs `[N/16][K/2][16][2]`.
func packedPairs(_ weights: [Float], outputs: Int, inputs: Int) -> [UInt16] {
  let pairs = (inputs + 1) / 2
  var panels = [UInt16](repeating: 0, count: (outputs + 15) / 16 * pairs * 32)
  for n in 0..<outputs {
    for k in 0..<inputs {
      panels[(n / 16 * pairs + k / 2) * 32 + n % 16 * 2 + k % 2] = UInt16(
        truncatingIfNeeded: weights[n * inputs + k].bitPattern >> 16)
    }
  }
  return panels
}

/// The nearest number of 8 binary digits, ties to even.
func roundedToBFloat16(_ x: Float) -> Float {
  guard x != 0, x.isFinite else { return x }
  let step = Double(sign: .plus, exponent: Int(x.exponent) - 7, significand: 1)
  return Float((Double(x) / step).rounded(.toNearestOrEven) * step)
}

/// The code of a float by the definition in the header.
func code(_ x: Float, _ q: clip_quantization) -> UInt8 {
  let rounded = (x * q.inverse_scale).rounded(.toNearestOrEven) + Float(q.zero_point)
  return UInt8(min(max(rounded, Float(q.lowest)), Float(q.highest)))
}

/// `0 ..< count`.
func all(_ count: Int) -> clip_range { clip_range(begin: 0, end: count) }

/// Extents at and around the widths of vectors, tiles and panels.
let extents = [0, 1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 63, 64, 65, 97]
