import Charts
import Testing

@Suite struct HeatMapTests {
  @Test func extremesHaveTheExtremeColours() {
    let map = HeatMap(
      title: "a < b & c",
      sections: [
        .init(
          name: "heads",
          rows: [
            .init(name: "one", values: [0, 5]), .init(name: "two", values: [10, .nan, -0.0]),
          ])
      ])
    let svg = map.svg
    #expect(svg.contains("a &lt; b &amp; c"))
    #expect(svg.components("fill=\"#f2f6fa\"") == 2, "the least twice")
    #expect(svg.components("fill=\"#0c3c78\"") == 1, "the most once")
    #expect(svg.components("fill=\"#b0b0b0\"") == 1, "what is no number")
    #expect(svg.contains("pale 0, dark 1.00e1"))
    #expect(svg == map.svg)
  }

  @Test func whatXMLCannotHaveIsReplaced() {
    let words = "\"a\"\t>\n\u{1}\u{ffff}\u{e9}"
    #expect(words.xmlEscaped == "&quot;a&quot; &gt; \u{fffd}\u{fffd}\u{e9}")
  }

  @Test func nothingToShowIsStillADrawing() {
    let svg = HeatMap(title: "", sections: [.init(name: "", rows: [])]).svg
    #expect(svg.hasPrefix("<svg") && svg.hasSuffix("</svg>\n"))
  }
}

@Suite struct TradeOffTests {
  @Test func betterLiesHigherAndLargerLiesFurtherRight() throws {
    let plot = TradeOff(
      title: "t", sizeLabel: "bytes", accuracyLabel: "top-1",
      series: [
        .init(
          name: "one",
          points: [
            .init(size: 1, accuracy: 0.5), .init(size: 2, accuracy: 0.7),
            .init(size: .nan, accuracy: 0.1),
          ])
      ], origin: .init(size: 4, accuracy: 0.9))
    let svg = plot.svg
    let line = try #require(svg.split(separator: "\n").first { $0.hasPrefix("<polyline") })
    let points = try #require(line.split(separator: "\"").last { $0.contains(",") })
      .split(separator: " ").map { $0.split(separator: ",").compactMap { Double($0) } }
    try #require(points.count == 2 && points.allSatisfy { $0.count == 2 })
    #expect(points[0][0] < points[1][0] && points[0][1] > points[1][1])
    #expect(svg.contains(">as it was<") && !svg.contains("nan"))
  }

  @Test(arguments: [[], [(1.0, 0.5)], [(1e12, 0.5), (1e12, 0.5)], [(1e-9, 0), (1e9, 1)]])
  func anyRangeIsDrawn(_ points: [(Double, Double)]) {
    let plot = TradeOff(
      title: "t", sizeLabel: "s", accuracyLabel: "a",
      series: [.init(name: "x", points: points.map { .init(size: $0.0, accuracy: $0.1) })])
    let svg = plot.svg
    #expect(svg.utf8.count < 20_000 && svg.hasSuffix("</svg>\n"))
  }
}

extension String {
  /// How often `part` occurs.
  fileprivate func components(_ part: String) -> Int {
    var count = 0
    var rest = self[...]
    while let range = rest.firstRange(of: part) {
      count += 1
      rest = rest[range.upperBound...]
    }
    return count
  }
}
