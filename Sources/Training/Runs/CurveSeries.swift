/// A value at a step of a run.
package struct CurvePoint: Hashable, Sendable {
  /// The step.
  package var step: Int
  /// The value.
  package var value: Double

  /// Names step and value.
  package init(step: Int, value: Double) {
    self.step = step
    self.value = value
  }
}

/// A named sequence of points of a ``Curve``.
package struct CurveSeries: Hashable, Sendable {
  /// What the legend calls it.
  package var name: String
  /// The points, in order of their steps.
  package var points: [CurvePoint]

  /// Names the points.
  package init(_ name: String, _ points: [CurvePoint]) {
    self.name = name
    self.points = points
  }

  /// The points that can be drawn: finite, and not so large that an axis would overflow.
  var drawable: [CurvePoint] { points.filter { abs($0.value) < 1e30 } }
}

/// A point of a curve between steps.
struct PlacedPoint: Hashable {
  var step: Double
  var value: Double
}

/// Means of `points` over at most `count` equally wide ranges of steps, each at its mean step.
///
/// Without more points than ranges the points themselves.
func bucketMeans(_ points: [CurvePoint], _ count: Int) -> [PlacedPoint] {
  guard points.count > count else {
    return points.map { PlacedPoint(step: Double($0.step), value: $0.value) }
  }
  return buckets(points, count).map { bucket in
    let size = Double(bucket.count)
    return PlacedPoint(
      step: bucket.reduce(0) { $0 + Double($1.step) } / size,
      value: bucket.reduce(0) { $0 + $1.value } / size)
  }
}

/// The lowest and the highest point of each of at most `count / 2` ranges of steps, in order.
///
/// Without more points than `count` the points themselves.
func envelope(_ points: [CurvePoint], _ count: Int) -> [PlacedPoint] {
  guard points.count > count else { return bucketMeans(points, count) }
  return buckets(points, count / 2).flatMap { bucket in
    let low = bucket.indices.min { bucket[$0].value < bucket[$1].value }
    let high = bucket.indices.max { bucket[$0].value < bucket[$1].value }
    return Set([low, high].compactMap(\.self)).sorted().map { index in
      PlacedPoint(step: Double(bucket[index].step), value: bucket[index].value)
    }
  }
}

/// `points` by equally wide ranges of steps, without empty ones.
private func buckets(_ points: [CurvePoint], _ count: Int) -> [ArraySlice<CurvePoint>] {
  guard let first = points.first?.step, let last = points.last?.step else { return [] }
  let width = (Double(last) - Double(first) + 1) / Double(count)
  return points[...].chunked { Int((Double($0.step) - Double(first)) / width) }
}

extension ArraySlice {
  /// The longest runs whose elements have the same key.
  fileprivate func chunked(by key: (Element) -> Int) -> [ArraySlice<Element>] {
    var chunks: [ArraySlice<Element>] = []
    var start = startIndex
    for index in indices where index > start && key(self[index]) != key(self[start]) {
      chunks.append(self[start..<index])
      start = index
    }
    if start < endIndex { chunks.append(self[start..<endIndex]) }
    return chunks
  }
}
