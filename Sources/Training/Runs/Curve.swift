import Charts

/// A drawing of a run: losses against the left axis, accuracies against the right one, over steps.
///
/// A loss with many points is drawn as means over ranges of steps on top of a faint line between its
/// lowest and highest values. Values that are not finite, or beyond 1e30, are left out. The same curve
/// gives the same bytes.
package struct Curve: Hashable, Sendable {
  /// What stands above the drawing.
  package var title: String
  /// Values for the left axis.
  package var losses: [CurveSeries]
  /// Values in `0...1` for the right axis, which shows percent.
  package var accuracies: [CurveSeries]
  /// What the left axis is called.
  package var lossLabel: String
  /// What the right axis is called.
  package var accuracyLabel: String

  /// Describes a drawing.
  package init(
    title: String, losses: [CurveSeries], accuracies: [CurveSeries] = [],
    lossLabel: String = "loss", accuracyLabel: String = "accuracy"
  ) {
    self.title = title
    self.losses = losses
    self.accuracies = accuracies
    self.lossLabel = lossLabel
    self.accuracyLabel = accuracyLabel
  }

  /// The drawing as a document of SVG 1.1.
  package var svg: String {
    var drawing = CurveDrawing(self)
    return drawing.document()
  }
}

/// Draws one curve.
private struct CurveDrawing {
  private static let size = (width: 880.0, height: 500.0)
  private static let plot = (left: 72.0, right: 808.0, top: 84.0, bottom: 440.0)
  private static let lossColors = ["#1f6fb4", "#2a8a5f", "#7a55b5"]
  private static let accuracyColors = ["#d0601a", "#b5306a", "#867413"]
  /// Points of a line of means, and of the faint line under it.
  private static let (meanCount, rawCount) = (150, 850)

  private let curve: Curve
  private let steps: CurveAxis
  /// The first and the last step of the drawing.
  private let range: ClosedRange<Double>
  private let loss: CurveAxis?
  private let accuracy: CurveAxis?
  private var lines: [String] = []

  init(_ curve: Curve) {
    self.curve = curve
    let all = (curve.losses + curve.accuracies).flatMap { $0.drawable.map { Double($0.step) } }
    let (first, last) = (all.min() ?? 0, all.max() ?? 1)
    range = first...max(last, first + 1)
    steps = CurveAxis(range.lowerBound, range.upperBound, about: 8, isIntegral: true)
    // The means decide: a single spike in the faint line may leave the drawing.
    let means = curve.losses.flatMap {
      bucketMeans($0.drawable, Self.meanCount).map(\.value)
    }
    loss = means.min().map { CurveAxis($0, means.max() ?? $0, about: 6) }
    let shares = curve.accuracies.flatMap { $0.drawable.map(\.value) }
    accuracy = shares.min().map { low in
      let high = shares.max() ?? low
      // Accuracies that hardly differ must not look as though they did.
      let room = high - low < 0.02 ? 0.05 : 0
      return CurveAxis(max(min(low, 0), low - room), min(max(high, 1), high + room), about: 6)
    }
  }

  mutating func document() -> String {
    let (width, height) = (Self.size.width, Self.size.height)
    lines = [
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"\(text(width))\""
        + " height=\"\(text(height))\" viewBox=\"0 0 \(text(width)) \(text(height))\" role=\"img\""
        + " font-family=\"Helvetica, Arial, sans-serif\" font-size=\"13\" fill=\"#404040\">",
      "<title>\(curve.title.xmlEscaped)</title>",
      "<defs><clipPath id=\"plot\"><rect x=\"\(text(Self.plot.left))\" y=\"\(text(Self.plot.top))\""
        + " width=\"\(text(Self.plot.right - Self.plot.left))\""
        + " height=\"\(text(Self.plot.bottom - Self.plot.top))\"/></clipPath></defs>",
      "<rect width=\"\(text(width))\" height=\"\(text(height))\" fill=\"#ffffff\"/>",
      "<text x=\"\(text(Self.plot.left))\" y=\"32\" font-size=\"18\" font-weight=\"bold\""
        + " fill=\"#202020\">\(curve.title.xmlEscaped)</text>",
    ]
    drawAxes()
    drawLosses()
    drawAccuracies()
    drawLegend()
    return (lines + ["</svg>", ""]).joined(separator: "\n")
  }

  private mutating func drawAxes() {
    let (left, right, top, bottom) = Self.plot
    lines.append("<g stroke=\"#e4e4e4\" stroke-width=\"1\">")
    for tick in (loss ?? accuracy)?.ticks() ?? [] {
      let y = text(vertical(tick.value, loss ?? accuracy))
      lines.append(line(text(left), y, text(right), y))
    }
    let stepTicks = steps.ticks().filter { range.contains($0.value) }
    for tick in stepTicks {
      let x = text(horizontal(tick.value))
      lines.append(line(x, text(top), x, text(bottom)))
    }
    lines.append("</g>")
    lines.append("<g stroke=\"#808080\" stroke-width=\"1\">")
    lines.append(line(text(left), text(bottom), text(right), text(bottom)))
    lines.append("</g>")
    for tick in stepTicks {
      lines.append(label(horizontal(tick.value), bottom + 20, "middle", tick.label))
    }
    lines.append(label((left + right) / 2, bottom + 44, "middle", "step"))
    if let loss {
      for tick in loss.ticks() {
        lines.append(label(left - 8, vertical(tick.value, loss) + 4.5, "end", tick.label))
      }
      lines.append(turned(20, curve.lossLabel, -90))
    }
    if let accuracy {
      for tick in accuracy.ticks(shift: 2) {
        let y = vertical(tick.value, accuracy)
        let mark = line(text(right), text(y), text(right + 4), text(y))
        lines.append("<g stroke=\"#808080\">\(mark)</g>")
        lines.append(label(right + 8, y + 4.5, "start", tick.label + "\u{202f}%"))
      }
      lines.append(turned(Self.size.width - 16, curve.accuracyLabel, 90))
    }
  }

  private mutating func drawLosses() {
    for (index, series) in curve.losses.enumerated() {
      let points = series.drawable
      let color = Self.color(index, Self.lossColors)
      if points.count > Self.meanCount {
        lines.append(
          path(envelope(points, Self.rawCount), loss, color, "stroke-width=\"1\" opacity=\"0.25\""))
      }
      let means = bucketMeans(points, Self.meanCount)
      lines.append(path(means, loss, color, "stroke-width=\"2\""))
    }
  }

  private mutating func drawAccuracies() {
    for (index, series) in curve.accuracies.enumerated() {
      let color = Self.color(index, Self.accuracyColors)
      let points = bucketMeans(series.drawable, Self.meanCount)
      lines.append(
        path(points, accuracy, color, "stroke-width=\"1.5\" stroke-dasharray=\"5 4\""))
      for point in points {
        lines.append(
          "<circle cx=\"\(text(horizontal(point.step)))\""
            + " cy=\"\(text(vertical(point.value, accuracy)))\" r=\"4\" fill=\"\(color)\""
            + " stroke=\"#ffffff\" stroke-width=\"1.5\"/>")
      }
    }
  }

  private mutating func drawLegend() {
    var x = Self.plot.left
    let losses = curve.losses.enumerated().map { ($1, Self.color($0, Self.lossColors), true) }
    let accuracies = curve.accuracies.enumerated().map {
      ($1, Self.color($0, Self.accuracyColors), false)
    }
    for (series, color, isLoss) in losses + accuracies {
      let dashes = isLoss ? "" : " stroke-dasharray=\"5 4\""
      let stroke = "stroke=\"\(color)\" stroke-width=\"2\"\(dashes)"
      lines.append("<g \(stroke)>\(line(text(x), "56", text(x + 26), "56"))</g>")
      if !isLoss {
        lines.append(
          "<circle cx=\"\(text(x + 13))\" cy=\"56\" r=\"4\" fill=\"\(color)\" stroke=\"#ffffff\""
            + " stroke-width=\"1.5\"/>")
      }
      lines.append(label(x + 33, 60.5, "start", series.name))
      // The document cannot measure its text: 7.5 a letter is wide enough for most.
      x += 33 + 7.5 * Double(series.name.count) + 22
    }
  }

  private static func color(_ index: Int, _ colors: [String]) -> String {
    colors[index % colors.count]
  }

  private func horizontal(_ step: Double) -> Double {
    let part = (step - range.lowerBound) / (range.upperBound - range.lowerBound)
    return Self.plot.left + part * (Self.plot.right - Self.plot.left)
  }

  private func vertical(_ value: Double, _ axis: CurveAxis?) -> Double {
    guard let axis else { return Self.plot.bottom }
    let part = (value - axis.low) / (axis.high - axis.low)
    // Far outside is as good as outside, and fits the number format.
    return Self.plot.bottom - min(max(part, -10), 10) * (Self.plot.bottom - Self.plot.top)
  }

  private func path(
    _ points: [PlacedPoint], _ axis: CurveAxis?, _ color: String, _ style: String
  ) -> String {
    let places = points.map { "\(text(horizontal($0.step))),\(text(vertical($0.value, axis)))" }
    return "<polyline clip-path=\"url(#plot)\" fill=\"none\" stroke=\"\(color)\""
      + " stroke-linejoin=\"round\" \(style) points=\"\(places.joined(separator: " "))\"/>"
  }

  private func line(_ x1: String, _ y1: String, _ x2: String, _ y2: String) -> String {
    "<line x1=\"\(x1)\" y1=\"\(y1)\" x2=\"\(x2)\" y2=\"\(y2)\"/>"
  }

  private func label(_ x: Double, _ y: Double, _ anchor: String, _ words: String) -> String {
    "<text x=\"\(text(x))\" y=\"\(text(y))\" text-anchor=\"\(anchor)\">\(words.xmlEscaped)</text>"
  }

  private func turned(_ x: Double, _ words: String, _ angle: Int) -> String {
    let y = text((Self.plot.top + Self.plot.bottom) / 2)
    return "<text transform=\"translate(\(text(x)) \(y)) rotate(\(angle))\""
      + " text-anchor=\"middle\">\(words.xmlEscaped)</text>"
  }

  /// A coordinate with at most one place.
  private func text(_ number: Double) -> String {
    let tenths = Int((number * 10).rounded())
    let sign = tenths < 0 ? "-" : ""
    let rest = abs(tenths) % 10
    return sign + String(abs(tenths) / 10) + (rest == 0 ? "" : ".\(rest)")
  }
}
