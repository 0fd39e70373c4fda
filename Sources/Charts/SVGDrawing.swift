/// A document of SVG 1.1 that grows element by element; the same calls give the same bytes.
struct SVGDrawing {
  private let width: Double
  private let height: Double
  private var lines: [String] = []

  /// Begins an empty document, extents in pixels, whose title is also a heading at the top.
  init(width: Double, height: Double, title: String) {
    self.width = width
    self.height = height
    lines = ["<title>\(title.xmlEscaped)</title>"]
    fill(0, 0, width, height, "#ffffff")
    lines.append(
      "<text x=\"24\" y=\"32\" font-size=\"18\" font-weight=\"bold\" fill=\"#202020\">"
        + "\(title.xmlEscaped)</text>")
  }

  /// The whole document.
  var document: String {
    let (width, height) = (Self.text(width), Self.text(height))
    let head =
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"\(width)\" height=\"\(height)\""
      + " viewBox=\"0 0 \(width) \(height)\" role=\"img\""
      + " font-family=\"Helvetica, Arial, sans-serif\" font-size=\"13\" fill=\"#404040\">"
    return ([head] + lines + ["</svg>", ""]).joined(separator: "\n")
  }

  /// A straight line.
  mutating func line(
    _ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, _ color: String, width: Double = 1
  ) {
    lines.append(
      "<line x1=\"\(Self.text(x1))\" y1=\"\(Self.text(y1))\" x2=\"\(Self.text(x2))\""
        + " y2=\"\(Self.text(y2))\" stroke=\"\(color)\" stroke-width=\"\(Self.text(width))\"/>")
  }

  /// A line through `points`.
  mutating func path(_ points: [(x: Double, y: Double)], _ color: String) {
    let places = points.map { "\(Self.text($0.x)),\(Self.text($0.y))" }
    lines.append(
      "<polyline fill=\"none\" stroke=\"\(color)\" stroke-width=\"2\" stroke-linejoin=\"round\""
        + " points=\"\(places.joined(separator: " "))\"/>")
  }

  /// A dot.
  mutating func dot(_ x: Double, _ y: Double, _ color: String) {
    lines.append(
      "<circle cx=\"\(Self.text(x))\" cy=\"\(Self.text(y))\" r=\"4\" fill=\"\(color)\""
        + " stroke=\"#ffffff\" stroke-width=\"1.5\"/>")
  }

  /// A filled rectangle; `note` is shown where a pointer rests on it.
  mutating func fill(
    _ x: Double, _ y: Double, _ width: Double, _ height: Double, _ color: String,
    note: String? = nil
  ) {
    let start =
      "<rect x=\"\(Self.text(x))\" y=\"\(Self.text(y))\" width=\"\(Self.text(width))\""
      + " height=\"\(Self.text(height))\" fill=\"\(color)\""
    lines.append(note.map { "\(start)><title>\($0.xmlEscaped)</title></rect>" } ?? start + "/>")
  }

  /// Words at a place; `anchor` is `start`, `middle` or `end`.
  mutating func label(
    _ x: Double, _ y: Double, _ anchor: String, _ words: String, turned angle: Int = 0
  ) {
    let place =
      angle == 0
      ? "x=\"\(Self.text(x))\" y=\"\(Self.text(y))\""
      : "transform=\"translate(\(Self.text(x)) \(Self.text(y))) rotate(\(angle))\""
    lines.append("<text \(place) text-anchor=\"\(anchor)\">\(words.xmlEscaped)</text>")
  }

  /// A coordinate with at most one decimal.
  private static func text(_ number: Double) -> String {
    let tenths = Int((min(max(number, -1e6), 1e6) * 10).rounded())
    let rest = abs(tenths) % 10
    return (tenths < 0 ? "-" : "") + String(abs(tenths) / 10) + (rest == 0 ? "" : ".\(rest)")
  }
}
