/// A drawing of numbers in rows, each as a tile between pale and dark.
///
/// Tiles of a row may be more or fewer than those of another. Numbers that are not finite are grey.
/// The same map gives the same bytes.
package struct HeatMap: Hashable, Sendable {
  /// A line of tiles.
  package struct Row: Hashable, Sendable {
    /// What stands before the tiles.
    package let name: String
    /// The numbers.
    package let values: [Double]

    /// Names a line of tiles.
    package init(name: String, values: [Double]) {
      self.name = name
      self.values = values
    }
  }

  /// Rows whose numbers are compared with each other: one colour scale.
  package struct Section: Hashable, Sendable {
    /// What stands above the rows.
    package let name: String
    /// The rows.
    package let rows: [Row]

    /// Puts rows under a heading.
    package init(name: String, rows: [Row]) {
      self.name = name
      self.rows = rows
    }
  }

  /// What stands above the drawing.
  package let title: String
  /// Parts with scales of their own, from top to bottom.
  package let sections: [Section]

  /// Describes a drawing.
  package init(title: String, sections: [Section]) {
    self.title = title
    self.sections = sections
  }

  private static let (left, rowHeight, tilesWidth) = (260.0, 20.0, 640.0)

  /// The drawing as a document of SVG 1.1.
  package var svg: String {
    let rowCount = sections.reduce(0) { $0 + $1.rows.count }
    let height = 60 + Double(sections.count) * 52 + Double(rowCount) * Self.rowHeight
    var drawing = SVGDrawing(
      width: Self.left + Self.tilesWidth + 24, height: height, title: title)
    var y = 56.0
    for section in sections {
      let values = section.rows.flatMap(\.values).filter(\.isFinite)
      let (low, high) = (values.min() ?? 0, values.max() ?? 0)
      drawing.label(24, y + 18, "start", section.name)
      drawing.label(
        Self.left + Self.tilesWidth, y + 18, "end",
        "pale \(Self.figure(low)), dark \(Self.figure(high))")
      y += 26
      for row in section.rows {
        drawing.label(Self.left - 10, y + 14, "end", row.name)
        let width = Self.tilesWidth / Double(max(row.values.count, 1))
        let gap = width > 6 ? 1.0 : 0
        for (index, value) in row.values.enumerated() {
          drawing.fill(
            Self.left + Double(index) * width, y, width - gap, Self.rowHeight - 2,
            Self.color(value, low, high),
            note: "\(row.name) \(index): \(Self.figure(value))")
        }
        y += Self.rowHeight
      }
      y += 26
    }
    return drawing.document
  }

  /// A colour from pale to dark.
  private static func color(_ value: Double, _ low: Double, _ high: Double) -> String {
    guard value.isFinite else { return "#b0b0b0" }
    let part = high > low ? (value - low) / (high - low) : 0
    let (pale, dark) = ([242.0, 246, 250], [12.0, 60, 120])
    let parts = zip(pale, dark).map { Int(($0 + ($1 - $0) * part).rounded()) }
    return "#"
      + parts.map { $0 < 16 ? "0" + String($0, radix: 16) : String($0, radix: 16) }.joined()
  }

  /// A number with three significant digits.
  private static func figure(_ value: Double) -> String {
    guard value.isFinite else { return "none" }
    guard value != 0 else { return "0" }
    var (scaled, exponent) = (abs(value), 0)
    while scaled >= 10, exponent < 400 { (scaled, exponent) = (scaled / 10, exponent + 1) }
    while scaled < 1, exponent > -400 { (scaled, exponent) = (scaled * 10, exponent - 1) }
    let digits = Int((scaled * 100).rounded())
    let rest = digits % 100
    let mantissa = "\(digits / 100).\(rest < 10 ? "0" : "")\(rest)"
    return (value < 0 ? "\u{2212}" : "") + mantissa + (exponent == 0 ? "" : "e\(exponent)")
  }
}
