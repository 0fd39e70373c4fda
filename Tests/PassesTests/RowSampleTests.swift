import Passes
import TensorCore
import Testing

@Suite struct RowSampleTests {
  private func sample(_ count: Int, _ width: Int, pieces: Int) -> RowSample {
    var sample = RowSample(width: width)
    let rows = (0..<(count * width)).map { Float($0 / width * 10 + $0 % width) }
    rows.withUnsafeBufferPointer { rows in
      for piece in 0..<pieces {
        let range = (count * piece / pieces * width)..<(count * (piece + 1) / pieces * width)
        sample.add(UnsafeBufferPointer(rebasing: rows[range]))
      }
    }
    return sample
  }

  @Test(arguments: [1, 100, RowSample.capacity, RowSample.capacity + 1, 9000])
  func rowsAreEvenlySpaced(_ count: Int) {
    let taken = sample(count, 3, pieces: 1)
    #expect(taken == sample(count, 3, pieces: 7))
    #expect(taken.count <= RowSample.capacity)
    #expect(taken.count >= min(count, RowSample.capacity / 2))
    let rows = stride(from: 0, to: taken.elements.count, by: 3).map { taken.elements[$0] / 10 }
    let gaps = Set(zip(rows, rows.dropFirst()).map { $1 - $0 })
    #expect(gaps.count <= 1)
    #expect(rows.first == 0)
    // The range is that of all rows, taken or not.
    #expect(taken.minima == [0, 1, 2])
    #expect(taken.maxima == (0..<3).map { Float((count - 1) * 10 + $0) })
  }

  @Test func dividingDividesRangesToo() {
    let divided = sample(50, 2, pieces: 1).dividing(by: [2, 4])
    #expect(divided.maxima == [245, 122.75])
    #expect(divided.elements[2...3] == [5, 2.75])
    #expect(divided.histogram.maximum == 245)
  }
}
