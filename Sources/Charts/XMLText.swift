extension String {
  /// The string as character data or a quoted attribute of XML 1.0.
  ///
  /// Tabs and line ends become blanks; other characters that XML cannot have become U+FFFD.
  package var xmlEscaped: String {
    var result = ""
    for scalar in unicodeScalars {
      switch scalar {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "\"": result += "&quot;"
      case "\t", "\n": result += " "
      case "\u{fffe}", "\u{ffff}": result += "\u{fffd}"
      case _ where scalar.value < 0x20: result += "\u{fffd}"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}
