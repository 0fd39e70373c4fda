/// Which integers the codes of a weight are.
package enum CodeGrid: String, Codable, Sendable, CaseIterable {
  /// As many codes below zero as above: `-(2^(bits-1)-1)...2^(bits-1)-1`.
  case symmetric
  /// All that two's complement has: `-2^(bits-1)...2^(bits-1)-1`. A negative scale turns the longer
  /// side towards positive values.
  case full
}

/// Integer codes of a weight: `value = code * scale` with the scale of the row, or of the group of
/// neighbouring elements in it.
///
/// Rows are the slices of axis 0: output channels of a linear, tokens of an embedding table.
package struct WeightQuantization: Equatable, Sendable {
  /// Bits of a code, 2 to 8; at 8 bits the grid is symmetric.
  package var bitCount: Int
  /// Which integers codes are.
  package var grid: CodeGrid
  /// Elements of a row that share a scale, the last group of a row may be shorter; nil for whole
  /// rows.
  package var groupSize: Int?
  /// Float32, `[rows]` for whole rows, `[rows, groups]` otherwise; each finite and not zero, and
  /// positive on a symmetric grid.
  package var scales: Tensor

  /// Describes codes of `bitCount` bits.
  package init(
    bitCount: Int, grid: CodeGrid = .symmetric, groupSize: Int? = nil, scales: Tensor
  ) {
    self.bitCount = bitCount
    self.grid = grid
    self.groupSize = groupSize
    self.scales = scales
  }

  /// The largest code.
  package var largestCode: Int { (1 << (bitCount - 1)) - 1 }

  /// The smallest code.
  package var smallestCode: Int { grid == .symmetric ? -largestCode : -largestCode - 1 }

  /// The groups of a row of `width` elements.
  package func groupCount(width: Int) -> Int {
    groupSize.map { (width + $0 - 1) / $0 } ?? 1
  }

  /// The shape of the scales of a weight of `shape`.
  package func scaleShape(of shape: [Int]) -> [Int] {
    let rows = shape.first ?? 1
    let width = shape.dropFirst().reduce(1, *)
    return groupSize == nil ? [rows] : [rows, groupCount(width: width)]
  }

  /// Calls `body` for every run of elements that share a scale, by index among all elements of a
  /// weight of `shape`, in order.
  package func forEachRun(
    of shape: [Int], _ body: (_ elements: Range<Int>, _ scale: Int) -> Void
  ) {
    let rows = shape.first ?? 1
    let width = shape.dropFirst().reduce(1, *)
    guard width > 0 else { return }
    let size = groupSize ?? width
    var scale = 0
    for row in 0..<rows {
      for start in stride(from: 0, to: width, by: size) {
        body((row * width + start)..<(row * width + min(start + size, width)), scale)
        scale += 1
      }
    }
  }
}

/// Affine unsigned codes of an activation of up to 8 bits, one set for a whole tensor.
///
/// `code = clamp(rint(value * inverseScale) + zeroPoint, lowest, highest)` and
/// `value = (code - zeroPoint) * scale`, rounding half to even, all in float32.
package struct ActivationQuantization: Hashable, Sendable {
  /// The step between codes; finite and positive.
  package let scale: Float
  /// `1 / scale` rounded to float32, stored so that every executor multiplies by the same bits.
  package let inverseScale: Float
  /// The code of zero.
  package let zeroPoint: UInt8
  /// The lowest code in use: 1 keeps a signed 8-bit tensor's range symmetric about 128.
  package let lowest: UInt8
  /// The highest code in use: `2^bits - 1`.
  package let highest: UInt8

  /// Describes codes with step `scale`.
  package init(scale: Float, zeroPoint: UInt8, lowest: UInt8 = 0, highest: UInt8 = 255) {
    self.scale = scale
    inverseScale = 1 / scale
    self.zeroPoint = zeroPoint
    self.lowest = lowest
    self.highest = highest
  }

  /// The code of `value`; a value that is not a number gets the lowest code.
  @inlinable
  package func code(of value: Float) -> UInt8 {
    let scaled = (value * inverseScale).rounded(.toNearestOrEven) + Float(zeroPoint)
    return UInt8(min(max(Float(lowest), scaled), Float(highest)))
  }

  /// The value that `code` stands for.
  @inlinable
  package func value(of code: UInt8) -> Float {
    Float(Int(code) - Int(zeroPoint)) * scale
  }

  /// `value` after a round trip through its code.
  @inlinable
  package func simulated(_ value: Float) -> Float { self.value(of: code(of: value)) }
}
