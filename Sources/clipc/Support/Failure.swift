import ArgumentParser
import Glibc

/// Why a command ends without doing its work: one sentence and an exit code.
struct Failure: Error, CustomStringConvertible {
  /// The exit codes that scripts rely on.
  enum Kind: Int32 {
    case checkFailed = 1
    case usage = 64
    case malformedInput = 65
    case missingInput = 66
    case fault = 70
    case output = 73
    /// As shells report a process that Ctrl-C ended.
    case interrupted = 130
  }

  let kind: Kind
  let description: String

  init(_ kind: Kind, _ description: String) {
    self.kind = kind
    self.description = description
  }
}

/// One line of text in which control characters, such as a name in a file may hold, are visible.
func printable(_ text: String) -> String {
  var result = ""
  for scalar in text.unicodeScalars {
    let value = scalar.value
    let isVisible = (0x20..<0x7F).contains(value) || (value >= 0xA0 && !isDirection(value))
    if isVisible {
      result.unicodeScalars.append(scalar)
    } else {
      result += "\\u{\(String(value, radix: 16))}"
    }
  }
  return result
}

/// Whether a code point breaks lines or changes the direction of what follows.
private func isDirection(_ value: UInt32) -> Bool {
  (0x2028...0x202E).contains(value) || (0x2066...0x2069).contains(value)
}
