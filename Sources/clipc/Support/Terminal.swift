import Foundation

/// What a command says beside its result: warnings and progress, on standard error.
enum Terminal {
  /// Whether standard error is a terminal, where progress can be drawn over itself.
  static let isInteractive = isatty(2) == 1

  /// Writes a line to standard error.
  static func say(_ line: String) {
    FileHandle.standardError.write(Data((printable(line) + "\n").utf8))
  }

  /// Writes a warning to standard error.
  static func warn(_ text: String) { say("clipc: warning: \(text)") }

  /// Writes a line to standard output.
  static func print(_ line: String) {
    FileHandle.standardOutput.write(Data((line + "\n").utf8))
  }
}

/// A bar with rate and time left, drawn only on a terminal.
final class Progress {
  private let stage: String
  private let total: Int?
  private let unit: String
  private var first: Int?
  private let start = ContinuousClock.now
  private var lastDrawn: ContinuousClock.Instant?

  /// Starts a bar for `total` items, or a counter where the total is unknown.
  init(_ stage: String, total: Int?, unit: String = "") {
    self.stage = stage
    self.total = total
    self.unit = unit.isEmpty ? "" : " \(unit)"
  }

  /// Draws that `done` items are done, and a note, at most ten times a second.
  func update(_ done: Int, note: String? = nil) {
    guard Terminal.isInteractive else { return }
    // What a resumed run had done before says nothing of the rate.
    let first = first ?? max(done - 1, 0)
    self.first = first
    let now = ContinuousClock.now
    if let lastDrawn, now - lastDrawn < .milliseconds(100), done != total { return }
    lastDrawn = now
    let seconds = max(1e-9, (now - start) / .seconds(1))
    let rate = Double(done - first) / seconds
    var line = "\r\u{1B}[K\(stage) "
    if let total, total > 0 {
      let filled = min(24, 24 * done / total)
      line += "[" + String(repeating: "#", count: filled)
      line += String(repeating: ".", count: 24 - filled) + "] \(done)/\(total)"
      let left = rate > 0 ? Int((Double(total - done) / rate).rounded(.up)) : 0
      line += String(format: "  %.1f%@/s  %d:%02d left", rate, unit, left / 60, left % 60)
    } else {
      line += String(format: "%d  %.1f%@/s", done, rate, unit)
    }
    if let note { line += "  \(note)" }
    FileHandle.standardError.write(Data(line.utf8))
  }

  /// Takes the bar away.
  func finish() {
    guard Terminal.isInteractive, lastDrawn != nil else { return }
    FileHandle.standardError.write(Data("\r\u{1B}[K".utf8))
  }
}

/// Lines of cells in columns as wide as their widest cell.
func table(_ rows: [[String]]) -> String {
  var widths: [Int] = []
  for row in rows {
    for (column, cell) in row.enumerated() {
      if column == widths.count { widths.append(0) }
      widths[column] = max(widths[column], cell.count)
    }
  }
  return rows.map { row in
    row.enumerated().map { column, cell in
      column == row.count - 1
        ? cell : cell + String(repeating: " ", count: widths[column] - cell.count)
    }.joined(separator: "  ")
  }.joined(separator: "\n")
}
