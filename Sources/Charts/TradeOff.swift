/// A drawing of accuracy over size, a line for each way of making models smaller.
///
/// Points that are not finite are left out. The same drawing gives the same bytes.
package struct TradeOff: Hashable, Sendable {
  /// A model.
  package struct Point: Hashable, Sendable {
    /// In what ``TradeOff/sizeLabel`` says.
    package let size: Double
    /// From 0 to 1.
    package let accuracy: Double

    /// Places a model.
    package init(size: Double, accuracy: Double) {
      self.size = size
      self.accuracy = accuracy
    }
  }

  /// Models made in the same way.
  package struct Series: Hashable, Sendable {
    /// The way.
    package let name: String
    /// The models.
    package let points: [Point]

    /// Names a way of making models.
    package init(name: String, points: [Point]) {
      self.name = name
      self.points = points
    }
  }

  /// What stands above the drawing.
  package let title: String
  /// What the horizontal axis is called.
  package let sizeLabel: String
  /// What the vertical axis is called; it shows percent.
  package let accuracyLabel: String
  /// The lines.
  package let series: [Series]
  /// The model they all come from.
  package let origin: Point?

  /// Describes a drawing.
  package init(
    title: String, sizeLabel: String, accuracyLabel: String, series: [Series], origin: Point? = nil
  ) {
    self.title = title
    self.sizeLabel = sizeLabel
    self.accuracyLabel = accuracyLabel
    self.series = series
    self.origin = origin
  }

  private static let colors = [
    "#1f6fb4", "#d0601a", "#2a8a5f", "#7a55b5", "#b5306a", "#867413", "#4a8fa8", "#606060",
  ]
  private static let plot = (left: 72.0, right: 700.0, top: 60.0, bottom: 440.0)

  /// The drawing as a document of SVG 1.1.
  package var svg: String {
    let (left, right, top, bottom) = Self.plot
    var drawing = SVGDrawing(width: 900, height: 500, title: title)
    let all = (series.flatMap(\.points) + (origin.map { [$0] } ?? [])).filter {
      $0.size.isFinite && $0.accuracy.isFinite
    }
    let sizes = Ticks(all.map(\.size), about: 7)
    let shares = Ticks(all.map { $0.accuracy * 100 }, about: 7)
    func place(_ point: Point) -> (x: Double, y: Double) {
      (
        left + (right - left) * sizes.share(point.size),
        bottom - (bottom - top) * shares.share(point.accuracy * 100)
      )
    }
    for tick in sizes.all {
      let x = left + (right - left) * sizes.share(tick.value)
      drawing.line(x, top, x, bottom, "#e4e4e4")
      drawing.label(x, bottom + 20, "middle", tick.label)
    }
    for tick in shares.all {
      let y = bottom - (bottom - top) * shares.share(tick.value)
      drawing.line(left, y, right, y, "#e4e4e4")
      drawing.label(left - 8, y + 4.5, "end", tick.label)
    }
    drawing.line(left, bottom, right, bottom, "#808080")
    drawing.label((left + right) / 2, bottom + 44, "middle", sizeLabel)
    drawing.label(20, (top + bottom) / 2, "middle", accuracyLabel + ", %", turned: -90)
    for (index, line) in series.enumerated() {
      let color = Self.colors[index % Self.colors.count]
      let points = line.points.filter { $0.size.isFinite && $0.accuracy.isFinite }
        .sorted { ($0.size, $0.accuracy) < ($1.size, $1.accuracy) }
      if points.count > 1 { drawing.path(points.map(place), color) }
      for point in points { drawing.dot(place(point).x, place(point).y, color) }
      let y = top + 8 + Double(index) * 22
      drawing.dot(right + 24, y, color)
      drawing.label(right + 36, y + 4.5, "start", line.name)
    }
    if let origin, origin.size.isFinite, origin.accuracy.isFinite {
      drawing.dot(place(origin).x, place(origin).y, "#202020")
      let y = top + 8 + Double(series.count) * 22
      drawing.dot(right + 24, y, "#202020")
      drawing.label(right + 36, y + 4.5, "start", "as it was")
    }
    return drawing.document
  }
}

/// Round numbers along an axis.
private struct Ticks {
  private let unit: Double
  private let range: ClosedRange<Int>

  /// Covers `values` by about `count` steps of 1, 2 or 5 times a power of ten.
  init(_ values: [Double], about count: Int) {
    let (least, most) = (values.min() ?? 0, values.max() ?? 1)
    let room = max(abs(least), abs(most), 1) * 1e-3
    let (low, high) = most - least < room ? (least - room, most + room) : (least, most)
    var unit = 1.0
    let ideal = (high - low) / Double(max(count, 1))
    while unit > ideal, unit > 1e-12 { unit /= 10 }
    while unit * 10 <= ideal { unit *= 10 }
    if unit * 5 <= ideal { unit *= 5 } else if unit * 2 <= ideal { unit *= 2 }
    self.unit = unit
    let first = (low / unit).rounded(.down)
    let last = (high / unit).rounded(.up)
    range = Int(max(first, -1e9))...Int(min(max(last, first + 1), 1e9))
  }

  /// Where `value` lies between both ends, from 0 to 1.
  func share(_ value: Double) -> Double {
    let (low, high) = (Double(range.lowerBound) * unit, Double(range.upperBound) * unit)
    return (value - low) / max(high - low, 1e-12)
  }

  /// The ticks with what stands beside them.
  var all: [(value: Double, label: String)] {
    range.map { (Double($0) * unit, Self.label(Double($0) * unit, unit)) }
  }

  private static func label(_ value: Double, _ unit: Double) -> String {
    var (places, step) = (0, unit)
    while step < 0.999, places < 12 { (places, step) = (places + 1, step * 10) }
    var scale = 1.0
    for _ in 0..<places { scale *= 10 }
    let digits = Int((value * scale).rounded())
    var text = String(abs(digits))
    if places > 0 {
      text = String(repeating: "0", count: max(0, places + 1 - text.count)) + text
      text.insert(".", at: text.index(text.endIndex, offsetBy: -places))
    }
    return (digits < 0 ? "\u{2212}" : "") + text
  }
}
