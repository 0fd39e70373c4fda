import Foundation
import TensorCore
import Testing
import Training

@Suite("Curves") struct CurveTests {
  /// A noisy falling loss of `count` steps.
  private func noisyLoss(_ count: Int, stride: Int = 1) -> [CurvePoint] {
    var random = SplitMix64(seed: 4)
    return (0..<count).map { index in
      let part = Double(index) / Double(count)
      let value = 0.9 + 3 * exp(-4 * part) + 0.25 * random.nextNormal() * (1 - part / 2)
      return CurvePoint(step: index * stride, value: value)
    }
  }

  private func accuracies(_ steps: [Int]) -> [CurvePoint] {
    steps.map { CurvePoint(step: $0, value: 0.63 - 0.5 * exp(-Double($0) / 900)) }
  }

  private var sample: Curve {
    Curve(
      title: "Distillation of a half-width student",
      losses: [
        CurveSeries("training loss", noisyLoss(4_000))
      ],
      accuracies: [
        CurveSeries("zero-shot top 1", accuracies([0, 500, 1_000, 2_000, 3_000, 3_999]))
      ]
    )
  }

  @Test("The document is XML with the title, labels, round ticks and the legend")
  func contents() throws {
    let document = try DrawnDocument(sample.svg)
    for text in [
      "Distillation of a half-width student", "step", "loss", "accuracy", "training loss",
      "zero-shot top 1", "1,000", "3,500", "0.5", "4.0", "10\u{202f}%", "70\u{202f}%",
    ] {
      #expect(document.texts.contains(text), "\(text)")
    }
    #expect(document.elements.filter { $0.name == "circle" }.count == 6 + 1)
    let ground = try #require(document.elements.first { $0.name == "rect" && $0.isWhite })
    #expect(ground.attributes["width"] == document.elements.first?.attributes["width"])
    #expect(ground.attributes["height"] == document.elements.first?.attributes["height"])
  }

  @Test("The same curve gives the same bytes, another one others")
  func determinism() {
    var other = sample
    other.losses[0].points[17].value += 1
    #expect(sample.svg == sample.svg)
    #expect(other.svg != sample.svg)
  }

  @Test("Points stand where the axes say")
  func places() throws {
    let curve = Curve(
      title: "",
      losses: [
        CurveSeries("a", [CurvePoint(step: 0, value: 4), CurvePoint(step: 50, value: 1)])
      ],
      accuracies: [CurveSeries("b", [CurvePoint(step: 100, value: 0.5)])])
    let document = try DrawnDocument(curve.svg)
    let points = try #require(document.lines.first)
    let (zero, four) = (try document.height(of: "1.0"), try document.height(of: "4.0"))
    #expect(points.count == 2)
    #expect(abs(points[0].y - four) < 0.2 && abs(points[1].y - zero) < 0.2)
    let left = try document.place(of: "0")
    let right = try document.place(of: "100")
    #expect(abs(points[0].x - left) < 0.2)
    #expect(abs(points[1].x - (left + right) / 2) < 0.2)
    let circle = try #require(document.elements.first { $0.name == "circle" })
    #expect(abs(try #require(circle.number("cx")) - right) < 0.2)
    let half = try document.height(of: "50\u{202f}%")
    #expect(abs(try #require(circle.number("cy")) - half) < 0.2)
  }

  @Test("Long runs are drawn with a thousand points whose means keep the mean", arguments: [1, 7])
  func thinning(_ stride: Int) throws {
    let points = noisyLoss(60_000, stride: stride)
    let curve = Curve(title: "long", losses: [CurveSeries("loss", points)])
    let document = try DrawnDocument(curve.svg)
    #expect(document.lines.reduce(0) { $0 + $1.count } <= 1_000)
    #expect(document.lines.count == 2)
    let means = try #require(document.lines.last)
    let low = try document.height(of: "1.0")
    let unit = try low - document.height(of: "2.0")
    let drawn = means.reduce(0) { $0 + 1 + (low - $1.y) / unit } / Double(means.count)
    let mean = points.reduce(0) { $0 + $1.value } / Double(points.count)
    #expect(abs(drawn - mean) < 2e-3)
    let raw = try #require(document.lines.first).map { 1 + (low - $0.y) / unit }
    #expect(abs(try #require(raw.min()) - (points.map(\.value).min() ?? 0)) < 2e-3)
    #expect(abs(try #require(raw.max()) - (points.map(\.value).max() ?? 0)) < 2e-3)
    #expect(zip(means, means.dropFirst()).allSatisfy { $0.x < $1.x })
  }

  @Test("A short run is drawn point by point, once")
  func shortRun() throws {
    let curve = Curve(title: "short", losses: [CurveSeries("loss", noisyLoss(150))])
    let document = try DrawnDocument(curve.svg)
    #expect(document.lines.map(\.count) == [150])
  }

  @Test("Words are escaped")
  func escaping() throws {
    let words = "a < b & \"c\" > \u{1}\u{e9}"
    let curve = Curve(title: words, losses: [CurveSeries(words, noisyLoss(3))])
    let document = try DrawnDocument(curve.svg)
    let shown = words.replacing("\u{1}", with: "\u{fffd}")
    #expect(document.texts.filter { $0 == shown }.count == 3)
  }

  @Test("Curves without points, with one, equal and with useless ones can be drawn")
  func oddities() throws {
    let one = [CurvePoint(step: 5, value: 1)]
    let flat = (0..<20).map { CurvePoint(step: $0, value: 0) }
    let useless = [Double.nan, .infinity, -.infinity, 1e300].map { CurvePoint(step: 3, value: $0) }
    let huge = [CurvePoint(step: 0, value: -1e29), CurvePoint(step: .max, value: 1e29)]
    let tiny = [CurvePoint(step: 0, value: 3e-9), CurvePoint(step: 1, value: 4e-9)]
    for points in [[], one, flat, useless, huge, tiny] {
      for share in [[], one] {
        let curve = Curve(
          title: "odd", losses: [CurveSeries("loss", points)],
          accuracies: [CurveSeries("accuracy", share)])
        let document = try DrawnDocument(curve.svg)
        let drawable = points.filter { abs($0.value) < 1e30 }.count
        #expect(document.lines.first?.count == drawable)
        #expect(!document.texts.contains { $0.contains("nan") || $0.contains("inf") })
      }
    }
    let full = Curve(title: "", losses: [], accuracies: [CurveSeries("top 1", one)])
    #expect(!full.svg.contains("101"))
    #expect(try DrawnDocument(full.svg).texts.contains("100\u{202f}%"))
  }
}
