import TensorCore

/// Which elements of a tensor share a scale: all of them, those of a row, or those of a group in it.
struct ScaleRuns {
  private let rows: Int
  private let width: Int
  private let size: Int
  /// Whether one scale serves all.
  private let isWhole: Bool

  /// Divides a tensor of `shape` whose scales have `rank` axes.
  init(of shape: [Int], scaleRank rank: Int, groupSize: Int?) {
    isWhole = rank == 0
    rows = isWhole ? 1 : shape[0]
    width = isWhole ? shape.reduce(1, *) : shape.dropFirst().reduce(1, *)
    size = max(groupSize ?? width, 1)
  }

  /// The number of scales in a row.
  var groupCount: Int { width == 0 ? 0 : (width + size - 1) / size }

  /// The index of the scale of an element.
  func scale(of element: Int) -> Int {
    isWhole ? 0 : element / width * groupCount + element % width / size
  }

  /// Calls `body` for every run of elements and its scale, those of a row one after the other; a whole
  /// tensor's elements in a part for each thread.
  func forEach(threadCount: Int = 1, _ body: (_ elements: Range<Int>, _ scale: Int) -> Void) {
    let minimum = 1 << 15
    if isWhole {
      forEachRange(of: width, threadCount: threadCount, minimumCount: minimum) { body($0, 0) }
      return
    }
    let groups = groupCount
    forEachRange(
      of: rows, threadCount: threadCount, minimumCount: max(1, minimum / max(width, 1))
    ) { range in
      for row in range {
        for group in 0..<groups {
          let start = row * width + group * size
          body(start..<min(start + size, (row + 1) * width), row * groups + group)
        }
      }
    }
  }
}
