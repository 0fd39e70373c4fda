/// Elements by their rank, without sorting everything.
package enum OrderStatistic {
  /// The element of `rank`, counted from 0 in ascending order.
  ///
  /// - Precondition: `rank` is an index of `elements`, none of which is NaN.
  /// - Parameters:
  ///   - elements: reordered.
  ///   - rank: how many elements stand before the wanted one.
  /// - Returns: The element.
  /// - Complexity: O(`count`) on average.
  package static func select(_ elements: inout [Float], rank: Int) -> Float {
    precondition(elements.indices.contains(rank), "rank \(rank) of \(elements.count)")
    var (low, high) = (0, elements.count - 1)
    while low < high {
      let pivot = median(elements[low], elements[(low + high) / 2], elements[high])
      var (left, right) = (low, high)
      while left <= right {
        while elements[left] < pivot { left += 1 }
        while elements[right] > pivot { right -= 1 }
        if left <= right {
          elements.swapAt(left, right)
          left += 1
          right -= 1
        }
      }
      if rank <= right {
        high = right
      } else if rank >= left {
        low = left
      } else {
        break
      }
    }
    return elements[rank]
  }

  private static func median(_ a: Float, _ b: Float, _ c: Float) -> Float {
    max(min(a, b), min(max(a, b), c))
  }
}
