import GraphIR
import TensorCore

/// The slots of an assignment by expert, for the experts whose weights are at hand.
///
/// Work on them is cut into blocks of a size that depends on the counts alone, each computed by one
/// thread in one order: results do not depend on the number of threads.
struct ExpertRows {
  /// Slots that one expert computes together.
  struct Block {
    let expert: Int
    let rows: Range<Int>
  }

  /// Slots of the experts, ordered by expert, then as they stand.
  let slots: [Int]
  /// Where each expert's slots begin, and where the last one's end.
  let starts: [Int]

  /// Sorts the slots that `count` experts from index `first` on compute.
  init(_ codes: UnsafeBufferPointer<Int32>, first: Int, count: Int) {
    var starts = [Int](repeating: 0, count: count + 1)
    for code in codes {
      let expert = Int(code) - first
      if code >= 0, expert >= 0, expert < count { starts[expert + 1] += 1 }
    }
    for expert in 0..<count { starts[expert + 1] += starts[expert] }
    var next = starts
    var slots = [Int](repeating: 0, count: starts[count])
    for (slot, code) in codes.enumerated() {
      let expert = Int(code) - first
      guard code >= 0, expert >= 0, expert < count else { continue }
      slots[next[expert]] = slot
      next[expert] += 1
    }
    self.slots = slots
    self.starts = starts
  }

  /// The slots in blocks of at most `size`, of about equal size for each expert.
  func blocks(of size: Int) -> [Block] {
    var blocks: [Block] = []
    for expert in 0..<(starts.count - 1) {
      let (start, end) = (starts[expert], starts[expert + 1])
      let count = (end - start + size - 1) / size
      for part in 0..<count {
        let rows =
          (start + (end - start) * part / count)..<(start + (end - start) * (part + 1) / count)
        blocks.append(Block(expert: expert, rows: rows))
      }
    }
    return blocks
  }

  /// Copies rows of `width` elements to neighbouring places of `target`: the row of each slot, or
  /// of its token where a token's `sharing` slots read one row.
  func gather(
    _ rows: Range<Int>, from source: UnsafePointer<Float>, width: Int, sharing: Int,
    to target: UnsafeMutablePointer<Float>
  ) {
    for (place, row) in rows.enumerated() {
      (target + place * width).update(from: source + slots[row] / sharing * width, count: width)
    }
  }

  /// Multiplies each slot's row by the matrix of its expert and writes the rows to their slots.
  ///
  /// - Parameters:
  ///   - x: rows of `inner` elements, one for each slot, or for each token of `sharing` slots.
  ///   - sharing: how many slots read one row of `x`.
  ///   - inner: elements of a row that is read.
  ///   - outer: elements of a row that is made.
  ///   - weights: a matrix for each expert, `[outer, inner]`, or `[inner, outer]` transposed.
  ///   - biases: `[outer]` for each expert, or none.
  ///   - isTransposed: how `weights` stand.
  ///   - isRounded: whether rows and matrices are rounded to bfloat16.
  ///   - y: rows of `outer` elements, one for each slot; those without an expert stay as they are.
  ///   - threadCount: how many threads run.
  func multiply(
    _ x: UnsafePointer<Float>, sharing: Int, inner: Int, outer: Int,
    weights: [UnsafeBufferPointer<Float>], biases: [UnsafeBufferPointer<Float>],
    isTransposed: Bool, isRounded: Bool, into y: UnsafeMutablePointer<Float>, threadCount: Int
  ) {
    let matrices = weights.map {
      MatrixView($0, stride: isTransposed ? outer : inner, isTransposed: !isTransposed)
    }
    let blocks = blocks(of: 256)
    let largest = blocks.reduce(0) { max($0, $1.rows.count) }
    /// Hands each block's rows, and room for what is made of them, to `product`.
    func forEachBlock(
      scratchByteCount: Int,
      _ product: (
        _ block: Block, _ rows: UnsafeMutablePointer<Float>, _ made: UnsafeMutablePointer<Float>,
        _ scratch: UnsafeMutablePointer<UInt8>
      ) -> Void
    ) {
      forEachRange(of: blocks.count, threadCount: threadCount) { range in
        withScratch(of: UInt8.self, scratchByteCount) { scratch in
          withScratch(of: Float.self, largest * (inner + outer)) { read in
            let made = read + largest * inner
            for block in blocks[range] {
              gather(block.rows, from: x, width: inner, sharing: sharing, to: read)
              product(block, read, made, scratch)
              write(
                block.rows, from: made, width: outer,
                bias: biases.isEmpty ? nil : biases[block.expert].baseAddress, to: y)
            }
          }
        }
      }
    }
    guard isRounded else {
      return forEachBlock(scratchByteCount: 0) { block, rows, made, _ in
        let count = block.rows.count
        Matrix.multiply(
          m: count, n: outer, k: inner,
          MatrixView(.init(start: rows, count: count * inner), stride: inner),
          matrices[block.expert], into: .init(start: made, count: count * outer), threadCount: 1)
      }
    }
    RoundedFactor.with(matrices, k: inner, n: outer, threadCount: threadCount) { factors in
      let size = RoundedFactor.scratchByteCount(rows: largest, k: inner)
      forEachBlock(scratchByteCount: size) { block, rows, made, scratch in
        factors[block.expert].multiply(
          rows, stride: inner, rows: 0..<block.rows.count, into: made, stride: outer,
          scratch: scratch)
      }
    }
  }

  /// Copies neighbouring rows of `width` elements, with `bias` added, to the slots of `rows`.
  private func write(
    _ rows: Range<Int>, from source: UnsafePointer<Float>, width: Int,
    bias: UnsafePointer<Float>?, to target: UnsafeMutablePointer<Float>
  ) {
    for (place, row) in rows.enumerated() {
      let (to, from) = (target + slots[row] * width, source + place * width)
      guard let bias else {
        to.update(from: from, count: width)
        continue
      }
      for k in 0..<width { to[k] = from[k] + bias[k] }
    }
  }
}

/// Writes zeros to the rows of slots that none of `count` experts from index `first` on computes.
func clearOtherRows(
  _ codes: UnsafeBufferPointer<Int32>, first: Int, count: Int, width: Int,
  _ y: UnsafeMutablePointer<Float>
) {
  for (slot, code) in codes.enumerated() where code < 0 || !(first..<(first + count) ~= Int(code)) {
    (y + slot * width).update(repeating: 0, count: width)
  }
}
