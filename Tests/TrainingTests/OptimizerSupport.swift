import TensorCore
import Training

/// Names and extents with every rank up to two and counts beside multiples of the alignment.
let sampleShapes: [(name: String, shape: [Int])] = [
  ("matrix", [3, 7]), ("bias", [16]), ("scale", []), ("wide", [2, 40]), ("empty", [0, 4]),
]

/// A block of ``sampleShapes`` with standard normal numbers.
func sampleBlock(seed: UInt64, scale: Double = 1) -> ParameterBlock {
  let block = ParameterBlock(sampleShapes)
  var random = SplitMix64(seed: seed)
  for entry in block.entries {
    let slice = block.slice(entry)
    for index in slice.indices { slice[index] = Float(random.nextNormal() * scale) }
  }
  return block
}

/// The bits of every element, padding included.
func bits(_ block: ParameterBlock) -> [UInt32] { block.elements.map(\.bitPattern) }

/// The elements of every entry in float64.
func doubles(_ block: ParameterBlock) -> [[Double]] {
  block.entries.map { block.slice($0).map(Double.init) }
}

/// The largest distance of the block's elements from `expected`.
func distance(_ block: ParameterBlock, _ expected: [[Double]]) -> Double {
  var largest = 0.0
  for (left, right) in zip(doubles(block), expected) {
    for (a, b) in zip(left, right) { largest = max(largest, abs(a - b)) }
  }
  return largest
}

/// Whether the elements between the entries are all zero.
func hasCleanPadding(_ block: ParameterBlock) -> Bool {
  var isEntry = Array(repeating: false, count: block.elements.count)
  for entry in block.entries { for index in entry.range { isEntry[index] = true } }
  return zip(isEntry, block.elements).allSatisfy { $0 || $1 == 0 }
}

/// The names of a state in order.
func names(_ state: [NamedTensor]) -> [String] { state.map(\.name) }
