import Foundation
import Testing

/// An element of a drawing and the text in it before its first child.
struct DrawnElement {
  let name: String
  let attributes: [String: String]
  var text = ""

  func number(_ key: String) -> Double? { attributes[key].flatMap { Double($0) } }
  var isWhite: Bool { attributes["fill"] == "#ffffff" }
}

/// A drawing taken apart by a strict reader of the part of XML that drawings use.
struct DrawnDocument {
  private(set) var elements: [DrawnElement] = []

  /// Reads `svg`; a document that is not well-formed fails the test.
  init(_ svg: String) throws {
    let tag = /(\/?)([A-Za-z]+)((?: [A-Za-z0-9-]+="[^"<]*")*)(\/?)>([^<>]*)/
    var open: [String] = []
    for piece in svg.split(separator: "<") {
      let match = try #require(piece.wholeMatch(of: tag), "\(piece)")
      let name = String(match.output.2)
      let text = try Self.unescaped(match.output.5)
      #expect(open.isEmpty ? elements.isEmpty : true, "two roots")
      if !match.output.1.isEmpty {
        try #require(open.popLast() == name, "\(piece)")
        continue
      }
      var attributes: [String: String] = [:]
      for pair in match.output.3.matches(of: /([A-Za-z0-9-]+)="([^"]*)"/) {
        let value = try Self.unescaped(pair.output.2)
        try #require(attributes.updateValue(value, forKey: String(pair.output.1)) == nil)
      }
      elements.append(DrawnElement(name: name, attributes: attributes, text: text))
      if match.output.4.isEmpty { open.append(name) }
    }
    try #require(open.isEmpty)
  }

  private static func unescaped(_ words: Substring) throws -> String {
    try #require(!words.unicodeScalars.contains { $0.value < 0x20 && $0 != "\n" })
    let entities = ["amp;": "&", "lt;": "<", "gt;": ">", "quot;": "\""]
    let pieces = words.split(separator: "&", omittingEmptySubsequences: false)
    return try pieces.dropFirst().reduce(String(pieces[0])) { result, piece in
      let entity = try #require(entities.keys.first { piece.hasPrefix($0) }, "\(piece)")
      return result + (entities[entity] ?? "") + piece.dropFirst(entity.count)
    }
  }

  /// The texts that are shown, and the title.
  var texts: [String] {
    elements.filter { $0.name == "text" || $0.name == "title" }.map(\.text)
  }

  /// The points of the drawn lines.
  var lines: [[(x: Double, y: Double)]] {
    elements.compactMap { $0.attributes["points"] }.map { points in
      points.split(separator: " ").compactMap { point in
        let numbers = point.split(separator: ",").compactMap { Double($0) }
        return numbers.count == 2 ? (numbers[0], numbers[1]) : nil
      }
    }
  }

  /// Where a tick of a vertical axis stands: its label's base line is 4.5 lower.
  func height(of label: String) throws -> Double {
    let element = try #require(elements.first { $0.name == "text" && $0.text == label })
    return try #require(element.number("y")) - 4.5
  }

  /// Where a tick of the horizontal axis stands.
  func place(of label: String) throws -> Double {
    let element = try #require(
      elements.first { $0.attributes["text-anchor"] == "middle" && $0.text == label })
    return try #require(element.number("x"))
  }
}
